"""
System checks of the project around this app.

    invalidator.W030  an alias in CACHES is LocMemCache: no write reaches the other processes
    invalidator.W031  a second level is a cache that lives in one process, or nowhere
    invalidator.W032  hiredis leaks
    invalidator.W033  Redis is not reached, or does not do what is needed (only with --deploy)
    invalidator.W034  the bus ends at this process, or at this host (only with --deploy)
    invalidator.W035  models are watched that others write, or that are views
    invalidator.W036  two models have one table: a write through one is not seen as one of the other
    invalidator.W037  models are read from other databases than they are written to, and REPLICA_LAG is 0
    invalidator.W038  receivers of `invalidated` or `flushed` are connected, and a sidecar listens

Rule 1: what cannot be known without looking at another machine is looked at with --deploy only.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from django.conf import settings
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import CheckMessage, Warning  # noqa: A004 - as Django calls it
from django.db import router
from django.db.models import Model

from invalidator import Invalidator, InvalidatorError
from invalidator.extending import LEAST_HIREDIS, version_numbers

from .. import conf, signals
from ..backend.aliases import is_backend, l2_alias, near_cache_aliases
from .asked import Apps, of_project, watched_models

REACH_TIMEOUT_S = 5.0
"""How long the first proof of a connection may take."""
MOST_NAMED = 5
"""Models in one message."""


@of_project
def check_local_memory(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W030: a cache that is written in one process is right in the others."""
    if not settings.is_overridden("CACHES") or _is_alone():  # type: ignore[misc]
        return []  # Django's own default: nobody may be using it
    below = set(map(l2_alias, near_cache_aliases().values()))
    return [
        Warning(
            f"CACHES[{alias!r}] is LocMemCache: each process has its own, and keeps old values when another writes.",
            hint='Use "django_integration.backend.NearCacheBackend", or silence this where old values do no harm.',
            id="invalidator.W030",
        )
        for alias, params in settings.CACHES.items()
        if is_backend(params, LocMemCache) and alias not in below
    ]


@of_project
def check_l2_is_shared(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W031: a second level is shared by all servers."""
    found = ((alias, l2_alias(params)) for alias, params in near_cache_aliases().items())
    return [
        Warning(
            f"CACHES[{alias!r}] has OPTIONS['L2'] = {below!r}, whose values no other process sees.",
            hint="Name a cache that all servers share, such as Django's RedisCache, or leave L2 out.",
            id="invalidator.W031",
        )
        for alias, below in found
        if below in settings.CACHES
        and any(is_backend(settings.CACHES[below], kind) for kind in (LocMemCache, DummyCache))
        and not _is_alone()
    ]


@of_project
def check_hiredis(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W032: the parser of Redis' replies does not leak."""
    with contextlib.suppress(PackageNotFoundError):
        installed = version("hiredis")
        if version_numbers(installed) >= version_numbers(LEAST_HIREDIS):
            return []
        return [
            Warning(
                f"hiredis {installed} leaks memory with every message that is received.",
                hint=f"pip install --upgrade 'hiredis>={LEAST_HIREDIS}'",
                id="invalidator.W032",
            )
        ]
    return []  # then Python parses


@of_project
def check_redis(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W033: what this project publishes through Redis is received."""
    if conf.problems() or _is_for_development() or (error := _why_unheard()) is None:
        return []
    return [
        Warning(
            f"Nothing is received through INVALIDATOR['URL'] from here: {error}",
            hint="Start it or mend the URL; `manage.py invalidator doctor` finds what is wrong, and names the repair.",
            id="invalidator.W033",
        )
    ]


@of_project
def check_reach(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W034: the bus reaches other servers."""
    if not _is_for_development():
        return []
    return [
        Warning(
            f"INVALIDATOR['URL'] is {conf.given()['URL']!r}: no write reaches another server.",
            hint='Name a Redis, such as "redis://localhost:6379/0".',
            id="invalidator.W034",
        )
    ]


def check_unmanaged(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W035: tables that others write."""
    models = watched_models(app_configs)
    twins = {model for twins in _twins(models) for model in twins}
    models = [model for model in models if not model._meta.managed and model not in twins]
    if not models:
        return []
    return [
        Warning(
            f"Not managed by Django, but watched: {_names(models)}. What a view shows changes when its tables do, and "
            "what others write is not seen.",
            hint="Entries over a view carry the tags of its tables; after a write of others, call invalidate(Model). "
            "Where only this project writes the table, silence this.",
            id="invalidator.W035",
        )
    ]


def check_twins(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W036: a table is one model's."""
    return [
        Warning(
            f"{_names(models)} have one table, {models[0]._meta.db_table}: a write through one is not seen as one "
            "of the other.",
            hint="Make one a proxy of the other, or let an @invalidates function of each name the other.",
            id="invalidator.W036",
        )
        for models in _twins(watched_models(app_configs))
    ]


def check_replicas(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W037: what is loaded from a replica is new enough."""
    if conf.problems() or conf.conf.replica_lag or not settings.DATABASE_ROUTERS:
        return []
    models = watched_models(app_configs)
    models = [model for model in models if router.db_for_read(model) != router.db_for_write(model)]
    if not models:
        return []
    return [
        Warning(
            f"Read from another database than they are written to: {_names(models)}. A replica that is behind fills "
            "caches with old rows.",
            hint="Set INVALIDATOR['REPLICA_LAG'] to the seconds that it may be behind.",
            id="invalidator.W037",
        )
    ]


@of_project
def check_receivers(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W038: receivers of our signals are called."""
    if conf.problems() or conf.conf.sidecar is None or not signals.is_wanted():
        return []
    return [
        Warning(
            "Receivers of `invalidated` or `flushed` are connected, but the worker of a sidecar receives no messages.",
            hint="Connect them only in a process with INVALIDATOR['SIDECAR'] = None.",
            id="invalidator.W038",
        )
    ]


ALL = (
    check_local_memory,
    check_l2_is_shared,
    check_hiredis,
    check_unmanaged,
    check_twins,
    check_replicas,
    check_receivers,
)
DEPLOY = (check_redis, check_reach)


def _is_alone() -> bool:
    url = conf.given().get("URL")
    return isinstance(url, str) and url.startswith("memory:")


def _is_for_development() -> bool:
    url = conf.given().get("URL")
    return _is_alone() or (isinstance(url, str) and url.startswith("embedded:"))


def _why_unheard() -> str | None:
    """Listen for a moment. Returns what went wrong, None if nothing did."""
    given = conf.conf
    try:
        with Invalidator(
            given.url,
            namespace=given.namespace,
            max_staleness=given.max_staleness,
            publish_timeout=given.publish_timeout,
            close_timeout=0,
            slots=64,
        ) as bus:
            end = time.monotonic() + REACH_TIMEOUT_S
            while not bus.wait_until_leased(0.1):
                error = bus.status().last_error
                if error or time.monotonic() > end:
                    return error or f"no proof within {REACH_TIMEOUT_S:g} s"
    except InvalidatorError as error:
        return str(error)
    return None


def _twins(asked: Collection[type[Model]]) -> list[list[type[Model]]]:
    """Models that share a table, one of which is among *asked*."""
    by_table: dict[tuple[str | None, str], dict[type[Model], None]] = defaultdict(dict)
    for model in (*watched_models(None), *asked):
        by_table[router.db_for_write(model), model._meta.db_table.lower()][model] = None
    return [list(models) for models in by_table.values() if len(models) > 1 and not models.keys().isdisjoint(asked)]


def _names(models: Iterable[type[Model]]) -> str:
    labels = sorted(model._meta.label for model in models)
    more = len(labels) - MOST_NAMED
    return ", ".join(labels[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
