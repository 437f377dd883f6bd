"""
Single flight: one load per key and process, the others wait for it.

Rule 1: nobody boards a flight whose load has become stale: who asks after an invalidation is not handed what was read
before it.
Rule 2: nobody waits for himself, be it through other flights, through tasks that a loader has started, or by blocking
the thread that flies: who would, loads on his own.
Rule 3: a flight that was given up (its task cancelled, its thread interrupted) lands nobody: who waited starts anew.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass

from .entry import AnyEntry


@dataclass(slots=True)
class Landing:
    """How a flight ended: with an entry, with the loader's error, or (neither) given up."""

    entry: AnyEntry | None = None
    error: Exception | None = None


class Flight:
    """One load under way."""

    __slots__ = ("_landing", "loaded_at", "number", "slots", "tags", "thread")

    def __init__(self, loaded_at: int, slots: tuple[int, ...], tags: tuple[str, ...]) -> None:
        self.loaded_at = loaded_at
        self.slots = slots
        self.tags = tags
        self.number = next(_numbers)
        self.thread = threading.get_ident()
        self._landing: Future[Landing] = Future()
        # A waiting coroutine that is cancelled must not cancel the flight.
        self._landing.set_running_or_notify_cancel()

    def land(self, landing: Landing) -> None:
        """Let everybody off."""
        self._landing.set_result(landing)

    def wait(self) -> Landing:
        """Wait until it lands. For who boarded it as *blocking*."""
        try:
            return self._landing.result()
        finally:
            _get_off(self, blocking=True)

    async def await_landing(self) -> Landing:
        """Wait until it lands, without blocking the event loop."""
        try:
            return await asyncio.wrap_future(self._landing)
        finally:
            _get_off(self, blocking=False)


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
        alone: bool = False,
    ) -> tuple[Flight, bool]:
        """
        Return a flight for *key*, and whether the caller is the one who flies it.

        Args:
            now: the time from which a load that begins now counts.
            still_good: whether a load of some slots, begun at some time, may be handed to who asks now.
            blocking: whether the caller would block its thread.
            alone: the caller joins nobody, and nobody joins it.
        """
        if alone:
            return _take_off(Flight(now(), slots, tags)), True
        with _lock:
            flight = self._flying.get(key)
            if flight is not None:
                both = (*flight.slots, *slots) if slots != flight.slots else slots
                if still_good(both, flight.loaded_at) and not _would_wait_for_itself(flight, blocking=blocking):
                    _get_on(flight, blocking=blocking)
                    return flight, False
            flight = self._flying[key] = Flight(now(), slots, tags)
        return _take_off(flight), True

    def leave(self, key: str, flight: Flight) -> None:
        """*flight* is about to land: nobody boards it any more. Called by who flies it."""
        _flown_here.set(tuple(number for number in _flown_here.get() if number != flight.number))
        with _lock:
            if self._flying.get(key) is flight:
                del self._flying[key]

    def __len__(self) -> int:
        return len(self._flying)


# All flights of the process share one lock, held for microseconds on a miss: circles of waiting run through several
# caches.
_lock = threading.Lock()
_numbers = itertools.count()
# A context, and not a task or a thread: what a loader starts (tasks, a loop, asyncio.to_thread) inherits it.
_flown_here: ContextVar[tuple[int, ...]] = ContextVar("invalidator_flown_here", default=())
_waiting: dict[int, list[Flight]] = {}
"""By the number of a flight: those that its loader waits for."""
_blocked: dict[int, Flight] = {}
"""By thread: the flight that it waits for, and with it every task it runs."""


def _take_off(flight: Flight) -> Flight:
    _flown_here.set((*_flown_here.get(), flight.number))
    return flight


def _get_on(flight: Flight, *, blocking: bool) -> None:
    for number in _flown_here.get():
        _waiting.setdefault(number, []).append(flight)
    if blocking:
        _blocked[threading.get_ident()] = flight


def _get_off(flight: Flight, *, blocking: bool) -> None:
    with _lock:
        for number in _flown_here.get():
            flights = _waiting.get(number, [])
            if flight in flights:
                flights.remove(flight)
            if not flights:
                _waiting.pop(number, None)
        if blocking:
            _blocked.pop(threading.get_ident(), None)


def _would_wait_for_itself(flight: Flight, *, blocking: bool) -> bool:
    mine, me = _flown_here.get(), threading.get_ident()
    seen: set[int] = set()
    ahead = [flight]
    while ahead:
        at = ahead.pop()
        if at.number in mine or (blocking and at.thread == me):
            return True
        if at.number not in seen:
            seen.add(at.number)
            ahead += _waiting.get(at.number, ())
            if at.thread in _blocked:
                ahead.append(_blocked[at.thread])
    return False


def _go_on_in_child() -> None:
    """The threads that waited do not exist in a forked child."""
    _waiting.clear()
    _blocked.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_go_on_in_child)
