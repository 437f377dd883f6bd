"""
The queue of invalidations that wait for Redis. Pure: no I/O, no threads, no time.

A name that waits twice is published once, since the later message covers the earlier one. When the queue is full,
everything in it becomes one "clear": nothing is lost, and the queue is bounded.

Rule 1: what waits together has one fate, and so one receipt. A receipt that no caller has kept is forgotten, so that a
million invalidations of one name keep nothing but that name.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..receipt import Receipt
from .hold import Hold


@dataclass(slots=True)
class Batch:
    """
    Invalidations to publish together.

    Attributes:
        keys, tags: names that became stale.
        holds: holds that end, by owner.
        clear: the whole namespace became stale; then there are no names.
        waiters: the receipts of callers, weakly: one, and one more for each time that it was joined with another batch.
    """

    keys: dict[str, None] = field(default_factory=dict)
    tags: dict[str, None] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    clear: bool = False
    waiters: list[weakref.ref[Receipt]] = field(default_factory=list)

    def __len__(self) -> int:
        held = sum(len(hold.keys) + len(hold.tags) for hold in self.holds.values())
        return len(self.keys) + len(self.tags) + held + self.clear

    def receipts(self) -> Iterator[Receipt]:
        """Those that a caller has kept."""
        return (receipt for waiter in self.waiters if (receipt := waiter()) is not None)

    def receipt(self) -> Receipt:
        """Return the receipt for whoever adds to this batch now."""
        receipt = self.waiters[-1]() if self.waiters else None
        if receipt is None:
            receipt = Receipt()
            self.waiters = [*map(weakref.ref, self.receipts()), weakref.ref(receipt)]
        return receipt

    def add(self, other: Batch, limit: int) -> bool:
        """Add *other* to this batch. Returns whether that was too much, so that everything became one clear."""
        self.waiters = [*map(weakref.ref, self.receipts()), *other.waiters]
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
            self.holds.clear()  # a clear covers their names, and each hold ends by its own time
        return overflow


class Outbox:
    """
    One batch that waits and, perhaps, one that is being published.

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

    def put(self, batch: Batch) -> Receipt:
        """
        Queue *batch*, and return its receipt. A name that is being published is queued again: Redis may accept it
        before this change.
        """
        self.overflows += self._waiting.add(batch, self.limit)
        return self._waiting.receipt()

    def take(self) -> Batch | None:
        """Return the batch to publish now, until `delivered` or `failed` is called; None if nothing waits."""
        if self._under_way is None and self._waiting:
            self._under_way, self._waiting = self._waiting, Batch()
        return self._under_way

    def delivered(self, id: str, listeners: int) -> None:
        """Redis has accepted the batch that was taken."""
        batch, self._under_way = self._under_way, None
        for receipt in batch.receipts() if batch else ():
            receipt.accept(id, listeners)

    def failed(self) -> None:
        """Redis has not accepted the batch that was taken: queue it again, with what was queued since."""
        batch = self._under_way
        if batch is not None:
            self.overflows += batch.add(self._waiting, self.limit)
            self._waiting = batch
            self._under_way = None  # last: a reader without a lock must never find the outbox empty

    def abandon(self, reason: str) -> int:
        """Give up everything that waits. Returns how many names were lost."""
        lost = len(self)
        self.failed()
        for receipt in self._waiting.receipts():
            receipt.lose(reason)
        self._waiting = Batch()
        return lost
