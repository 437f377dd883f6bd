"""A read that is answered from the process' own memory, against what others do for the same."""

from __future__ import annotations

import functools
import statistics
import threading
from collections.abc import Mapping
from typing import Any

import cachetools
import redis

from invalidator import Invalidator, NearCache, coherent_lru_cache

from .figures import Figure, Target
from .peers import Locked, LockedItems, PlainDict
from .run import Run
from .timing import interleaved_ns, quickest_ns

KEYS = 1000
"""Different keys in turn: no peer gets to keep one entry in the processor's nearest cache."""
TTL_S = 300

EACH_KEY = "for key in keys: cache.get(key)"
EACH_ITEM = "for key in keys: cache[key]"


def measure(run: Run) -> list[Figure]:
    """Shortest of many batches for what takes nanoseconds, median for Redis."""
    keys = [f"product:{number}" for number in range(KEYS)]
    values = [(key, {"id": key}) for key in keys]
    with Invalidator(run.url, namespace=run.namespace()) as bus:
        cache = NearCache(bus, ttl=TTL_S)
        _lease(bus)
        for key, value in values:
            cache.set(key, value, tags=["shop.product"])
        statements = {
            **_competitors(keys, values),
            "get": (EACH_KEY, {"cache": cache, "keys": keys}),
            # Somebody, somewhere, invalidated something else, before each pass: every entry is looked at as a whole.
            "get after a change": (f"touch()\n{EACH_KEY}", {"cache": cache, "keys": keys, "touch": bus.ledger.touch}),
            "get_or_set": ("for key in keys: cache.get_or_set(key, int)", {"cache": cache, "keys": keys}),
            "cached": ("for id in ids: load(id)", {"load": _cached_by_us(cache), "ids": range(KEYS)}),
            "coherent_lru_cache": ("for id in ids: load(id)", {"load": _coherent_lru(bus), "ids": range(KEYS)}),
            "functools": ("for id in ids: load(id)", {"load": _functools_lru(), "ids": range(KEYS)}),
            "cachetools cached": ("for id in ids: load(id)", {"load": _cached_by_cachetools(), "ids": range(KEYS)}),
        }
        before = cache.stats()
        ns = quickest_ns(run, statements, inner=KEYS, rounds=run.rounds(250, 25))
        _check_all_were_hits(cache, before.misses)
        _lease(bus)
    loop = ns.pop("loop")
    ns = {name: took - loop for name, took in ns.items()}
    plain = ns["plain"]

    def figure(what: str, name: str) -> Figure:
        return Figure(what, ns[name], "ns", times=ns[name] / plain)

    redis_ns = _redis_get_ns(run)
    return [
        Figure("hit ÷ plain method", ns["get"] / plain, "×", target=Target(3, "≤", 5)),
        Figure("TTLCache.get with a lock ÷ hit", ns["ttl"] / ns["get"], "×", target=Target(3, "≥", 3)),
        figure("plain method around dict.get", "plain"),
        figure("near cache: get, hit (TTL, lease, ledger)", "get"),
        figure("… first hit after a change of the ledger", "get after a change"),
        figure("near cache: get_or_set, hit", "get_or_set"),
        figure("near cache: @cached, hit", "cached"),
        figure("coherent_lru_cache, hit", "coherent_lru_cache"),
        figure("functools.lru_cache (in C; clears this process alone), hit", "functools"),
        figure("cachetools LRUCache with a lock: get", "lru"),
        figure("cachetools TTLCache with a lock: get", "ttl"),
        figure("… subscripted: no default", "ttl item"),
        figure("cachetools @cached, TTLCache with a lock", "cachetools cached"),
        Figure("redis-py GET on loopback (median)", redis_ns, "ns", times=redis_ns / plain),
    ]


def _competitors(keys: list[str], values: list[tuple[str, Any]]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    competitors: dict[str, tuple[str, object]] = {
        "plain": (EACH_KEY, PlainDict(values)),
        "ttl": (EACH_KEY, Locked(cachetools.TTLCache(50_000, TTL_S), values)),
        "ttl item": (EACH_ITEM, LockedItems(cachetools.TTLCache(50_000, TTL_S), values)),
        "lru": (EACH_KEY, Locked(cachetools.LRUCache(50_000), values)),
    }
    statements = {name: (statement, {"cache": cache, "keys": keys}) for name, (statement, cache) in competitors.items()}
    return {"loop": ("for key in keys: pass", {"keys": keys}), **statements}


def _cached_by_us(cache: NearCache) -> Any:
    @cache.cached(key="cached:{id}")
    def load(id: int) -> int:
        return id

    return _filled(load)


def _coherent_lru(bus: Invalidator) -> Any:
    @coherent_lru_cache(maxsize=None, bus=bus)
    def load(id: int) -> int:
        return id

    return _filled(load)


def _functools_lru() -> Any:
    @functools.cache
    def load(id: int) -> int:
        return id

    return _filled(load)


def _cached_by_cachetools() -> Any:
    @cachetools.cached(cachetools.TTLCache(50_000, TTL_S), lock=threading.Lock())
    def load(id: int) -> int:
        return id

    return _filled(load)


def _filled(load: Any) -> Any:
    for number in range(KEYS):
        load(number)
    return load


def _lease(bus: Invalidator) -> None:
    if not bus.wait_until_leased(5):
        raise RuntimeError(f"there is no lease: {bus.status()}")


def _check_all_were_hits(cache: NearCache, misses_before: int) -> None:
    missed = cache.stats().misses - misses_before
    if missed:
        raise RuntimeError(f"{missed} reads were no hits")


def _redis_get_ns(run: Run) -> float:
    with redis.Redis.from_url(run.url) as client:
        client.set("bench:value", b"x" * 100)
        times = interleaved_ns(run, {"get": lambda: client.get("bench:value")}, rounds=run.rounds(3000, 300))
        client.delete("bench:value")
    return statistics.median(times["get"])
