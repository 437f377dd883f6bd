"""A hit through Django's cache API: our backend against those that come with Django."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import django
from django.conf import settings
from django.core.cache import caches

from django_integration import bus, runtime
from django_integration.backend import settling

from .figures import Figure, Target
from .run import Run
from .timing import interleaved_ns, quickest_ns

KEYS = 500
MANY = 50
TTL_S = 300

OURS = "django_integration.backend.NearCacheBackend"
EACH_KEY = "for key in keys: get(key)"

FIELDS = {f"field{number}": f"value {number}" for number in range(10)}
"""An object of ten fields, as a serializer returns it."""


@dataclass
class Record:
    """An object of one's own, of which each reader gets what OPTIONS["COPY"] says."""

    name: str = "a lamp"
    fields: dict[str, str] = field(default_factory=lambda: dict(FIELDS))


def measure(run: Run) -> list[Figure]:
    """Shortest of many batches for what takes nanoseconds, median for Redis."""
    caches, is_leased = start_django(run)
    keys = {kind: [f"{kind}:{number}" for number in range(KEYS)] for kind in ("text", "dict", "record")}
    for cache in caches.values():
        for kind, value in (("text", "a lamp"), ("dict", FIELDS), ("record", Record())):
            cache.get_many(keys[kind])  # so that what follows is a fill, which publishes nothing
            cache.set_many(dict.fromkeys(keys[kind], value), TTL_S)
            cache.get_many(keys[kind])  # near copies, where another cache has filled the second level
    is_leased()
    ns = _near_ns(run, caches, keys)
    redis = _redis_ns(run, caches["redis"], keys)
    is_leased()

    settling.settle()
    if any(len(caches["alone"].get_many(names)) < KEYS for names in keys.values()):
        raise RuntimeError("not all reads were hits")
    stop_django()

    def times(what: str, peer: float, issue_limit: float) -> Figure:
        return Figure(what, peer, "×", target=Target(6, "≥", issue_limit))

    return [
        times("text: LocMemCache ÷ ours", ns["text of locmem"] / ns["text of alone"], 5),
        times("dict of ten fields: LocMemCache ÷ ours", ns["dict of locmem"] / ns["dict of alone"], 2),
        times("text: RedisCache on loopback ÷ ours", redis["text"] / ns["text of alone"], 50),
        times("dict of ten fields: RedisCache on loopback ÷ ours", redis["dict"] / ns["dict of alone"], 50),
        times("get_many of 50 dicts: RedisCache ÷ ours", redis["many"] / ns["many of alone"], 20),
        Figure("ours: get, text", ns["text of alone"], "ns"),
        Figure("ours: get, dict of ten fields, copied", ns["dict of alone"], "ns"),
        Figure("ours over RedisCache: get, text", ns["text of over"], "ns"),
        Figure("ours: get_many of 50 dicts", ns["many of alone"], "ns"),
        Figure("ours: get, object, cloned", ns["record of alone"], "ns"),
        Figure('ours: get, object, COPY="pickle"', ns["record of pickle"], "ns"),
        Figure('ours: get, object, COPY="none"', ns["record of none"], "ns"),
        Figure("LocMemCache: get, text", ns["text of locmem"], "ns"),
        Figure("LocMemCache: get, dict of ten fields", ns["dict of locmem"], "ns"),
        Figure("LocMemCache: get, object", ns["record of locmem"], "ns"),
        Figure("LocMemCache: get_many of 50 dicts", ns["many of locmem"], "ns"),
        Figure("RedisCache on loopback: get, text (median)", redis["text"], "ns"),
        Figure("RedisCache on loopback: get_many of 50 dicts (median)", redis["many"], "ns"),
    ]


def start_django(run: Run) -> tuple[Mapping[str, Any], Any]:
    """Set Django up; returns the caches by name, and what raises if there is no lease."""
    l2 = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"{run.url.rpartition('/')[0]}/1"}
    table: dict[str, Any] = {
        # A key is one name in the namespace: prefixes keep the competitors apart.
        "default": {"BACKEND": OURS, "LOCATION": "alone"},
        "pickle": {"BACKEND": OURS, "LOCATION": "pickle", "KEY_PREFIX": "pickle", "OPTIONS": {"COPY": "pickle"}},
        "none": {"BACKEND": OURS, "LOCATION": "none", "KEY_PREFIX": "none", "OPTIONS": {"COPY": "none"}},
        "over": {
            "BACKEND": OURS,
            "LOCATION": "over",
            "KEY_PREFIX": "over",
            "OPTIONS": {"L2": "redis", "NEAR_TIMEOUT": TTL_S},
        },
        "locmem": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "OPTIONS": {"MAX_ENTRIES": 50_000},
        },
        "redis": l2,
    }
    if not settings.configured:  # once for all benchmarks of the process
        settings.configure(
            INSTALLED_APPS=["django_integration"],
            INVALIDATOR={"URL": run.url, "NAMESPACE": run.namespace(), "MAX_STALENESS": 30.0},
            CACHES=table,
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        )
        django.setup()

    def is_leased() -> None:
        if not bus().wait_until_leased(5):
            raise RuntimeError(f"there is no lease: {bus().status()}")

    is_leased()
    # The objects themselves: Django's `caches[alias]` costs the same in front of each.
    return {"alone": caches["default"], **{alias: caches[alias] for alias in table if alias != "default"}}, is_leased


def stop_django() -> None:
    """Close the process' bus: the next benchmark wants to be alone with the server."""
    runtime.reset()


def _near_ns(run: Run, caches: Mapping[str, Any], keys: Mapping[str, list[str]]) -> dict[str, float]:
    statements: dict[str, tuple[str, Mapping[str, Any]]] = {
        "loop": ("for key in keys: pass", {"keys": keys["text"]}),
        **{
            f"{kind} of {alias}": (EACH_KEY, {"get": caches[alias].get, "keys": keys[kind]})
            for kind, aliases in (
                ("text", ("alone", "over", "locmem")),
                ("dict", ("alone", "locmem")),
                ("record", ("alone", "pickle", "none", "locmem")),
            )
            for alias in aliases
        },
    }
    ns = quickest_ns(run, statements, inner=KEYS, rounds=run.rounds(100, 10))
    loop = ns.pop("loop")
    ns = {name: took - loop for name, took in ns.items()}
    many: dict[str, tuple[str, Mapping[str, Any]]] = {
        f"many of {alias}": ("get_many(keys)", {"get_many": caches[alias].get_many, "keys": keys["dict"][:MANY]})
        for alias in ("alone", "locmem")
    }
    return {**ns, **quickest_ns(run, many, inner=1, rounds=run.rounds(100, 10))}


def _redis_ns(run: Run, cache: Any, keys: Mapping[str, list[str]]) -> dict[str, float]:
    calls = {
        "text": lambda: cache.get("text:0"),
        "dict": lambda: cache.get("dict:0"),
        "many": lambda: cache.get_many(keys["dict"][:MANY]),
    }
    times = interleaved_ns(run, calls, rounds=run.rounds(1500, 150))
    return {name: statistics.median(took) for name, took in times.items()}
