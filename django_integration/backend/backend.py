"""
A Django cache backend whose reads come from this process' memory, and whose writes reach every server.

    CACHES = {"default": {"BACKEND": "django_integration.backend.NearCacheBackend"}}

Values stay in the process that computed them, or, with `OPTIONS={"L2": "<alias>"}`, live in another Django cache, of
which this one keeps near copies (`l2.py`).

Rule 1: a fill is quiet, a write is told. A `set`, `add` or `set_many` of a key that this thread or task has just missed
stores what was computed from the source: nobody is told, and it counts from the time of the miss, so that what was
invalidated meanwhile is not stored. Any other `set` is a change: the others drop what they have. Without this rule
three servers that fill one key evict each other for ever.
Rule 2: a miss makes a fill for a while (`fills.py`), and not beyond the request (`close`), nor beyond a write of the
same key by the same thread or task: a later `set` is told.
Rule 3: backend objects come and go with threads and tasks. What outlives them, the store, belongs to the process and to
a LOCATION (`Place`).
Rule 4: an async method does on the event loop what is in memory, and nothing that waits.
Rule 5: in a transaction that has written (`source.py`) nothing tells what a value was computed from: what follows a
miss is stored nowhere, an `add` is a change, and a key that the transaction invalidates is read from nowhere.

A key is invalidated by the name that `make_key` gives it, such as ":1:product:42" (`key_name` returns it). One that is
longer than MOST_NAME_BYTES, or empty, or no valid Unicode, is named by its hash.
"""


# ruff: noqa: ASYNC109 - `timeout` is Django's own word for how long a value is kept

from __future__ import annotations

import math
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache, default_key_func, memcache_key_warnings
from django.core.exceptions import ImproperlyConfigured

from invalidator import InvalidName
from invalidator.extending import Change, check_tags

from .. import conf as configuration
from .. import observing
from ..transactions.view import has_written
from .copies import COPIES, Kept, hand_out, keep
from .fills import claim
from .keys import name_of
from .places import Place, places
from .second_level import SecondLevel

MOST_CULLED = 1000
"""Entries that leave at once for room, at most: a request must not walk through a store of 50,000."""
MOST_MADE = 20_000
"""Keys of which the full name is remembered, for each prefix and version."""

_OPTIONS = frozenset({"MAX_ENTRIES", "CULL_FREQUENCY", "COPY", "L2", "NEAR_TIMEOUT", "TAGS"})
_KEY_MAKING = frozenset({"key_prefix", "version", "key_func"})
_MISSING: Any = object()
_NOTHING: dict[str, str] = {}

Timeout = Any  # seconds, None for ever, or Django's DEFAULT_TIMEOUT


def _own_tags(options: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        tags = check_tags(options.get("TAGS", ()))
    except InvalidName as refusal:
        raise ImproperlyConfigured(f"OPTIONS['TAGS'] of NearCacheBackend: {refusal}") from None
    if tags and options.get("L2"):
        raise ImproperlyConfigured("OPTIONS['TAGS'] of NearCacheBackend cannot go with L2, which knows no tags")
    return tags


class NearCacheBackend(BaseCache):
    """
    Django's cache API over the near cache of a LOCATION.

    Options, besides MAX_ENTRIES (default: INVALIDATOR["MAXSIZE"]) and CULL_FREQUENCY:

        COPY          "pickle" (default), "deep" or "none": how to keep what can be changed, see `copies.py`
        L2            the alias of the cache in which values live, see `l2.py`
        TAGS          tags that every entry carries, such as those of models: ["shop.price"]; not with L2
        NEAR_TIMEOUT  seconds that a near copy may be served of which only L2 knows when it expires; default 10

    Raises:
        ImproperlyConfigured: an option is not known, or cannot work.
    """

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        options: Mapping[str, Any] = params.get("OPTIONS", {})
        if unknown := sorted(options.keys() - _OPTIONS):
            raise ImproperlyConfigured(
                f"OPTIONS {', '.join(unknown)} of NearCacheBackend are not known; known are: "
                f"{', '.join(sorted(_OPTIONS))}"
            )
        self._copy = options.get("COPY", "pickle")
        if self._copy not in COPIES:
            raise ImproperlyConfigured(
                f"OPTIONS['COPY'] of NearCacheBackend must be one of {', '.join(COPIES)}, not {self._copy!r}"
            )
        if "max_entries" not in params and "MAX_ENTRIES" not in options:
            # Not `conf.maxsize`: a cache can be made where the setting is missing, which is a matter of its first use.
            given = configuration.given().get("MAXSIZE")
            self._max_entries = given if isinstance(given, int) else configuration.KEYS["MAXSIZE"].default
        place = places.get(location)
        self._place = place if place is not None else places.setdefault(location, Place(location))
        self.tags = (self._place.tag, *_own_tags(options))
        self._l2 = self.second_level = SecondLevel.of(options, self._place.tag) if options.get("L2") else None
        self._made = self._find_made()

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name in _KEY_MAKING and "_made" in self.__dict__:
            self._made = self._find_made()

    # Names and values.

    def key_name(self, key: str, version: int | None = None) -> str:
        """Return what `invalidate` has to be told to invalidate *key* of this cache."""
        return name_of(self.make_key(key, version))

    def _find_made(self) -> dict[str, str]:
        """Where to remember full names; a function of the project's may return another each time."""
        kind = type(self)
        if (
            self.key_func is not default_key_func
            or kind.make_key is not BaseCache.make_key
            or kind.validate_key is not BaseCache.validate_key
            or kind.make_and_validate_key is not BaseCache.make_and_validate_key
        ):
            return _NOTHING
        return self._place.made.setdefault((self.key_prefix, self.version), {})

    def _name(self, key: Any, version: int | None = None) -> str:
        if version is None:
            try:
                return self._made[key]
            except (KeyError, TypeError):
                pass
        made = self.make_and_validate_key(key, version=version)
        name = name_of(made)
        memory = self._made
        # Only text: 1, 1.0 and True are one key of a dict, and three of a cache. What is warned of is warned of again.
        if version is None and type(key) is str and memory is not _NOTHING and not any(memcache_key_warnings(made)):
            if len(memory) >= MOST_MADE:
                memory.clear()
            memory[key] = name
        return name

    def _names(self, keys: Iterable[Any], version: int | None) -> dict[str, Any]:
        """By name, the keys."""
        keys = tuple(keys)
        if version is None:
            made = self._made
            try:
                return {made[key]: key for key in keys}
            except (KeyError, TypeError):
                pass
        return {self._name(key, version): key for key in keys}

    def _ttl(self, timeout: Timeout) -> float | None:
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return None if timeout is None or timeout == math.inf else max(0.0, float(timeout))

    def _keep(self, value: Any) -> Any:
        return keep(value, self._copy)

    def _make_room(self, name: str) -> None:
        near = self._place.near
        if len(near) < self._max_entries or near.peek(name) is not None:
            return
        count = len(near)
        if self._cull_frequency:
            count = max(1, min(count // self._cull_frequency, MOST_CULLED))
        near.make_room(count)

    # Reading.

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """See Django."""
        try:
            name = self._made[key] if version is None else self._name(key, version)
        except (KeyError, TypeError):
            name = self._name(key, version)
        kept = self._place.read(name, _MISSING)
        if type(kept) is Kept:
            return kept.copy(kept.value)
        if kept is not _MISSING:
            return kept
        if self._l2 is not None:
            kept = self._read_l2(name)
            if kept is not _MISSING:
                return hand_out(kept)
        return default

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """See Django."""
        name = self._name(key, version)
        kept = self._place.read(name, _MISSING)
        if kept is _MISSING:
            if self._l2 is not None:
                since = self._place.near.as_of()
                found = await sync_to_async(self._l2.get)(name, _MISSING)
                kept = self._keep_near(name, found, since)
            if kept is _MISSING:
                return default
        return hand_out(kept)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """See Django."""
        names = self._names(keys, version)
        found = self._place.read_many(names)
        if self._l2 is not None and len(found) < len(names):
            since = self._place.near.as_of()
            self._keep_all_near(self._l2.get_many([name for name in names if name not in found]), since, found)
        return self._hand_out_all(names, found)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """See Django."""
        names = self._names(keys, version)
        found = self._place.read_many(names)
        if self._l2 is not None and len(found) < len(names):
            since = self._place.near.as_of()
            missing = [name for name in names if name not in found]
            self._keep_all_near(await sync_to_async(self._l2.get_many)(missing), since, found)
        return self._hand_out_all(names, found)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """See Django."""
        name = self._name(key, version)
        if self._place.read(name, _MISSING) is not _MISSING:
            return True
        return self._l2 is not None and self._read_l2(name) is not _MISSING

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """See Django."""
        return await self.aget(key, _MISSING, version) is not _MISSING

    def _hand_out_all(self, names: Mapping[str, Any], found: Mapping[str, Any]) -> dict[Any, Any]:
        values = [kept.copy(kept.value) if type(kept) is Kept else kept for kept in found.values()]
        if len(found) == len(names):  # both in the order of the question
            return dict(zip(names.values(), values, strict=True))
        return dict(zip(map(names.__getitem__, found), values, strict=True))

    def _read_l2(self, name: str) -> Any:
        """Return what is kept of the value in the second level, and keep it near; _MISSING if there is none."""
        assert self._l2 is not None
        since = self._place.near.as_of()
        return self._keep_near(name, self._l2.get(name, _MISSING), since)

    def _keep_near(self, name: str, found: Any, since: int) -> Any:
        if found is _MISSING:
            return _MISSING
        assert self._l2 is not None
        near = self._place.near
        near.claim_miss(name, within=0)  # it was no miss after all
        kept = self._keep(found)
        self._make_room(name)
        near.set(name, kept, ttl=self._l2.near_ttl(name), tags=self._tags(name), loaded_at=since)
        near.note_read(name, tags=self._tags(name), loaded_at=since)
        return kept

    def _keep_all_near(self, values: Mapping[str, Any], since: int, found: dict[str, Any]) -> None:
        for name, value in values.items():
            found[name] = self._keep_near(name, value, since)

    def _tags(self, name: str) -> tuple[str, ...]:
        return self.tags if self._l2 is None else (self._place.tag, self._l2.copies_tag(name))

    # Loading.

    def get_or_set(self, key: Any, default: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> Any:
        """See Django; besides, *default* is called once per process, however many threads and tasks ask meanwhile."""
        name = self._name(key, version)

        def load() -> Any:
            if observing.is_reloading():
                return self._keep(observing.loader_of(default)())
            since = self._place.near.as_of()
            if self._l2 is not None:
                found = self._l2.get(name, _MISSING)
                if found is not _MISSING:
                    return observing.Found(self._keep(found), ttl=self._l2.near_ttl(name))
            value = default() if callable(default) else default
            kept = self._keep(value)
            if self._l2 is not None and (winner := self._l2.fill(name, value, kept, ttl, since)) is not value:
                kept = self._keep(winner)
            self._make_room(name)
            return kept

        ttl = self._ttl(timeout)
        return hand_out(self._place.near.get_or_set(name, load, ttl=ttl, tags=self._tags(name)))

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """`get_or_set`; *default* may be a coroutine function, too."""
        name = self._name(key, version)

        async def load() -> Any:
            if observing.is_reloading():
                value = observing.loader_of(default)()
                return self._keep(await value if isinstance(value, Awaitable) else value)
            since = self._place.near.as_of()
            if self._l2 is not None:
                found = await sync_to_async(self._l2.get)(name, _MISSING)
                if found is not _MISSING:
                    return observing.Found(self._keep(found), ttl=self._l2.near_ttl(name))
            value = default() if callable(default) else default
            if iscoroutinefunction(default) or isinstance(value, Awaitable):
                value = await value
            kept = self._keep(value)
            if self._l2 is not None:
                winner = await sync_to_async(self._l2.fill)(name, value, kept, ttl, since)
                kept = kept if winner is value else self._keep(winner)
            self._make_room(name)
            return kept

        ttl = self._ttl(timeout)
        return hand_out(await self._place.near.aget_or_set(name, load, ttl=ttl, tags=self._tags(name)))

    # Writing. What is done here at once, and what has then to be told, are two halves: the second waits for Redis.

    def set(self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """See Django, and rule 1."""
        values = {self._name(key, version): value}
        if self._l2 is not None:
            self._set_l2(values, self._ttl(timeout), claim(self._place.near, values))
        elif change := self._set_here(values, timeout):
            change.tell()

    async def aset(self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """See Django, and rule 1."""
        values = {self._name(key, version): value}
        if self._l2 is not None:
            await sync_to_async(self._set_l2)(values, self._ttl(timeout), claim(self._place.near, values))
        elif change := self._set_here(values, timeout):
            await change.atell()

    def set_many(
        self, data: Mapping[Any, Any], timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """See Django, and rule 1: those that were missed are fills, the others leave as one message."""
        values = {self._name(key, version): value for key, value in data.items()}
        if self._l2 is not None:
            self._set_l2(values, self._ttl(timeout), claim(self._place.near, values))
        elif change := self._set_here(values, timeout):
            change.tell()
        return []

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """See `set_many`."""
        values = {self._name(key, version): value for key, value in data.items()}
        if self._l2 is not None:
            await sync_to_async(self._set_l2)(values, self._ttl(timeout), claim(self._place.near, values))
        elif change := self._set_here(values, timeout):
            await change.atell()
        return []

    def add(self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """See Django, and rule 1."""
        name = self._name(key, version)
        if self._l2 is not None:
            return self._add_l2(name, value, self._ttl(timeout), self._claim_added(name, value))
        is_added, change = self._add_here(name, value, timeout)
        if change is not None:
            change.tell()
        return is_added

    async def aadd(self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """See Django, and rule 1."""
        name = self._name(key, version)
        if self._l2 is not None:
            claimed = self._claim_added(name, value)
            return await sync_to_async(self._add_l2)(name, value, self._ttl(timeout), claimed)
        is_added, change = self._add_here(name, value, timeout)
        if change is not None:
            await change.atell()
        return is_added

    def touch(self, key: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """See Django."""
        name = self._name(key, version)
        self._place.near.drop_misses(name)
        if self._l2 is not None:
            return self._l2.touch(name, self._ttl(timeout))
        change = self._touch_here(name, timeout)
        if change is not None:
            change.tell()
        return change is not None

    async def atouch(self, key: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """See Django."""
        name = self._name(key, version)
        self._place.near.drop_misses(name)
        if self._l2 is not None:
            return await sync_to_async(self._l2.touch)(name, self._ttl(timeout))
        change = self._touch_here(name, timeout)
        if change is not None:
            await change.atell()
        return change is not None

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See Django; no thread's increment is lost, and with a second level no server's."""
        name = self._name(key, version)
        self._place.near.drop_misses(name)
        if self._l2 is not None:
            return self._l2.incr(name, delta)
        value, change = self._incr_here(key, name, delta)
        change.tell()
        return value

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See `incr`."""
        name = self._name(key, version)
        self._place.near.drop_misses(name)
        if self._l2 is not None:
            return await sync_to_async(self._l2.incr)(name, delta)
        value, change = self._incr_here(key, name, delta)
        await change.atell()
        return value

    def delete(self, key: Any, version: int | None = None) -> bool:
        """See Django."""
        name = self._name(key, version)
        self._place.near.drop_misses(name)
        if self._l2 is not None:
            return self._l2.delete(name)
        was_there = self._place.near.peek(name) is not None
        self._place.near.bus.announce(name)()
        return was_there

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """See Django."""
        name = self._name(key, version)
        self._place.near.drop_misses(name)
        if self._l2 is not None:
            return await sync_to_async(self._l2.delete)(name)
        was_there = self._place.near.peek(name) is not None
        await self._place.near.bus.ainvalidate(name)
        return was_there

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """See Django; the keys leave as one message."""
        if names := self._names(keys, version):
            self._place.near.drop_misses(*names)
            if self._l2 is not None:
                self._l2.delete_many(list(names))
            else:
                self._place.near.bus.announce(*names)()

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """See `delete_many`."""
        if names := self._names(keys, version):
            self._place.near.drop_misses(*names)
            if self._l2 is not None:
                await sync_to_async(self._l2.delete_many)(list(names))
            else:
                await self._place.near.bus.ainvalidate(*names)

    def clear(self) -> None:
        """Remove every value of this LOCATION, on every server."""
        self._place.near.forget_misses()
        if self._l2 is not None:
            self._l2.clear()
        else:
            self._place.near.bus.announce(tags=self._place.tags)()
            self._place.near.sweep()

    async def aclear(self) -> None:
        """See `clear`."""
        self._place.near.forget_misses()
        if self._l2 is not None:
            await sync_to_async(self._l2.clear)()
        else:
            await self._place.near.bus.ainvalidate(tags=self._place.tags)
            self._place.near.sweep()

    def close(self, **_: Any) -> None:
        """A request has ended: what it missed and did not store, nobody computes any more."""
        if self._place.is_open:
            self._place.near.forget_misses()

    # Inside.

    def _set_here(self, values: Mapping[str, Any], timeout: Timeout) -> Change | None:
        """Store *values*. Returns what is to be told, if they are not all fills."""
        near, ttl, tags = self._place.near, self._ttl(timeout), self.tags
        kept = {name: self._keep(value) for name, value in values.items()}
        told: dict[str, int] = {}
        for name, (is_fill, since) in claim(near, values).items():
            self._make_room(name)
            if is_fill:
                near.set(name, kept[name], ttl=ttl, tags=tags, loaded_at=since)
            else:
                told[name] = since
        return near.replace({name: kept[name] for name in told}, ttl=ttl, tags=tags, since=told) if told else None

    def _add_here(self, name: str, value: Any, timeout: Timeout) -> tuple[bool, Change | None]:
        near, ttl, tags = self._place.near, self._ttl(timeout), self.tags
        kept = self._keep(value)
        is_fill, since = self._claim_added(name, value)
        if near.peek(name) is not None:
            return False, None
        if ttl == 0:
            return True, None  # it was added, and has expired
        self._make_room(name)
        if is_fill:
            return near.fill_if_absent(name, kept, loaded_at=since, ttl=ttl, tags=tags), None
        change = near.replace_if_absent(name, kept, ttl=ttl, tags=tags)
        return change is not None, change

    def _claim_added(self, name: str, value: Any) -> tuple[bool, int]:
        """Whether adding *value* is a fill. Who adds wants to know who was first, and it has to be stored for that."""
        is_fill, since = claim(self._place.near, {name: value})[name]
        return is_fill and not has_written(), since

    def _touch_here(self, name: str, timeout: Timeout) -> Change | None:
        try:
            _, change = self._place.near.update(name, lambda kept: kept, ttl=self._ttl(timeout))
        except KeyError:
            return None
        if self._ttl(timeout) == 0:
            self._place.near.evict(name)
        return change

    def _incr_here(self, key: Any, name: str, delta: int) -> tuple[int, Change]:
        try:
            kept, change = self._place.near.update(name, lambda kept: self._keep(hand_out(kept) + delta))
        except KeyError:
            raise ValueError(f"Key '{key}' not found") from None
        return hand_out(kept), change

    def _set_l2(self, values: Mapping[str, Any], ttl: float | None, claims: Mapping[str, tuple[bool, int]]) -> None:
        assert self._l2 is not None
        told = {name: value for name, value in values.items() if not claims[name][0]}
        if told:
            self._l2.set_many(told, ttl)
        for name, value in values.items():
            if name not in told:
                self._fill_l2(name, value, ttl, claims[name][1])

    def _fill_l2(self, name: str, value: Any, ttl: float | None, since: int) -> None:
        """A fill of both levels. Where another server was quicker there is no near copy: the next read asks."""
        assert self._l2 is not None
        near = self._place.near
        kept = self._keep(value)
        if self._l2.fill(name, value, kept, ttl, since) is value:
            self._make_room(name)
            near.set(name, kept, ttl=ttl, tags=self._tags(name), loaded_at=since)
        else:
            near.evict(name)

    def _add_l2(self, name: str, value: Any, ttl: float | None, claim: tuple[bool, int]) -> bool:
        assert self._l2 is not None
        is_fill, since = claim
        if not is_fill:
            return self._l2.add(name, value, ttl)
        kept = self._keep(value)
        if self._l2.add_fill(name, value, kept, ttl, since) is False:
            return False
        self._make_room(name)
        self._place.near.set(name, kept, ttl=ttl, tags=self._tags(name), loaded_at=since)
        return True
