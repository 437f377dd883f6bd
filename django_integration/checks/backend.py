"""
System checks of the cache backend.

    invalidator.W020  a second level uses the Redis database of the bus: its `clear` deletes the journal
    invalidator.W021  sessions live in a near cache without a second level: other servers do not have them
    invalidator.W022  two aliases with different LOCATION make equal keys: a write to one empties the other
    invalidator.E023  a second level is itself a near cache
    invalidator.E024  an alias has an option that is not known, or that cannot work
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core.cache.backends.base import default_key_func
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - as Django calls it
from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..backend.aliases import l2_alias, near_cache_aliases
from ..backend.options import check_options
from .asked import Apps, of_project


@of_project
def check_l2_database(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W020: a second level has a database of its own."""
    bus = _database(conf.given().get("URL"))
    return [
        Warning(
            f"CACHES[{l2_alias(params)!r}] uses the Redis database of INVALIDATOR['URL']: its clear() is FLUSHDB "
            "and deletes the journal of the bus, too. That is correct, and flushes every server.",
            hint="Give it another database number, such as the /1 of redis://localhost:6379/1.",
            id="invalidator.W020",
        )
        for params in near_cache_aliases().values()
        if bus is not None and any(_database(place) == bus for place in _locations(l2_alias(params)))
    ]


@of_project
def check_sessions(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W021: sessions are found on every server."""
    params = near_cache_aliases().get(settings.SESSION_CACHE_ALIAS)
    if params is None or l2_alias(params) or settings.SESSION_ENGINE != "django.contrib.sessions.backends.cache":
        return []
    return [
        Warning(
            f"Sessions live in CACHES[{settings.SESSION_CACHE_ALIAS!r}] alone, whose values stay in one process: a "
            "visitor who comes to another one is logged out.",
            hint='Use "django.contrib.sessions.backends.cached_db", or give that cache OPTIONS={"L2": "<alias>"}.',
            id="invalidator.W021",
        )
    ]


@of_project
def check_equal_keys(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W022: a key is one name in the namespace, whatever its LOCATION."""
    return [
        Warning(
            f"CACHES[{one!r}] and CACHES[{other!r}] have different LOCATIONs and make equal keys: what is written to "
            "a key of one leaves the other.",
            hint="Give one of them a KEY_PREFIX.",
            id="invalidator.W022",
        )
        for (one, a), (other, b) in combinations(near_cache_aliases().items(), 2)
        if a.get("LOCATION", "") != b.get("LOCATION", "") and _key_making(a) == _key_making(b)
    ]


@of_project
def check_l2_is_no_near_cache(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """E023: values live somewhere."""
    ours = near_cache_aliases()
    return [
        Error(
            f"CACHES[{alias!r}] has OPTIONS['L2'] = {l2_alias(params)!r}, which is a near cache itself.",
            hint="Name the alias of a cache that all servers share, such as Django's RedisCache.",
            id="invalidator.E023",
        )
        for alias, params in ours.items()
        if l2_alias(params) in ours
    ]


@of_project
def check_the_options(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """E024: what the backend would refuse at its first use."""
    return [
        Error(
            f"CACHES[{alias!r}]: {refusal}",
            hint="docs/django/cache-backend.md lists the OPTIONS, and which go together.",
            id="invalidator.E024",
        )
        for alias, params in near_cache_aliases().items()
        if (refusal := _refusal(params.get("OPTIONS", {})))
    ]


def _refusal(options: Mapping[str, Any]) -> str | None:
    try:
        check_options(options)
    except ImproperlyConfigured as refusal:
        return str(refusal)
    return None


ALL = (check_l2_database, check_sessions, check_equal_keys, check_l2_is_no_near_cache, check_the_options)


def _locations(alias: str | None) -> list[str]:
    location = settings.CACHES.get(alias or "", {}).get("LOCATION", "")
    return location.replace(";", ",").split(",") if isinstance(location, str) else list(location)


def _database(url: object) -> tuple[str, int, str] | None:
    """Host, port and database of a Redis URL, or the path and database of a socket; None for anything else."""
    if not isinstance(url, str) or not url.startswith(("redis://", "rediss://", "unix://")):
        return None
    parts = urlsplit(url)
    numbers = parse_qs(parts.query).get("db", [])
    if parts.scheme == "unix":
        return parts.path, 0, numbers[0] if numbers else "0"
    return parts.hostname or "localhost", parts.port or 6379, numbers[0] if numbers else parts.path.strip("/") or "0"


def _key_making(params: Mapping[str, Any]) -> tuple[Any, ...]:
    return params.get("KEY_PREFIX", ""), params.get("VERSION", 1), params.get("KEY_FUNCTION") or default_key_func
