"""
What the cache backend asks of its levels: one method for each operation, for sync and async callers alike.

An operation has two halves. The method does at once what is in this process' memory, and returns a `Pending`: the other
half, which may wait for Redis or for the second level. A sync caller ends the operation by `finish()`, an async caller
by `await afinish()`.

Rule 1: what depends on the calling thread or task is done in the first half or in `then`, never in a helper thread: its
misses, and what it has recorded.
Rule 2: `afinish` does nothing on the event loop that waits. Keeping a value may, too: a query set that was not read
yet, or a lazy object, asks the database when it is copied.
Rule 3: a change that is in force here is published, even if the coroutine that made it is cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

from asgiref.sync import sync_to_async

from invalidator.extending import Copy, WritableCache, keep, may_do_io

from .following import NOBODY, Changes, Followed, follow
from .places import Place

T = TypeVar("T")

MISSING: Any = object()
"""Stands for a value that is not there: None is a value."""


class Pending(ABC, Generic[T]):
    """What is left of an operation, and its result. Finished exactly once."""

    __slots__ = ()

    @abstractmethod
    def finish(self) -> T:
        """Do what is left, in this thread. Returns the result of the operation."""

    @abstractmethod
    async def afinish(self) -> T:
        """`finish` for coroutines: what waits does so in another thread."""


class Done(Pending[T]):
    """Nothing is left."""

    __slots__ = ("_result",)

    def __init__(self, result: T) -> None:
        self._result = result

    def finish(self) -> T:
        """Return the result."""
        return self._result

    async def afinish(self) -> T:
        """Return the result."""
        return self._result


class Publish(Pending[T]):
    """A change is in force here and has to be published."""

    __slots__ = ("_publish", "_result")

    def __init__(self, publish: Callable[[], object], result: T) -> None:
        self._publish = publish
        self._result = result

    def finish(self) -> T:
        """Publish. Raises what publishing raises."""
        self._publish()
        return self._result

    async def afinish(self) -> T:
        """Publish in a thread of the event loop's executor."""
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._publish))
        return self._result


class Call(Pending[T]):
    """
    Something waits for the second level.

    Args:
        call: what waits.
        then: makes the result of the operation from that of *call*, in the thread or task of the caller.
    """

    __slots__ = ("_call", "_then")

    def __init__(self, call: Callable[[], Any], then: Callable[[Any], T] | None = None) -> None:
        self._call = call
        self._then = then

    def finish(self) -> T:
        """Call, and then the rest. Raises what the second level raises."""
        return self._conclude(self._call())

    async def afinish(self) -> T:
        """Call in the thread in which Django runs sync code, where connections are those of sync code."""
        return self._conclude(await sync_to_async(self._call)())

    def _conclude(self, outcome: Any) -> T:
        result: T = outcome if self._then is None else self._then(outcome)
        return result


class Keep(Pending[T]):
    """
    Values have to be copied before they can be stored.

    Args:
        values: by name.
        levels: those that keep them.
        then: makes what is left of the operation from what is kept of them, in the thread or task of the caller.
    """

    __slots__ = ("_levels", "_then", "_values")

    def __init__(self, values: Mapping[str, Any], levels: Levels, then: Callable[[dict[str, Any]], Pending[T]]) -> None:
        self._values = values
        self._levels = levels
        self._then = then

    def finish(self) -> T:
        """Copy, and then the rest. Raises what copying raises."""
        return self._then(self._keep_all()).finish()

    async def afinish(self) -> T:
        """Copy what may ask the database in the thread in which Django runs sync code, and all else here."""
        if any(map(self._levels.may_wait, self._values.values())):
            kept = await sync_to_async(self._keep_all)()
        else:
            kept = self._keep_all()
        return await self._then(kept).afinish()

    def _keep_all(self) -> dict[str, Any]:
        return {name: self._levels.keep(value) for name, value in self._values.items()}


class Levels(ABC):
    """
    Where the values of one alias live. Names are those of `keys.py`, and times to live are seconds or None for ever.

    Args:
        place: the LOCATION.
        copying: OPTIONS["COPY"].
        make_room: called with a name before something is stored under it near.
        follows: whether changes follow the transactions in progress.
    """

    def __init__(
        self, place: Place, copying: Copy, make_room: Callable[[str], object], *, follows: bool = True
    ) -> None:
        self.place = place
        self.make_room = make_room
        self._copying = copying
        self._follows = follows

    @property
    def near(self) -> WritableCache:
        """The near cache of the LOCATION."""
        return self.place.near

    def keep(self, value: Any) -> Any:
        """
        Return what to store near for *value*, of which `hand_out` makes each reader's own. Query sets are evaluated, as
        in Django's own caches. Raises whatever copying *value* raises.
        """
        return keep(value, self._copying, fetch=True)

    def may_wait(self, value: Any) -> bool:
        """Whether `keep` of *value* may wait for the database."""
        return self._copying != "none" and may_do_io(value)

    def keeping(self, value: Any) -> Pending[Any]:
        """`keep` for sync and async callers."""
        return Keep({"": value}, self, lambda kept: Done(kept[""]))

    def follow(self) -> Followed:
        """Return the transactions in progress that a change by the caller belongs to. Asked in the first half."""
        return follow(self.origin, self._make_changes) if self._follows else NOBODY

    @property
    @abstractmethod
    def origin(self) -> Hashable:
        """What stands for where the values live."""

    @abstractmethod
    def _make_changes(self) -> Changes:
        """Begin to note what a transaction changes."""

    @abstractmethod
    def tags_of(self, name: str) -> tuple[str, ...]:
        """Return the tags of what lies near under *name*."""

    # Reading, after a miss of the near cache.

    @abstractmethod
    def read_below(self, name: str) -> Pending[Any]:
        """Find what is kept of a value and keep it near from now on; else MISSING."""

    @abstractmethod
    def read_all_below(self, names: list[str]) -> Pending[Mapping[str, Any]]:
        """`read_below` of several; those that are missing are left out."""

    # Loading: `find`, then the loader, then `fill`. The near cache itself stores what `fill` returns.

    def load(self, name: str, loader: Callable[[], Any], ttl: float | None) -> Any:
        """Return what is kept of a value; if there is none, of that of *loader*, which does all of the above."""
        return self.near.get_or_set(name, loader, ttl=ttl, tags=self.tags_of(name))

    async def aload(self, name: str, loader: Callable[[], Awaitable[Any]], ttl: float | None) -> Any:
        """`load` with an async *loader*."""
        return await self.near.aget_or_set(name, loader, ttl=ttl, tags=self.tags_of(name))

    @abstractmethod
    def find(self, name: str) -> Pending[Any]:
        """Find what makes the loader unnecessary; else MISSING."""

    @abstractmethod
    def fill(self, name: str, value: Any, ttl: float | None, since: int) -> Pending[Any]:
        """Store below what the loader made from the source after *since*. The result is what to keep near."""

    # Writing.

    @abstractmethod
    def set(self, values: Mapping[str, Any], ttl: float | None) -> Pending[None]:
        """Store *values*, each as a fill or as a change."""

    @abstractmethod
    def add(self, name: str, value: Any, ttl: float | None) -> Pending[bool]:
        """Store *value* unless there is one. The result is whether it was stored."""

    @abstractmethod
    def touch(self, name: str, ttl: float | None) -> Pending[bool]:
        """Let a value expire in *ttl* seconds. The result is whether there is one."""

    @abstractmethod
    def incr(self, name: str, delta: int) -> Pending[int]:
        """Add to a number. The result is the new one. Raises KeyError, at once, or ValueError, later: there is none."""

    @abstractmethod
    def delete(self, name: str) -> Pending[bool]:
        """Delete a value. The result is whether there was one."""

    @abstractmethod
    def delete_many(self, names: list[str]) -> Pending[None]:
        """Delete values."""

    @abstractmethod
    def clear(self) -> Pending[None]:
        """Delete everything in the LOCATION."""
