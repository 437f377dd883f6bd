"""
The connections on which the threads of a process publish: a bounded number, lent to one thread at a time.

Rule 1: a connection that failed is closed, never lent again. One that did not answer in time, though it had been idle,
was perhaps forgotten by something on the way (a NAT, a load balancer), which says nothing: those that have been idle
for as long are closed with it.
Rule 2: what was idle for `MOST_IDLE_S` is not lent again.
Rule 3: a thread that finds all of them lent waits for one.
Rule 4: an exception may strike at any line (a signal handler's, a greenlet's time-out). A connection that is neither
given back nor closed then is closed when its `Lent` is collected, and another may be made in its place.
"""

from __future__ import annotations

import contextlib
import queue
import time
import weakref
from collections.abc import Callable
from typing import Any

MOST_IDLE_S = 60.0
"""Seconds. Load balancers and NATs forget connections after some minutes: 350 s and 240 s are the usual shortest."""
LOOK_AGAIN_S = 0.02
"""Seconds between two looks of a thread that waits, in case the connection it was to get was taken by another."""


class Lent:
    """
    A place among the connections, and the connection in it, if there is one. Whoever holds it may use the connection.

    Attributes:
        connection: one of redis-py's, or None if there was none yet.
        used_at: seconds, when it was last given back.
    """

    __slots__ = ("_places", "connection", "used_at")

    def __init__(self, places: weakref.ref[queue.SimpleQueue[Lent]]) -> None:
        self._places = places  # weak: a queue that is given up must not be filled again by what was in it
        self.connection: Any = None
        self.used_at = 0.0

    def disconnect(self) -> None:
        """Close the connection."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.disconnect()

    def __del__(self) -> None:
        # Rule 4. A `SimpleQueue` may be used by a finalizer, whatever that interrupts.
        with contextlib.suppress(Exception):
            self.disconnect()
            places = self._places()
            if places is not None:
                places.put(Lent(self._places))


class Connections:
    """
    The connections of one process to one server.

    Args:
        make: makes one, which connects when it is first used.
        most: how many there may be.
        wait_s: seconds that a thread waits for one.
        clock: seconds.
    """

    def __init__(
        self, make: Callable[[], Any], *, most: int, wait_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._most = most
        self._wait_s = wait_s
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a forked child: the parent's connections stay open, but for the child's descriptors."""
        self._idle: list[Lent] = []  # the last that was given back is lent first, so that the others grow old
        self._places: queue.SimpleQueue[Lent] = queue.SimpleQueue()
        for _ in range(self._most):
            self._places.put(Lent(weakref.ref(self._places)))
        self._waiting = 0

    def lend(self) -> Lent | None:
        """Return one for the caller alone, which gives it back or drops it. None: all were lent for `wait_s`."""
        while True:
            try:
                lent = self._idle.pop()
            except IndexError:
                return self._lend_another()
            if self._clock() - lent.used_at < MOST_IDLE_S:
                return lent
            self._close_idle(lent)

    def _lend_another(self) -> Lent | None:
        deadline = self._clock() + self._wait_s
        self._waiting += 1
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    lent = self._places.get_nowait()
                    break
                with contextlib.suppress(IndexError):
                    return self._idle.pop()
                left = deadline - self._clock()
                if left <= 0:
                    return None
                with contextlib.suppress(queue.Empty):
                    lent = self._places.get(timeout=min(left, LOOK_AGAIN_S))
                    break
        finally:
            self._waiting -= 1
        if lent.connection is None:
            lent.connection = self._make()
        return lent

    def give_back(self, lent: Lent) -> None:
        """The caller has read a whole answer, and uses *lent* no more."""
        lent.used_at = self._clock()
        if self._waiting > 0:
            self._places.put(lent)  # which wakes one of those that wait
        else:
            self._idle.append(lent)

    def drop(self, lent: Lent, *, and_as_old: bool = False) -> None:
        """
        Close the connection of *lent*, which failed.

        Args:
            and_as_old: close those, too, that have been idle for as long as it had been.
        """
        self._close_idle(lent)
        if and_as_old:
            self.close(idle_since=lent.used_at)

    def close(self, *, idle_since: float = float("inf")) -> None:
        """Close those that are idle, and were last used up to *idle_since*."""
        kept = []
        while self._idle:
            with contextlib.suppress(IndexError):
                lent = self._idle.pop()
                if lent.used_at <= idle_since:
                    self._close_idle(lent)
                else:
                    kept.append(lent)
        self._idle.extend(reversed(kept))

    def _close_idle(self, lent: Lent) -> None:
        lent.disconnect()
        self._places.put(lent)
