"""
What `cache.set` has stored in a transaction that has written: it may be made of what is never committed.

Its tags say by what it is invalidated. They do not say what it was computed from, since nobody has seen that.

Rule 1: it is void at the rollback of the transaction, or of the savepoint, in which it was stored; and so is whatever
was made from it meanwhile.
Rule 2: it is a fill. Nothing is published when it is stored, nor after the commit.
"""

from __future__ import annotations

from typing import Any

from invalidator import Entry, NearCache, Receipt

from ..names import Names
from ..transactions.outgoing import follow
from ..transactions.uncommitted import Again

MOST_FILLS = 10_000
"""Of one stretch of a transaction; what is set beyond that is not kept."""


class UncommittedFills:
    """A `Follower`: the fills of one stretch of a transaction that has written."""

    def __init__(self, near: NearCache) -> None:
        self._near = near
        self._filled: dict[str, tuple[str, Entry[Any]]] = {}

    def add(self, name: str, stored: str, entry: Entry[Any]) -> bool:
        """Remember *entry*. Returns False if there are too many."""
        if len(self._filled) >= MOST_FILLS and stored not in self._filled:
            return False
        self._filled[stored] = name, entry
        return True

    def absorb(self, later: UncommittedFills) -> None:
        """See `Follower`."""
        self._filled.update(later._filled)

    def names(self) -> Names:
        """See `Follower`, and rule 2."""
        return Names()

    def committed(self) -> Again:
        """See `Follower`, and rule 2."""
        return Again()

    def published(self, receipt: Receipt | None) -> None:
        """See `Follower`."""

    def rolled_back(self) -> None:
        """See `Follower`, and rule 1."""
        if void := {name for name, entry in self._filled.values() if not self._near.is_invalidated(entry)}:
            self._near.bus.announce(*void)()


def follow_fill(near: NearCache, name: str, stored: str) -> bool:
    """
    The caller has stored a value in *near* under *stored*, a variant of *name* or itself. Returns False if that was too
    much for its transaction, and undone.
    """
    entry = near.peek(stored)
    followers = [fills for fills, has_written in follow(near, lambda: UncommittedFills(near)) if has_written]
    if entry is not None and not all(fills.add(name, stored, entry) for fills in followers):
        near.evict(stored)
        return False
    return True
