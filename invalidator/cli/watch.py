"""
What `watch` shows: the messages of one bus, and what became of its connection, as lines in their order.

No argument parsing and no printing here; `command_line.py` does both.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..status import Invalidation, Status
from .output import as_words

BACKLOG = 10_000
"""Lines that wait for a slow terminal or pipe; more are counted instead of kept."""


class Line(NamedTuple):
    """
    Something that `watch` shows.

    Args:
        at: when it was received, or noticed.
        type: "invalidate" or "clear" (a message); "listening", "disconnected", "reconnected", "gap", "flush" (our
            connection, and what may have been missed) or "skipped" (lines we could not print as fast as they came).
        facts: ready for JSON.
    """

    at: datetime
    type: str
    facts: dict[str, Any]
    is_message: bool = False

    def as_json(self) -> str:
        """One JSON object, in ASCII."""
        return json.dumps({"at": self.at.isoformat(timespec="milliseconds"), "type": self.type, **self.facts})

    def as_text(self) -> str:
        """For people."""
        return "  ".join([f"{self.at:%H:%M:%S}.{self.at.microsecond // 1000:03}", self.type, *as_words(self.facts)])


class Connection:
    """What became of the connection, from one look at the status to the next."""

    def __init__(self) -> None:
        self.was_live = False
        self._is_live = False
        self._reconnects = 0
        self._shown_error: str | None = None
        self._shown_gap: str | None = None

    def changes(self, status: Status) -> Iterator[Line]:
        """A line for each change since the last look. However short, a lost connection or a gap is not missed."""
        if status.last_gap and status.last_gap.reason != self._shown_gap:  # the reason names ids: no two are alike
            self._shown_gap = status.last_gap.reason
            yield _new_line("gap", reason=self._shown_gap)
        lost = status.reconnects > self._reconnects or status.state not in ("live", "replaying")
        self._reconnects = status.reconnects
        if self._is_live and lost:
            self._is_live = False
            yield self._disconnected(status.last_error)
        elif not self._is_live and status.state != "live" and status.last_error not in (None, self._shown_error):
            yield self._disconnected(status.last_error)
        if not self._is_live and status.state == "live":
            yield _new_line("reconnected" if self.was_live else "listening", namespace=status.namespace)
            self._is_live = self.was_live = True
            self._shown_error = None

    def _disconnected(self, reason: str | None) -> Line:
        self._shown_error = reason
        return _new_line("disconnected", reason=reason or "unknown: it is back already")


class Feed:
    """
    The lines of one bus, in the order in which they happened: appended by the listener's thread, taken by the main one.

    Args:
        look_up: the status of the bus.
        backlog: how many lines may wait.
    """

    def __init__(self, look_up: Callable[[], Status], backlog: int = BACKLOG) -> None:
        self._look_up = look_up
        self._lines: queue.Queue[Line] = queue.Queue(backlog)
        self._connection = Connection()
        self._skipped = 0
        self._lock = threading.Lock()

    def receive(self, invalidation: Invalidation) -> None:
        """
        Append a line, after those for what became of the connection before. A callback for `on_invalidate`; it does not
        wait.
        """
        with self._lock:
            self._look()
            # The flush of the first subscription is no news: before it nothing was shown that could be incomplete.
            if invalidation.is_message or self._connection.was_live:
                self._put(describe(invalidation))

    def take(self, timeout_s: float) -> Line | None:
        """Return the next line; None if there is none within *timeout_s* seconds."""
        with self._lock:
            self._look()
        try:
            return self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def _look(self) -> None:
        if self._skipped and not self._lines.full():
            self._lines.put_nowait(_new_line("skipped", lines=self._skipped))
            self._skipped = 0
        for line in self._connection.changes(self._look_up()):
            self._put(line)

    def _put(self, line: Line) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._skipped += 1


def describe(invalidation: Invalidation) -> Line:
    """Return the line of a message, or of a flush."""
    if not invalidation.is_message:
        return _new_line("flush", reason=invalidation.reason)
    names = {} if invalidation.everything else {"keys": invalidation.keys, "tags": invalidation.tags}
    return _new_line(invalidation.reason, is_message=True, **names, node=invalidation.node, id=invalidation.id)


def _new_line(kind: str, *, is_message: bool = False, **facts: Any) -> Line:
    return Line(datetime.now(UTC).astimezone(), kind, facts, is_message)
