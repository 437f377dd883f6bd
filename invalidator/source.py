"""
How the calling thread or task sees the source, where that is not as it is now, and what it reads.

Inside a database transaction it may see another truth than everybody else: what it has itself written and not committed
yet, or, with snapshot isolation, the rows as they were when the transaction began. And who makes a value of others has
to know which. A near cache asks and tells its `SourceView` when it hands out or keeps anything; the library itself
knows of no transaction and of no recorder (`django_integration.source` does).

Rule 1: what a context has changed and not committed, it reads past the cache.
Rule 2: what a context may have computed from uncommitted data is stored for nobody, and handed to nobody else.
Rule 3: what a context reads counts from when its view of the source was taken, not from when it looks.
Rule 4: whatever a context was told by a cache is told to its view: a value, and that there was none.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol

from .entry import AnyEntry
from .ledger import Clock


class SourceView(Protocol):
    """How the calling thread or task sees the source."""

    @property
    def attention(self) -> Sized:
        """True while some context of this process has uncommitted changes, or records: only then a hit asks more."""

    def as_of(self) -> int:
        """The time, of the bus' clock, from which what the caller reads from the source now counts."""

    def is_apart(self) -> bool:
        """Whether the caller has changed anything that is not committed yet."""

    def has_changed(self, entry: AnyEntry) -> bool:
        """Whether the caller has changed one of the names of *entry* or of its parts, and not committed."""

    def may_share(self, entry: AnyEntry) -> bool:
        """Whether *entry*, which the caller has just computed, can hold nothing uncommitted."""

    def has_read(self, entry: AnyEntry) -> None:
        """The caller was given the value of *entry*; or was told that its names have none."""


class AsItIs:
    """Everybody sees the source as it is now: the view without transactions."""

    attention: Sized = ()

    def __init__(self, clock: Clock) -> None:
        self.as_of = clock

    def is_apart(self) -> bool:
        """Never."""
        return False

    def has_changed(self, entry: AnyEntry) -> bool:
        """Never."""
        return False

    def may_share(self, entry: AnyEntry) -> bool:
        """Always."""
        return True

    def has_read(self, entry: AnyEntry) -> None:
        """Nobody asks."""
