"""
How the calling thread or task sees the source, where that differs from what is committed; and what it reads.

Inside a database transaction a caller may see other data than all others: what it has written and not committed
yet, or, under snapshot isolation, the rows as they were when the transaction began. And a caller that computes a value
from cached ones has to know which these were. A near cache asks its `SourceView` about the first, and reports each read
to it for the second. The library itself knows neither transactions nor recorders; an integration does: see
docs/extending.md.

Rule 1: a name that a caller has changed and not committed is read past the cache by that caller.
Rule 2: a value that may have been computed from uncommitted data is neither stored nor handed to another caller.
Rule 3: what a caller reads from the source is treated as loaded when its view of the source was taken, which may be
earlier than the read.
Rule 4: every answer of a cache is reported: a value, and that there was none.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol

from .entry import AnyEntry
from .ledger import Clock


class SourceView(Protocol):
    """How the calling thread or task sees the source. Called on each miss: be quick. An error reaches the caller."""

    @property
    def slow_path(self) -> Sized:
        """
        Why hits have to look at more than the ledger and the clock: not empty while any thread or task of this process
        has uncommitted changes, or records its reads. Always the same object: every hit looks at it.
        """

    def as_of(self) -> int:
        """The time of the bus' clock at which a value that the caller reads from the source now counts as loaded."""

    def is_apart(self) -> bool:
        """Whether the caller has changed anything that is not committed yet."""

    def has_changed(self, entry: AnyEntry) -> bool:
        """Whether the caller has changed one of the names of *entry*, or of its parts, and not committed that."""

    def may_share(self, entry: AnyEntry, begun: int | None) -> bool:
        """
        Whether nothing can be in *entry*, which the caller has just computed, that is not committed: neither now, nor
        while it was computed.

        Args:
            begun: when its loader began, by the bus' clock; None for a value that was set.
        """

    def has_read(self, entry: AnyEntry) -> None:
        """The caller was given the value of *entry*; or learned that there is none for its names."""


class NoTransactions:
    """The view of callers who all see the source as it is now."""

    slow_path: Sized = ()

    def __init__(self, clock: Clock) -> None:
        self.as_of = clock

    def is_apart(self) -> bool:
        """Never."""
        return False

    def has_changed(self, entry: AnyEntry) -> bool:
        """Never."""
        return False

    def may_share(self, entry: AnyEntry, begun: int | None) -> bool:
        """Always."""
        return True

    def has_read(self, entry: AnyEntry) -> None:
        """Nothing records reads."""
