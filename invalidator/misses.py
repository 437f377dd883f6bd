"""
When a context missed which key, so that plain "get, compute, set" counts from before the computing.

A context is a task where there is one, else a thread. Each remembers a bounded number of misses.

Rule 1: a miss counts for one `set`, however long that takes: a slow computation must not store what was invalidated
meanwhile. The newest counts first, so that a computation inside a computation takes its own miss and leaves the outer
one.
Rule 2: a miss that no longer fits leaves its time behind: a key that is not remembered may be one of those, and
counts from then.
Rule 3: that time is forgotten after FLOOR_LASTS_NS, so that a loop that gave up on a thousand keys does not spoil
every later `set`.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Any

MOST_MISSES = 1024
"""Of one context: more keys than a page reads before it stores any of them."""
DEEPEST = 3
"""Misses of one key that wait for their `set`, besides the newest."""
FLOOR_LASTS_NS = 60 * 1_000_000_000


class _Context:
    __slots__ = ("floor", "floor_ends", "times")

    def __init__(self) -> None:
        self.times: dict[str, tuple[int, ...]] = {}
        self.floor: int | None = None
        self.floor_ends = 0


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
            oldest = context.times.pop(next(iter(context.times)))[0]
            if context.floor is None or now >= context.floor_ends:
                context.floor = oldest
            context.floor_ends = now + FLOOR_LASTS_NS

    def take(self, key: str, now: int) -> int:
        """The time from which a `set` of *key* counts: that of this context's miss, else *now*."""
        context = self._context()
        missed_at = context.times.pop(key, ())
        if missed_at:
            if len(missed_at) > 1:
                context.times[key] = missed_at[:-1]
            return missed_at[-1]
        if context.floor is not None and now < context.floor_ends:
            return context.floor
        return now

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
