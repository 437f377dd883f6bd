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
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass

from . import forks
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
            _waiting.end(self, blocking=True)

    async def await_landing(self) -> Landing:
        """Wait until it lands, without blocking the event loop."""
        try:
            return await asyncio.wrap_future(self._landing)
        finally:
            _waiting.end(self, blocking=False)


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
        with _waiting.lock:
            flight = self._flying.get(key)
            if flight is not None:
                both = (*flight.slots, *slots) if slots != flight.slots else slots
                if still_good(both, flight.loaded_at) and not _waiting.is_circular(flight, blocking=blocking):
                    _waiting.begin(flight, blocking=blocking)
                    return flight, False
            flight = self._flying[key] = Flight(now(), slots, tags)
        return _take_off(flight), True

    def leave(self, key: str, flight: Flight) -> None:
        """*flight* is about to land: nobody boards it any more. Called by who flies it."""
        _flown_here.set(tuple(number for number in _flown_here.get() if number != flight.number))
        with _waiting.lock:
            if self._flying.get(key) is flight:
                del self._flying[key]

    def __len__(self) -> int:
        return len(self._flying)


# A context, and not a task or a thread: what a loader starts (tasks, a loop, asyncio.to_thread) inherits it.
_flown_here: ContextVar[tuple[int, ...]] = ContextVar("invalidator_flown_here", default=())
_numbers = itertools.count()


class _Waiting:
    """
    Who waits for which flights, in all caches of this process: circles of waiting run through several of them.

    Attributes:
        lock: that of all flights, held for microseconds on a miss.
        by_flight: by the number of a flight, those that its loader waits for.
        by_thread: the flight that a thread waits for, and with it every task it runs.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_flight: dict[int, list[Flight]] = {}
        self.by_thread: dict[int, Flight] = {}
        forks.register_for_forks(self)

    def begin(self, flight: Flight, *, blocking: bool) -> None:
        """The caller, who holds the lock, waits for *flight* from now on."""
        for number in _flown_here.get():
            self.by_flight.setdefault(number, []).append(flight)
        if blocking:
            self.by_thread[threading.get_ident()] = flight

    def end(self, flight: Flight, *, blocking: bool) -> None:
        """The caller waits no longer."""
        with self.lock:
            for number in _flown_here.get():
                flights = self.by_flight.get(number, [])
                if flight in flights:
                    flights.remove(flight)
                if not flights:
                    self.by_flight.pop(number, None)
            if blocking:
                self.by_thread.pop(threading.get_ident(), None)

    def is_circular(self, flight: Flight, *, blocking: bool) -> bool:
        """Whether the caller would wait for itself if it waited for *flight*."""
        mine, me = _flown_here.get(), threading.get_ident()
        seen: set[int] = set()
        ahead = [flight]
        while ahead:
            at = ahead.pop()
            if at.number in mine or (blocking and at.thread == me):
                return True
            if at.number not in seen:
                seen.add(at.number)
                ahead += self.by_flight.get(at.number, ())
                if at.thread in self.by_thread:
                    ahead.append(self.by_thread[at.thread])
        return False

    def fork_locks(self) -> Iterable[forks.Lock]:
        """See `forks.ForkOwner`."""
        return (self.lock,)

    def after_fork_in_child(self) -> None:
        """The threads that waited do not exist there."""
        self.by_flight.clear()
        self.by_thread.clear()


_waiting = _Waiting()


def _take_off(flight: Flight) -> Flight:
    _flown_here.set((*_flown_here.get(), flight.number))
    return flight
