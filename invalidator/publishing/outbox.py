"""
The invalidations that wait for Redis. Pure: no I/O, no threads, no time.

Equal names are said once, since saying them later is as good as saying them twice. What does not fit any more turns
everything into one "clear": nothing is lost, and the queue is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..receipt import Receipt
from .hold import Hold


@dataclass(slots=True)
class Batch:
    """
    What to publish together, and the receipts that wait for it.

    Attributes:
        keys, tags: names that became stale.
        holds: holds that end, by owner.
        clear: everything became stale; then there are no names.
    """

    keys: dict[str, None] = field(default_factory=dict)
    tags: dict[str, None] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    clear: bool = False
    receipts: list[Receipt] = field(default_factory=list)

    def __len__(self) -> int:
        held = sum(len(hold.keys) + len(hold.tags) for hold in self.holds.values())
        return len(self.keys) + len(self.tags) + held + self.clear

    def add(self, other: Batch, limit: int) -> bool:
        """Add what *other* holds. Returns True if it did not fit and everything became one clear."""
        self.receipts += other.receipts
        self.clear |= other.clear
        self.keys.update(other.keys)
        self.tags.update(other.tags)
        self.holds.update(other.holds)
        overflow = len(self) > limit
        if self.clear or overflow:
            self.clear = True
            self.keys.clear()
            self.tags.clear()
        if overflow:
            self.holds.clear()  # a clear says that their names are stale; the holds themselves end by their time
        return overflow


class Outbox:
    """
    One batch that is collected and, perhaps, one that is under way.

    Args:
        limit: how many names may wait before they become one clear.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.overflows = 0
        self._waiting = Batch()
        self._under_way: Batch | None = None

    def __len__(self) -> int:
        return len(self._waiting) + (len(self._under_way) if self._under_way else 0)

    def put(self, batch: Batch) -> None:
        """Let *batch* wait. A name that is under way waits again: it may be accepted before this change was made."""
        self.overflows += self._waiting.add(batch, self.limit)

    def take(self) -> Batch | None:
        """What to publish now; it stays under way until `delivered` or `failed`. None if nothing waits."""
        if self._under_way is None and self._waiting:
            self._under_way, self._waiting = self._waiting, Batch()
        return self._under_way

    def delivered(self, id: str, listeners: int) -> None:
        """What was under way has been accepted."""
        batch, self._under_way = self._under_way, None
        for receipt in batch.receipts if batch else ():
            receipt.accept(id, listeners)

    def failed(self) -> None:
        """What was under way has to be tried again, with what has come to wait since."""
        batch = self._under_way
        if batch is not None:
            self.overflows += batch.add(self._waiting, self.limit)
            self._waiting = batch
            self._under_way = None  # last: who looks without a lock never finds it empty

    def abandon(self, reason: str) -> int:
        """Give up everything. Returns how many names were lost."""
        lost = len(self)
        self.failed()
        for receipt in self._waiting.receipts:
            receipt.lose(reason)
        self._waiting = Batch()
        return lost
