"""
A Django cache backend whose reads come from this process' memory, and whose writes reach every server.

    CACHES = {"default": {"BACKEND": "django_integration.backend.NearCacheBackend"}}

Values stay in the process that computed them (`one_level.py`), or, with `OPTIONS={"L2": "<alias>"}`, live in another
Django cache, of which this one keeps near copies (`two_levels.py`).

Rule 1: a fill publishes nothing, a change is published. A `set`, `add` or `set_many` of a key that this thread or task
has just missed stores what was computed from the source: a fill. It is treated as loaded when it was missed, so that
what was invalidated meanwhile is not stored. Any other `set` is a change: the other servers drop what they have.
Without this rule three servers that fill one key would evict each other for ever.
Rule 2: a miss makes a fill for a while (`fills.py`), and not beyond the request (`close`), nor beyond a write of the
same key by the same thread or task: a later `set` is a change.
Rule 3: backend objects come and go with threads and tasks. What outlives them, the store, belongs to the process and to
a LOCATION (`places.py`).
Rule 4: an async method does on the event loop what is in memory, and nothing that waits (`levels.py`). Copying a value
that is stored may wait for the database, so it leaves the loop; a hit does not.
Rule 5: in a transaction that has written (`transactions/view.py`) nobody knows what a value was computed from: what
follows a miss is stored nowhere, an `add` is a change, and a key that the transaction invalidates is read from nowhere.
Rule 6: a write changes the values of this alias alone. It publishes the name of its key, so that a LOCATION with an
equal key drops what it has in memory; but no other alias' second level is written to or deleted from. When the source
has changed, call `invalidate`: it deletes the name from every second level.

A key is invalidated by its full name, such as ":1:product:42"; `key_name` returns it, and `keys.py` has the rules.
"""


# ruff: noqa: ASYNC109 - `timeout` is Django's own word for how long a value is kept

from __future__ import annotations

import math
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, ClassVar

from asgiref.sync import iscoroutinefunction
from django.core.cache.backends.base import DEFAULT_TIMEOUT

from invalidator.extending import Kept, hand_out

from .. import conf as configuration
from .. import observing
from ..transactions import in_tests
from .keys import CacheWithNames
from .levels import MISSING, Levels, Pending
from .one_level import OneLevel
from .options import Options, check_options, tags_in
from .places import place_of
from .recorded import Recorded
from .second_level import SecondLevel
from .two_levels import TwoLevels

MOST_CULLED = 1000
"""Entries that leave at once for room, at most: a request must not walk through a store of 50,000."""

Timeout = Any  # seconds, None for ever, or Django's DEFAULT_TIMEOUT


class NearCacheBackend(CacheWithNames):
    """
    Django's cache API over the near cache of a LOCATION.

    Options, besides MAX_ENTRIES (default: INVALIDATOR["MAXSIZE"]) and CULL_FREQUENCY:

        COPY          "clone" (default), "deep", "pickle" or "none": what a hit hands out, see docs/values.md
        DEPENDENCIES  whether `get_or_set` depends on what its callable reads, see `recorded.py`; not with L2
        L2            the alias of the cache in which values live, see `second_level.py`
        TRANSACTIONS  whether changes follow the transactions in progress, see `following.py`; default True
        TAGS          tags that every entry carries, such as those of models: ["shop.price"]; not with L2
        NEAR_TIMEOUT  seconds that a near copy may be served of which only L2 knows when it expires; default 10

    Attributes:
        second_level: the one of L2, if there is one.
        tags: those that every entry carries, without a second level.

    Raises:
        ImproperlyConfigured: an option is not known, or cannot work.
    """

    _without_second_level: ClassVar[type[OneLevel]] = OneLevel

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        options: Options = params.get("OPTIONS", {})
        check_options(options)
        self._place = place_of(location)
        super().__init__(params, self._place.remembered_names)
        if "max_entries" not in params and "MAX_ENTRIES" not in options:
            # Not `conf.maxsize`: a cache can be made where the setting is missing, which is a matter of its first use.
            given = configuration.given().get("MAXSIZE")
            self._max_entries = given if isinstance(given, int) else configuration.KEYS["MAXSIZE"].default
        self.tags = (self._place.tag, *tags_in(options))
        self.second_level = second = SecondLevel.of(options, self._place.tag) if options.get("L2") else None
        copying, follows = options.get("COPY", "clone"), options.get("TRANSACTIONS", True)
        kind = Recorded if options.get("DEPENDENCIES") else self._without_second_level
        self._alone = kind(self._place, copying, self._make_room, tags=self.tags, follows=follows)
        self._both: TwoLevels | None = None
        if second is not None:
            self._both = TwoLevels(self._place, copying, self._make_room, second=second, follows=follows)

    @property
    def _levels(self) -> Levels:
        """Where the values live. A TestCase stores nothing in a second level, which would not be rolled back."""
        return self._alone if self._both is None or in_tests.is_open() else self._both

    def _make_room(self, name: str) -> None:
        """Let entries leave the LOCATION, if one more under *name* would be more than this alias wants there."""
        near = self._place.near
        if len(near) < self._max_entries or near.peek(name) is not None:
            return
        count = len(near)
        if self._cull_frequency:
            count = max(1, min(count // self._cull_frequency, MOST_CULLED))
        near.make_room(count)

    def _ttl(self, timeout: Timeout) -> float | None:
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return None if timeout is None or timeout == math.inf else max(0.0, float(timeout))

    # Reading.

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """See Django."""
        # Written out: this is the path of a hit.
        try:
            name = self._names_by_key[key] if version is None else self._name(key, version)
        except (KeyError, TypeError):
            name = self._name(key, version)
        kept = self._place.read(name, MISSING)
        if type(kept) is Kept:
            return kept.copy(kept.value)
        if kept is not MISSING:
            return kept
        kept = self._levels.read_below(name).finish()
        return default if kept is MISSING else hand_out(kept)

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """See Django."""
        name = self._name(key, version)
        kept = self._place.read(name, MISSING)
        if kept is MISSING:
            kept = await self._levels.read_below(name).afinish()
            if kept is MISSING:
                return default
        return hand_out(kept)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """See Django."""
        names = self._names(keys, version)
        found = self._place.read_many(names)
        if len(found) < len(names):
            found.update(self._levels.read_all_below(_without(names, found)).finish())
        return _hand_out_all(names, found)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """See Django."""
        names = self._names(keys, version)
        found = self._place.read_many(names)
        if len(found) < len(names):
            found.update(await self._levels.read_all_below(_without(names, found)).afinish())
        return _hand_out_all(names, found)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """See Django."""
        name = self._name(key, version)
        if self._place.read(name, MISSING) is not MISSING:
            return True
        return self._levels.read_below(name).finish() is not MISSING

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """See Django."""
        name = self._name(key, version)
        if self._place.read(name, MISSING) is not MISSING:
            return True
        return await self._levels.read_below(name).afinish() is not MISSING

    # Loading.

    def get_or_set(self, key: Any, default: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> Any:
        """See Django; besides, *default* is called once per process, however many threads and tasks ask meanwhile."""
        name, ttl, levels = self._name(key, version), self._ttl(timeout), self._levels

        def load() -> Any:
            if observing.is_reloading():
                return levels.keep(observing.loader_of(default)())
            since = levels.near.as_of()
            found = levels.find(name).finish()
            if found is not MISSING:
                return found
            value = default() if callable(default) else default
            return levels.fill(name, value, ttl, since).finish()

        return hand_out(levels.load(name, load, ttl))

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """`get_or_set`; *default* may be a coroutine function, too."""
        name, ttl, levels = self._name(key, version), self._ttl(timeout), self._levels

        async def load() -> Any:
            if observing.is_reloading():
                value = observing.loader_of(default)()
                return await levels.keeping(await value if _is_awaitable(value) else value).afinish()
            since = levels.near.as_of()
            found = await levels.find(name).afinish()
            if found is not MISSING:
                return found
            value = default() if callable(default) else default
            if (callable(default) and iscoroutinefunction(default)) or _is_awaitable(value):
                value = await value
            return await levels.fill(name, value, ttl, since).afinish()

        return hand_out(await levels.aload(name, load, ttl))

    # Writing.

    def set(self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """See Django, and rule 1."""
        self._levels.set({self._name(key, version): value}, self._ttl(timeout)).finish()

    async def aset(self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """See Django, and rule 1."""
        await self._levels.set({self._name(key, version): value}, self._ttl(timeout)).afinish()

    def set_many(
        self, data: Mapping[Any, Any], timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """See Django, and rule 1: those that were missed are fills, the others leave as one message."""
        self._levels.set(self._values(data, version), self._ttl(timeout)).finish()
        return []

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """See `set_many`."""
        await self._levels.set(self._values(data, version), self._ttl(timeout)).afinish()
        return []

    def _values(self, data: Mapping[Any, Any], version: int | None) -> dict[str, Any]:
        return {self._name(key, version): value for key, value in data.items()}

    def add(self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """See Django, and rule 1."""
        return self._levels.add(self._name(key, version), value, self._ttl(timeout)).finish()

    async def aadd(self, key: Any, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """See Django, and rule 1."""
        return await self._levels.add(self._name(key, version), value, self._ttl(timeout)).afinish()

    def touch(self, key: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """See Django."""
        return self._levels.touch(self._name(key, version), self._ttl(timeout)).finish()

    async def atouch(self, key: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """See Django."""
        return await self._levels.touch(self._name(key, version), self._ttl(timeout)).afinish()

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See Django; no thread's increment is lost, and with a second level no server's."""
        return self._incr(key, delta, version).finish()

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See `incr`."""
        return await self._incr(key, delta, version).afinish()

    def _incr(self, key: Any, delta: int, version: int | None) -> Pending[int]:
        try:
            return self._levels.incr(self._name(key, version), delta)
        except KeyError:
            raise ValueError(f"Key '{key}' not found") from None

    def delete(self, key: Any, version: int | None = None) -> bool:
        """See Django, and rule 6."""
        return self._levels.delete(self._name(key, version)).finish()

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """See Django, and rule 6."""
        return await self._levels.delete(self._name(key, version)).afinish()

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """See Django, and rule 6; the keys leave as one message."""
        if names := self._names(keys, version):
            self._levels.delete_many(list(names)).finish()

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """See `delete_many`."""
        if names := self._names(keys, version):
            await self._levels.delete_many(list(names)).afinish()

    def clear(self) -> None:
        """Delete every value of this LOCATION, on every server."""
        self._levels.clear().finish()

    async def aclear(self) -> None:
        """See `clear`."""
        await self._levels.clear().afinish()

    def close(self, **_: Any) -> None:
        """A request has ended: nobody computes any more what it missed and did not store."""
        if self._place.is_open:
            self._place.near.forget_misses()


def _is_awaitable(value: object) -> bool:
    # By type: `isinstance` asks a lazy object for its class, and that asks the database.
    return issubclass(type(value), Awaitable)


def _without(names: Iterable[str], found: Mapping[str, Any]) -> list[str]:
    return [name for name in names if name not in found]


def _hand_out_all(names: Mapping[str, Any], found: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the values *found* by key, of the keys that *names* has by name."""
    # By name, never by place: what is near is found before what lies in the second level, whatever was asked for first.
    return {names[name]: kept.copy(kept.value) if type(kept) is Kept else kept for name, kept in found.items()}
