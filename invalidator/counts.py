"""What happened in one near cache, counted."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from .status import CAUSES, Cause

EVENTS = ("misses", "loads", "load_failures", "joins", "fills", "refused_fills")
"""Hits are counted by the entries themselves."""


class Counts:
    """Counts by event, and evictions by cause; for threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._events = dict.fromkeys(EVENTS, 0)
        self._evictions: dict[Cause, int] = dict.fromkeys(CAUSES, 0)

    def add(self, event: str) -> None:
        """Count one of EVENTS."""
        with self.lock:
            self._events[event] += 1

    def add_evictions(self, causes: Iterable[Cause]) -> None:
        """Count entries that have left."""
        with self.lock:
            for cause in causes:
                self._evictions[cause] += 1

    def read(self) -> tuple[dict[str, int], dict[Cause, int]]:
        """Return the counts by event, and those by cause, of one moment."""
        with self.lock:
            return dict(self._events), dict(self._evictions)
