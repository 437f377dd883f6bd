"""
When a context missed which key, so that plain "get, compute, set" counts from before the computing.

A context is a task where there is one, else a thread. Each remembers a bounded number of misses.

Rule 1: a miss counts for one `set`, however long that takes: a slow computation must not store what was invalidated
meanwhile. The newest counts first, so that a computation inside a computation takes its own miss and leaves the outer
one.
Rule 2: a miss that no longer fits leaves its time behind: a key that is not remembered may be one of those, and
counts from then.
Rule 3: that time is forgotten, at the earliest after FLOOR_LASTS_NS and at the latest after twice that, so that a
loop that gives up on thousands of keys does not spoil every later `set`.
Rule 4: whether a `set` follows a miss at all is asked with `claim`, where that matters: only a recent miss says so.
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
        """A miss at *time* no longer fits."""
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
        """The time from which a `set` of *key* counts: that of this context's miss, else *now*."""
        context = self._context()
        missed_at = context.times.pop(key, ())
        if missed_at:
            if len(missed_at) > 1:
                context.times[key] = missed_at[:-1]
            return missed_at[-1]
        return context.floor(now) if context.floors else now

    def claim(self, key: str, now: int, within_ns: int) -> tuple[bool, int]:
        """
        Take this context's last miss of *key*. Returns whether there was one in the last *within_ns*, and the time from
        which a `set` of *key* counts.
        """
        took = self._context().times.get(key)
        since = self.take(key, now)
        return took is not None and now - since <= within_ns, since

    def drop(self, keys: Iterable[str]) -> None:
        """This context has itself changed *keys*: what it stores from now on has nothing to do with what it missed."""
        times = self._context().times
        for key in keys:
            times.pop(key, None)

    def forget(self) -> None:
        """This context's work is done, and nothing of what it missed will be stored any more."""
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
