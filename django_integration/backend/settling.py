"""
Work on second levels that a caller does not wait for: one thread of this process proves fills and makes up for deletes.

A fill that read the source before an invalidation, and arrived in the second level after the invalidation had deleted
the key there, is stale: it has to be taken back. Only a lease proof that began after the fill shows every invalidation
that Redis had accepted by then, so each fill waits here for one. A delete that failed waits here to be made, and one
whose invalidation took long to be accepted waits to be checked again.

Rule 1: what cannot be done now is tried again every RETRY_S seconds. The list of tasks is bounded.
Rule 2: a forked child leaves its parent's tasks to the parent. A process that ends takes back its fills that are not
proven.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import pickle
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from django.core.cache.backends.base import BaseCache
from django.core.exceptions import ImproperlyConfigured

from invalidator import ClosedError, Invalidator, InvalidatorError, Receipt
from invalidator.extending import hand_out, register_for_forks

from .. import runtime
from ..conf import conf

logger = logging.getLogger(__name__)

MOST_PENDING = 10_000
"""Tasks that wait; a fill beyond that is not made."""
GRACE_NS = 500_000_000
"""An invalidation that is accepted later than this after its delete is checked again. Usually it takes 1 ms."""
RETRY_S = 0.5
"""How long a task waits that could not be done."""
IDLE_S = 5.0
"""How long the thread waits for a task before it ends."""

_MISSING: Any = object()


class Level(Protocol):
    """What settling needs of a second level."""

    @property
    def bus(self) -> Invalidator:
        """The bus on which its names are published."""

    @property
    def cache(self) -> BaseCache:
        """The cache itself, that of this thread or task."""

    @property
    def place_tag(self) -> str:
        """The tag of everything in its LOCATION."""

    def take_back(self, names: Iterable[str]) -> None:
        """Delete *names* and publish them. Raises what the cache or the bus raises."""

    def clear(self) -> None:
        """Delete everything and publish that. Raises likewise."""


@dataclass(frozen=True, slots=True)
class UnprovenFill:
    """A value that was added before *done_at*. It was loaded from the source after *since*."""

    level: Level
    name: str
    kept: Any
    since: int
    done_at: int


@dataclass(frozen=True, slots=True)
class Recheck:
    """Names that were deleted so long before *receipt* was accepted that a stale fill may have arrived in between."""

    level: Level
    names: tuple[str, ...]
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class OwedDelete:
    """Names that could not be deleted; without any, a clear that could not be made."""

    level: Level
    names: tuple[str, ...]


Task = UnprovenFill | Recheck | OwedDelete


class Settler:
    """The thread that does the tasks, and the tasks."""

    def __init__(self) -> None:
        self._start_anew()

    def _start_anew(self) -> None:
        self._tasks: deque[Task] = deque()
        self._busy: list[Task] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def is_full(self) -> bool:
        """Whether there are so many tasks that no further fill may be made."""
        return len(self._tasks) >= MOST_PENDING

    def waiting(self, level: Level) -> int:
        """How many tasks there are for *level*."""
        return sum(task.level is level for task in [*self._tasks, *self._busy])

    def add(self, task: Task) -> None:
        """Do *task* as soon as possible, in the thread."""
        with self._changed:
            # No fill is added beyond MOST_PENDING: so much is owed after a long outage only. One clear is as good.
            if len(self._tasks) >= 2 * MOST_PENDING:
                self._tasks = deque(OwedDelete(level, ()) for level in {task.level for task in self._tasks})
            self._tasks.append(task)
            if self._thread is None:
                self._start_thread()
            self._changed.notify_all()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="invalidator-l2", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the interpreter is going down, or the system is out of threads
            logger.warning("second_level_settling_cannot_start tasks=%d error=%s", len(self._tasks), error)
        else:
            self._thread = thread

    def settle(self, timeout: float) -> bool:
        """Wait until no task is left, at most *timeout* seconds. Returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._tasks or self._busy), timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy.clear()
                self._changed.notify_all()
                if not self._changed.wait_for(lambda: self._tasks, IDLE_S):
                    self._thread = None
                    return
                self._busy = list(self._tasks)
                self._tasks.clear()
            try:
                again = self._do(self._busy)
            except BaseException as error:  # a client library's SystemExit, too: the tasks would stay for ever
                if type(error).__name__ == "GreenletExit":
                    self._leave_to_another()
                    raise
                logger.exception("second_level_settling_failed tasks=%d", len(self._busy))
                again = self._busy
            if again:
                with self._changed:
                    self._tasks.extendleft(reversed(again))
                    self._changed.wait(RETRY_S)

    def _leave_to_another(self) -> None:
        """gevent ends the thread: the next task starts one that does all that is left."""
        with self._changed:
            self._tasks.extendleft(reversed(self._busy))
            self._busy.clear()
            self._thread = None

    def _do(self, tasks: list[Task]) -> list[Task]:
        """Do what can be done. Returns the tasks that have to be tried again."""
        fills = [task for task in tasks if isinstance(task, UnprovenFill)]
        # Tasks that need not wait for a proof come first.
        again: list[Task] = [task for task in tasks if not isinstance(task, UnprovenFill) and not _do_task(task)]
        if fills and runtime.bus().wait_until_proven(max(fill.done_at for fill in fills) + GRACE_NS):
            again += [fill for fill in fills if not _do_task(fill)]
        else:
            again += fills
        return again

    def take_all_back(self, timeout: float) -> None:
        """The process ends: delete the fills that are not proven within *timeout* seconds."""
        if not (self._tasks or self._busy) or self.settle(timeout):
            return
        with self._changed:
            left = [*self._busy, *self._tasks]
            self._tasks.clear()
        for task in left:
            if isinstance(task, UnprovenFill):
                with contextlib.suppress(Exception):  # the second level is away, and this process is about to end
                    task.level.cache.delete(task.name)

    def abandon(self) -> None:
        """Forget every task that waits."""
        with self._changed:
            self._tasks.clear()
            self._changed.notify_all()

    def fork_locks(self) -> tuple[()]:
        """See `ForkOwner`: a child begins with nothing to do, so a fork need not wait."""
        return ()

    def after_fork_in_child(self) -> None:
        """Leave the tasks to the parent, whose thread does not exist here."""
        self._start_anew()


def _do_task(task: Task) -> bool:
    """Do *task*. Returns False if it has to be tried again."""
    level = task.level
    try:
        match task:
            case UnprovenFill(name=name, since=since):
                if level.bus.was_invalidated((name,), (level.place_tag,), since=since):
                    found = level.cache.get(name, _MISSING)
                    if found is not _MISSING and not surely_differ(found, hand_out(task.kept)):
                        level.take_back([name])
            case Recheck(names=names, receipt=receipt):
                if receipt.queued:
                    return False
                if arrived := level.cache.get_many(names):
                    level.take_back(arrived)
            case OwedDelete(names=names):
                if names:
                    level.take_back(names)
                else:
                    level.clear()
    except (ClosedError, ImproperlyConfigured):
        return True  # the bus is gone, and nothing can be published any more
    except InvalidatorError:
        return True  # the values were deleted; the publisher has logged why it cannot publish
    except Exception:  # noqa: BLE001 - the second level is away, which it has logged itself
        return False
    return True


def surely_differ(one: Any, other: Any) -> bool:
    """Whether two values surely differ, though one may have been through a serializer that changes types."""
    if (kind := _kind(one)) is None or (other_kind := _kind(other)) is None:
        return False
    if kind != other_kind:
        return True
    if kind == "mapping":
        return len(one) != len(other) or any(key in other and surely_differ(one[key], other[key]) for key in one)
    if kind == "sequence":
        return len(one) != len(other) or any(map(surely_differ, one, other))
    return type(one) is type(other) and bool(one != other) and not (isinstance(one, float) and math.isnan(one))


def are_surely_equal(one: Any, other: Any) -> bool:
    """Whether two values are surely equal. Each has been through a serializer, or is plain."""
    kind = _kind(one)
    if kind != _kind(other):
        return False
    if kind == "mapping":
        return len(one) == len(other) and all(key in other and are_surely_equal(one[key], other[key]) for key in one)
    if kind == "sequence":
        return len(one) == len(other) and all(map(are_surely_equal, one, other))
    if kind is not None:
        return type(one) is type(other) and bool(one == other)
    try:
        return pickle.dumps(one, pickle.HIGHEST_PROTOCOL) == pickle.dumps(other, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - whatever the application's classes raise
        return False


def _kind(value: Any) -> str | None:
    return _KINDS.get(type(value))


_KINDS: dict[type, str] = {
    **dict.fromkeys((str, bytes, int, bool, float), "one"),
    type(None): "nothing",
    dict: "mapping",
    list: "sequence",
    tuple: "sequence",
}
settler = Settler()
register_for_forks(settler)


def settle(timeout: float = 10.0) -> bool:
    """
    Wait until every fill of this process is proven or taken back, at most *timeout* seconds. For tests, and for scripts
    that fill a cache and end.

    Returns:
        whether nothing is left to do.
    """
    return settler.settle(timeout)


def abandon() -> None:
    """Leave what this process has filled as it is. For the end of a test, which closes the bus that would prove it."""
    settler.abandon()


def _close_timeout() -> float:
    try:
        return conf.close_timeout
    except ImproperlyConfigured:
        return 0.0


atexit.register(lambda: settler.take_all_back(_close_timeout()))
