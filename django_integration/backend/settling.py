"""
What a second level still owes: fills to be proven, deletes to be made, done by one thread of this process.

A fill that read the source before an invalidation and arrived after its delete has to be taken back. Only a lease proof
that began after the fill shows every invalidation that was accepted up to then, so fills wait here for one. A delete
that failed, or that took long to be published, waits here for its turn.

Rule 1: what cannot be done now is tried again every RETRY_S seconds, and nothing waits without a bound.
Rule 2: a forked child leaves its parent's work to the parent; a process that ends takes back what nobody has proven.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from django.core.cache.backends.base import BaseCache
from django.core.exceptions import ImproperlyConfigured

from invalidator import ClosedError, Invalidator, InvalidatorError, Receipt
from invalidator.extending import register_for_forks

from .. import runtime
from ..conf import conf
from .copies import hand_out

logger = logging.getLogger(__name__)

MOST_PENDING = 10_000
"""Fills, and looks, that wait for a proof; a fill beyond that is not made."""
GRACE_NS = 500_000_000
"""Between a delete and its telling lies a millisecond."""
RETRY_S = 0.5
"""How often what is owed to a second level is tried."""
IDLE_S = 5.0
"""How long the thread waits for work before it ends."""

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
        """Delete *names* and publish them again. Raises what the cache or the bus raises."""

    def empty(self) -> None:
        """Make up for a `clear` that failed. Raises likewise."""


@dataclass(frozen=True, slots=True)
class Fill:
    """A value that was added at *done_at*, from what the source held after *since*."""

    level: Level
    name: str
    kept: Any
    since: int
    done_at: int


@dataclass(frozen=True, slots=True)
class Look:
    """Names that were deleted before *receipt* was accepted."""

    level: Level
    names: tuple[str, ...]
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Owed:
    """Names that could not be deleted; without any, a clear."""

    level: Level
    names: tuple[str, ...]


_Task = Fill | Look | Owed


class _Settling:
    """The thread that proves fills, looks again, and makes up for deletes."""

    def __init__(self) -> None:
        self._tasks: deque[_Task] = deque()
        self._busy: list[_Task] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def is_full(self) -> bool:
        """Whether no fill can be watched."""
        return len(self._tasks) >= MOST_PENDING

    def waiting(self, level: Level) -> int:
        """How much there is to do for *level*."""
        return sum(task.level is level for task in [*self._tasks, *self._busy])

    def watch(self, task: _Task) -> None:
        """Take care of *task*."""
        with self._changed:
            if len(self._tasks) >= 2 * MOST_PENDING:  # only what is owed comes here, after an hour of outage
                self._tasks = deque(Owed(level, ()) for level in {task.level for task in self._tasks})
            self._tasks.append(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="invalidator-l2", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self, timeout: float) -> bool:
        """Wait until nothing is to be done, at most *timeout* seconds. Returns whether that is so."""
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
            except Exception:
                logger.exception("second_level_settling_failed tasks=%d", len(self._busy))
                again = self._busy
            if again:
                with self._changed:
                    self._tasks.extendleft(reversed(again))
                    self._changed.wait(RETRY_S)

    def _do(self, tasks: list[_Task]) -> list[_Task]:
        """Do what can be done. Returns the rest."""
        fills = [task for task in tasks if isinstance(task, Fill)]
        # What need not wait for a proof comes first.
        again: list[_Task] = [task for task in tasks if not isinstance(task, Fill) and not _is_done(task)]
        if fills and runtime.bus().wait_until_proven(max(fill.done_at for fill in fills) + GRACE_NS):
            again += [fill for fill in fills if not _is_done(fill)]
        else:
            again += fills
        return again

    def take_all_back(self, timeout: float) -> None:
        """The process ends: who cannot wait for a proof takes his fills back."""
        if not (self._tasks or self._busy) or self.settle(timeout):
            return
        with self._changed:
            left = [*self._busy, *self._tasks]
            self._tasks.clear()
        for task in left:
            if isinstance(task, Fill):
                with contextlib.suppress(Exception):  # it is away, and so will we be
                    task.level.cache.delete(task.name)

    def abandon(self) -> None:
        """Do nothing more of what waits."""
        with self._changed:
            self._tasks.clear()
            self._changed.notify_all()

    def fork_locks(self) -> tuple[()]:
        """See `ForkOwner`: a child begins with nothing to do, so a fork need not wait."""
        return ()

    def after_fork_in_child(self) -> None:
        """The parent takes care of its own."""
        self.__init__()  # type: ignore[misc]


def _is_done(task: _Task) -> bool:
    level = task.level
    try:
        match task:
            case Fill(name=name, since=since):
                if level.bus.was_invalidated((name,), (level.place_tag,), since=since):
                    found = level.cache.get(name, _MISSING)
                    if found is not _MISSING and not surely_differ(found, hand_out(task.kept)):
                        level.take_back([name])
            case Look(names=names, receipt=receipt):
                if receipt.queued:
                    return False
                if came := level.cache.get_many(names):
                    level.take_back(came)
            case Owed(names=names):
                if names:
                    level.take_back(names)
                else:
                    level.empty()
    except (ClosedError, ImproperlyConfigured):
        return True  # nobody can be told any more
    except InvalidatorError:
        return True  # it was deleted, and the publisher has said why it cannot tell
    except Exception:  # noqa: BLE001 - the second level is away; reported by _call
        return False
    return True


def surely_differ(one: Any, other: Any) -> bool:
    """Whether two values cannot be one that went through a serializer, which may change its types."""
    if (kind := _kind(one)) is None or (other_kind := _kind(other)) is None:
        return False
    if kind != other_kind:
        return True
    if kind == "mapping":
        return len(one) != len(other) or any(key in other and surely_differ(one[key], other[key]) for key in one)
    if kind == "sequence":
        return len(one) != len(other) or any(map(surely_differ, one, other))
    return type(one) is type(other) and bool(one != other) and not (isinstance(one, float) and math.isnan(one))


def _kind(value: Any) -> str | None:
    return _KINDS.get(type(value))


_KINDS: dict[type, str] = {
    **dict.fromkeys((str, bytes, int, bool, float), "one"),
    type(None): "nothing",
    dict: "mapping",
    list: "sequence",
    tuple: "sequence",
}
settler = _Settling()
register_for_forks(settler)


def settle(timeout: float = 10.0) -> bool:
    """
    Wait until every fill of this process is proven or taken back, at most *timeout* seconds. Returns whether that is
    so. For tests, and for scripts that fill a cache.
    """
    return settler.settle(timeout)


def abandon() -> None:
    """Leave what this process has filled as it is. For tests, at their end: the bus by which it was proven is gone."""
    settler.abandon()


def _close_timeout() -> float:
    try:
        return conf.close_timeout
    except ImproperlyConfigured:
        return 0.0


atexit.register(lambda: settler.take_all_back(_close_timeout()))
