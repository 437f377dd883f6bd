"""
Single flight: one load per key and process, the others wait for it.

Rule 1: nobody boards a flight whose load has become stale: who asks after an invalidation is not handed what was read
before it.
Rule 2: nobody waits for himself, be it through other flights: who would, loads on his own.
Rule 3: a flight that was given up (its task cancelled, its thread interrupted) lands nobody: who waited starts anew.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from .entry import AnyEntry
from .misses import current_task


@dataclass(slots=True)
class Landing:
    """How a flight ended: with an entry, with the loader's error, or (neither) given up."""

    entry: AnyEntry | None = None
    error: Exception | None = None


class Flight:
    """One load under way."""

    __slots__ = ("_landing", "loaded_at", "owner", "slots", "tags", "thread")

    def __init__(self, loaded_at: int, slots: tuple[int, ...], tags: tuple[str, ...], owner: object) -> None:
        self.loaded_at = loaded_at
        self.slots = slots
        self.tags = tags
        self.owner = owner
        self.thread = threading.get_ident()
        self._landing: Future[Landing] = Future()
        # A waiting coroutine that is cancelled must not cancel the flight.
        self._landing.set_running_or_notify_cancel()

    def land(self, landing: Landing) -> None:
        """Let everybody off."""
        self._landing.set_result(landing)

    def wait(self) -> Landing:
        """Wait until it lands."""
        with _Waiting(self):
            return self._landing.result()

    async def await_landing(self) -> Landing:
        """Wait until it lands, without blocking the event loop."""
        with _Waiting(self):
            return await asyncio.wrap_future(self._landing)


class Flights:
    """The loads under way of one cache, by key."""

    def __init__(self) -> None:
        self._flying: dict[str, Flight] = {}

    def board(
        self,
        key: str,
        slots: tuple[int, ...],
        tags: tuple[str, ...],
        *,
        now: Callable[[], int],
        still_good: Callable[[tuple[int, ...], int], bool],
        blocking: bool,
    ) -> tuple[Flight, bool]:
        """
        Return a flight for *key*, and whether the caller is the one who flies it.

        Args:
            still_good: whether a load of some slots, begun at some time, may be handed to who asks now.
            blocking: whether the caller would block its thread.
        """
        me = _myself()
        with _lock:
            flight = self._flying.get(key)
            if flight is not None:
                both = (*flight.slots, *slots) if slots != flight.slots else slots
                if still_good(both, flight.loaded_at) and not _would_wait_for_itself(me, flight, blocking=blocking):
                    return flight, False
            flight = self._flying[key] = Flight(now(), slots, tags, me)
            return flight, True

    def leave(self, key: str, flight: Flight) -> None:
        """*flight* is about to land: nobody boards it any more."""
        with _lock:
            if self._flying.get(key) is flight:
                del self._flying[key]

    def __len__(self) -> int:
        return len(self._flying)


class _Waiting:
    """Marks the current task or thread as waiting for a flight, for rule 2."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._me = _myself()

    def __enter__(self) -> None:
        _waiting[self._me] = self._flight

    def __exit__(self, *exception: object) -> None:
        _waiting.pop(self._me, None)


# All flights of the process share one lock, held for microseconds on a miss: circles of waiting run through several
# caches.
_lock = threading.Lock()
_waiting: dict[object, Flight] = {}


def _myself() -> object:
    return current_task() or threading.get_ident()


def _would_wait_for_itself(me: object, flight: Flight, *, blocking: bool) -> bool:
    if blocking and not isinstance(flight.owner, int) and flight.thread == threading.get_ident():
        return True  # it is flown by a task of this very thread, which we would block
    at: Flight | None = flight
    seen = 0
    while at is not None and seen <= len(_waiting):
        if at.owner == me:
            return True
        at = _waiting.get(at.owner)
        seen += 1
    return False


def _go_on_in_child() -> None:
    """The threads that waited do not exist in a forked child."""
    _waiting.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_go_on_in_child)
