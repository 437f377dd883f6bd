"""
A dictionary whose items are served only as long as a near cache would serve them.

Code that uses a dictionary as a cache may evaluate `key in d` and then `d[key]`, or store an item and then read it. In
between, the item may be invalidated. So a method of a package that does this runs in a `Reading`.

Rule 1: a reading sees to its end what it has seen or stored. It began before any invalidation since then.
Rule 2: what a reading stores is treated as loaded at its beginning: it was read from the source after that.
Rule 3: a transaction bypasses the dictionary for what it has changed, and stores none of it (`transactions/view.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction

from invalidator import AnyKeyCache
from invalidator.extending import now_ns

from .. import runtime
from ..transactions.view import TransactionView

F = TypeVar("F", bound=Callable[..., Any])

MAXSIZE = 10_000
"""Items. The dictionaries that are replaced have no bound."""
_ABSENT: Any = object()


class Reading:
    """Calls of the methods that use one or more dictionaries. A call is a reading of its own, also inside another."""

    def __init__(self) -> None:
        self._now: ContextVar[tuple[int, dict[Any, Any]] | None] = ContextVar("invalidator_reading", default=None)

    def around(self, method: F) -> F:
        """Return *method* so that each call of it is a reading."""
        if iscoroutinefunction(method):

            @functools.wraps(method)
            async def aread(*args: Any, **kwargs: Any) -> Any:
                token = self._now.set((now_ns(), {}))
                try:
                    return await method(*args, **kwargs)
                finally:
                    self._now.reset(token)

            return cast("F", aread)

        @functools.wraps(method)
        def read(*args: Any, **kwargs: Any) -> Any:
            token = self._now.set((now_ns(), {}))
            try:
                return method(*args, **kwargs)
            finally:
                self._now.reset(token)

        return cast("F", read)

    def seen(self) -> dict[Any, Any]:
        """Return what the current reading has seen; outside of readings, an empty dictionary."""
        now = self._now.get()
        return {} if now is None else now[1]

    def begun(self) -> int | None:
        """Return when the current reading began; None outside of readings."""
        now = self._now.get()
        return None if now is None else now[0]


class CoherentDict(MutableMapping[Any, Any]):
    """
    Live objects by any hashable key, until *tag* is invalidated.

    An item that is stored outside of a reading is treated as loaded at this thread's or task's last miss of its key; if
    there was none, now.
    """

    def __init__(self, reading: Reading, tag: str) -> None:
        self.tag = tag
        self._reading = reading
        self._cache: AnyKeyCache | None = None

    @property
    def near(self) -> AnyKeyCache:
        """The near cache that has the items, on the bus that the process has now."""
        bus = runtime.bus()
        cache = self._cache
        if cache is None or cache.bus is not bus:
            cache = self._cache = AnyKeyCache(bus, self.tag, maxsize=MAXSIZE, source=TransactionView())
        return cache

    def __getitem__(self, key: Hashable) -> Any:
        seen = self._reading.seen()
        pinned = (id(self), key)
        value = seen.get(pinned, _ABSENT)
        if value is _ABSENT:
            value = seen[pinned] = self.near.get(cast("str", key), _ABSENT)
        if value is _ABSENT:
            del seen[pinned]
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return self.get(key, _ABSENT) is not _ABSENT

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self._reading.seen()[id(self), key] = value
        near, begun = self.near, self._reading.begun()
        # What a transaction reads may be as old as the transaction.
        since = None if begun is None else min(begun, near.as_of())
        if not near.set(cast("str", key), value, loaded_at=since):
            near.evict(cast("str", key))

    def __delitem__(self, key: Hashable) -> None:
        if key not in self:
            raise KeyError(key)
        self._reading.seen().pop((id(self), key), None)
        self.near.evict(cast("str", key))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.near.keys())

    def __len__(self) -> int:
        return len(self.near.keys())

    def clear(self) -> None:
        """Evict every item, in this process only."""
        self._reading.seen().clear()
        self.near.clear()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.tag}: {dict(self)!r}>"
