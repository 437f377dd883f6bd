"""
When a context missed which key, so that in a plain "get, compute, set" the value is treated as loaded before it was
computed.

A context is a task where there is one, else a thread. Each remembers a bounded number of misses.

Rule 1: a miss is good for one `set`, however much later: a slow computation must not store what was invalidated
meanwhile. The newest miss is taken first, so that a computation inside a computation takes its own and leaves the outer
one.
Rule 2: a miss for which there is no room leaves its time behind as a floor. A key without a miss may be one of those,
so its value is treated as loaded then.
Rule 3: a floor is forgotten, at the earliest after FLOOR_LASTS_NS and at the latest after twice that, so that a loop
that gives up on thousands of keys does not spoil every later `set`.
Rule 4: `claim` tells whether a `set` follows a miss at all, where that matters: only a recent miss is taken for that.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterable
from typing import Any

MOST_MISSES = 1024
"""Of one context: more keys than a page reads before it stores any of them."""
DEEPEST = 3
"""Misses of one key that wait for their `set`, besides the newest."""
FLOOR_LASTS_NS = 60 * 1_000_000_000


class _Context:
    __slots__ = ("floors", "times")

    def __init__(self) -> None:
        self.times: dict[str, tuple[int, ...]] = {}
        self.floors: dict[int, int] = {}  # by when they began: the oldest time left behind in the FLOOR_LASTS_NS after

    def leave_behind(self, time: int, now: int) -> None:
        """There is no room for a miss at *time*."""
        self.floors = {began: floor for began, floor in self.floors.items() if now < began + 2 * FLOOR_LASTS_NS}
        began = max(self.floors, default=now)
        if now >= began + FLOOR_LASTS_NS:
            began = now
        self.floors[began] = min(time, self.floors.get(began, time))

    def floor(self, now: int) -> int:
        """The oldest time that was left behind and is not forgotten, else *now*."""
        return min([floor for began, floor in self.floors.items() if now < began + 2 * FLOOR_LASTS_NS], default=now)


class Misses:
    """The misses of one cache."""

    def __init__(self) -> None:
        self._threads = threading.local()
        self._tasks: weakref.WeakKeyDictionary[asyncio.Task[Any], _Context] = weakref.WeakKeyDictionary()

    def note(self, key: str, now: int) -> None:
        """This context missed *key*."""
        context = self._context()
        earlier = context.times.pop(key, ())
        context.times[key] = (*earlier[-DEEPEST:], now)
        if len(context.times) > MOST_MISSES:
            context.leave_behind(context.times.pop(next(iter(context.times)))[0], now)

    def take(self, key: str, now: int) -> int:
        """The time at which a value of *key* is treated as loaded: that of this context's miss, else *now*."""
        context = self._context()
        missed_at = context.times.pop(key, ())
        if missed_at:
            if len(missed_at) > 1:
                context.times[key] = missed_at[:-1]
            return missed_at[-1]
        return context.floor(now) if context.floors else now

    def claim(self, key: str, now: int, within_ns: int) -> tuple[bool, int]:
        """
        Take this context's last miss of *key*. Returns whether there was one in the last *within_ns*, and the time at
        which a value of *key* is treated as loaded.
        """
        took = self._context().times.get(key)
        since = self.take(key, now)
        return took is not None and now - since <= within_ns, since

    def drop(self, keys: Iterable[str]) -> None:
        """This context has changed *keys* itself: what it stores from now on was not computed after their misses."""
        times = self._context().times
        for key in keys:
            times.pop(key, None)

    def forget(self) -> None:
        """This context's work is done: it stores nothing more of what it has missed."""
        task = current_task()
        if task is not None:
            self._tasks.pop(task, None)
        else:
            self._threads.context = None

    def _context(self) -> _Context:
        task = current_task()
        if task is not None:
            return self._tasks.setdefault(task, _Context())
        context: _Context | None = getattr(self._threads, "context", None)
        if context is None:
            context = self._threads.context = _Context()
        return context


def current_task() -> asyncio.Task[Any] | None:
    """The running task of this thread, None outside an event loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
