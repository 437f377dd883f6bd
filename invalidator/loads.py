"""
Single flight: one load per key and process, in which every other caller joins.

The caller that starts a load leads it: it runs the loader. The others wait for the result.

Rule 1: nobody joins a load that has become stale: a caller that asks after an invalidation must not be given what was
read before it.
Rule 2: nobody waits for itself, be it through other loads, through tasks that a loader has started, or by blocking the
thread that leads. A caller that would starts a load of its own.
Rule 3: a load that is given up (its task cancelled, its thread interrupted) has no result: each waiter starts anew.
Rule 4: nobody waits for ever: neither for a load whose event loop was closed in the middle, nor longer than agreed. Of
those that have waited for too long, the first starts a load of its own, and the others join in that.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType

from . import forks
from .entry import AnyEntry

LOOK_AGAIN_S = 1.0
"""How often a caller that waits looks whether the load can still end."""


@dataclass(slots=True)
class Result:
    """How a load ended: with an entry, with the loader's error, or, if it was given up, with neither."""

    entry: AnyEntry | None = None
    error: Exception | None = None


class Load:
    """
    One load under way.

    Attributes:
        begun: when it began.
        loaded_at: when it is treated as loaded: then, or before.
        slots, tags: those of its key, and those that the caller gave which started it.
        number: tells it from all other loads of this process.
        thread: the one that leads it, or whose task does.
    """

    __slots__ = ("_loop", "_result", "begun", "loaded_at", "number", "slots", "tags", "thread")

    def __init__(self, begun: int, loaded_at: int, slots: tuple[int, ...], tags: tuple[str, ...]) -> None:
        self.begun = begun
        self.loaded_at = loaded_at
        self.slots = slots
        self.tags = tags
        self.number = next(_numbers)
        self.thread = threading.get_ident()
        self._loop = asyncio._get_running_loop()  # noqa: SLF001 - documented for frameworks; returns None without one
        self._result: Future[Result] = Future()
        # A waiting coroutine that is cancelled must not cancel the load.
        self._result.set_running_or_notify_cancel()

    def end(self, result: Result) -> None:
        """Give *result* to all callers that wait."""
        self._result.set_result(result)

    def wait(self, timeout_s: float = math.inf) -> Result | None:
        """
        Wait until it ends. For a caller that joined as *blocking*. None: it never will, or not within *timeout_s*.
        """
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                try:
                    return self._result.result(min(LOOK_AGAIN_S, max(0, deadline - time.monotonic())))
                except TimeoutError:
                    if self._is_given_up(deadline):
                        return None
        finally:
            _waiting.end(self, blocking=True)

    async def wait_async(self, timeout_s: float = math.inf) -> Result | None:
        """`wait`, without blocking the event loop."""
        deadline = time.monotonic() + timeout_s
        try:
            future = asyncio.wrap_future(self._result)
            while True:
                await asyncio.wait({future}, timeout=min(LOOK_AGAIN_S, max(0, deadline - time.monotonic())))
                if future.done():
                    return future.result()
                if self._is_given_up(deadline):
                    return None
        finally:
            _waiting.end(self, blocking=False)

    def _is_given_up(self, deadline: float) -> bool:
        return time.monotonic() >= deadline or (self._loop is not None and self._loop.is_closed())


class Loads:
    """
    The loads under way of one cache, by key.

    Args:
        clock: the time now.
        as_of: the time at which a load that begins now is treated as loaded.
        is_valid: whether a load of some slots, begun at some time, may be handed to a caller that asks now.
        on_failure: called when a load ends with an error.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        as_of: Callable[[], int],
        is_valid: Callable[[tuple[int, ...], int], bool],
        on_failure: Callable[[], object] = lambda: None,
    ) -> None:
        self._clock = clock
        self._as_of = as_of
        self._is_valid = is_valid
        self._on_failure = on_failure
        self._under_way: dict[str, Load] = {}

    def join_or_start(
        self, key: str, slots: tuple[int, ...], tags: tuple[str, ...], *, blocking: bool, alone: bool = False
    ) -> tuple[Load, bool]:
        """
        Return a load of *key*, and whether the caller leads it: then `lead` comes next, else `wait` or `wait_async`.

        Args:
            blocking: whether the caller would block its thread.
            alone: the caller joins nobody, and nobody joins it.
        """
        if alone:
            return _begin_to_lead(Load(self._clock(), self._as_of(), slots, tags)), True
        with _waiting.lock:
            load = self._under_way.get(key)
            if load is not None:
                both = (*load.slots, *slots) if slots != load.slots else slots
                if self._is_valid(both, load.loaded_at) and not _waiting.is_circular(load, blocking=blocking):
                    _waiting.begin(load, blocking=blocking)
                    return load, False
            load = self._under_way[key] = Load(self._clock(), self._as_of(), slots, tags)
        return _begin_to_lead(load), True

    def lead(self, key: str, load: Load) -> _Leading:
        """Return a context manager: run the loader inside, and put its entry into the result."""
        return _Leading(self, key, load)

    def end(self, key: str, load: Load, result: Result) -> None:
        """*load* has ended with *result*."""
        if result.error is not None:
            self._on_failure()
        self.close(key, load)
        load.end(result)

    def close(self, key: str, load: Load) -> None:
        """Let nobody join *load* any more: it is about to end."""
        _led_here.set(tuple(number for number in _led_here.get() if number != load.number))
        self.give_up(key, load)

    def give_up(self, key: str, load: Load) -> None:
        """Let nobody join *load* any more: a caller has waited for too long."""
        with _waiting.lock:
            if self._under_way.get(key) is load:
                del self._under_way[key]

    def __len__(self) -> int:
        return len(self._under_way)


class _Leading:
    """Whatever happens inside, the load ends. (A class, since a generator would take twice as long.)"""

    __slots__ = ("_key", "_load", "_loads", "_result")

    def __init__(self, loads: Loads, key: str, load: Load) -> None:
        self._loads = loads
        self._key = key
        self._load = load
        self._result = Result()

    def __enter__(self) -> Result:
        return self._result

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._result.error = error
        self._loads.end(self._key, self._load, self._result)


# A context, and not a task or a thread: what a loader starts (tasks, a loop, asyncio.to_thread) inherits it.
_led_here: ContextVar[tuple[int, ...]] = ContextVar("invalidator_led_here", default=())
_numbers = itertools.count()


class _Waiting:
    """
    Who waits for which loads, in all caches of this process: circles of waiting run through several of them.

    Attributes:
        lock: that of all loads, held for microseconds on a miss.
        by_load: by the number of a load, those that its loader waits for.
        by_thread: the load that a thread waits for, and with it every task it runs.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.by_load: dict[int, list[Load]] = {}
        self.by_thread: dict[int, Load] = {}
        forks.register_for_forks(self)

    def begin(self, load: Load, *, blocking: bool) -> None:
        """The caller, which holds the lock, waits for *load* from now on."""
        for number in _led_here.get():
            self.by_load.setdefault(number, []).append(load)
        if blocking:
            self.by_thread[threading.get_ident()] = load

    def end(self, load: Load, *, blocking: bool) -> None:
        """The caller waits no longer."""
        with self.lock:
            for number in _led_here.get():
                loads = self.by_load.get(number, [])
                if load in loads:
                    loads.remove(load)
                if not loads:
                    self.by_load.pop(number, None)
            if blocking:
                self.by_thread.pop(threading.get_ident(), None)

    def is_circular(self, load: Load, *, blocking: bool) -> bool:
        """Whether the caller would wait for itself if it waited for *load*."""
        mine, me = _led_here.get(), threading.get_ident()
        seen: set[int] = set()
        ahead = [load]
        while ahead:
            at = ahead.pop()
            if at.number in mine or (blocking and at.thread == me):
                return True
            if at.number not in seen:
                seen.add(at.number)
                ahead += self.by_load.get(at.number, ())
                if at.thread in self.by_thread:
                    ahead.append(self.by_thread[at.thread])
        return False

    def fork_locks(self) -> Iterable[forks.Lock]:
        """See `forks.ForkOwner`."""
        return (self.lock,)

    def after_fork_in_child(self) -> None:
        """The threads that waited do not exist there."""
        self.by_load.clear()
        self.by_thread.clear()


_waiting = _Waiting()


def _begin_to_lead(load: Load) -> Load:
    _led_here.set((*_led_here.get(), load.number))
    return load
