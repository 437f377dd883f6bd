"""
A process that changes rows and says so, and reads its own writes.

Rule 1: an invalidation is said after the commit has returned; the time of its acceptance is taken after
`invalidate()` has returned accepted, or after its receipt has said so. Both are late rather than early.
Rule 2: from the moment `invalidate()` returned, accepted or not, this process never again reads a version older than
its own.
"""

from __future__ import annotations

import queue
import threading
import time
from random import Random

from invalidator import Receipt, now_ns

from .records import CHANGE, READ, Log, LogFull
from .source import Source
from .worker import Orders, Worker
from .workload import KEYS, WRITE_PAUSE_S, draw_change, key_name, tag_name

ROOM = 500_000
OTHER_READS = 4
"""Of rows at random, after each change."""
LAST_ACCEPTANCES_S = 5.0


class Writer(Worker):
    """See the module."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self.source = Source(orders.path("").with_name("source.db"))
        self.random = Random(orders.seed)
        self.changes = Log(orders.path(".changes"), CHANGE, ROOM)
        self.reads = Log(orders.path(".own.reads"), READ, ROOM)
        self.own: dict[int, int] = {}
        self.waiting: queue.SimpleQueue[tuple[Receipt, list[int]]] = queue.SimpleQueue()
        self.watcher = threading.Thread(target=self.watch_receipts, daemon=True)

    def run(self) -> None:
        """Write until told to stop."""
        for index in range(KEYS):
            self.read(index)
        self.get_ready()
        self.watcher.start()
        try:
            while "q" not in self.commands():
                self.change()
                self.write_status(if_due=True)
                time.sleep(self.random.expovariate(1 / WRITE_PAUSE_S))
        except LogFull:
            self.complain("a log is full: the round is too long for it")
        self.write_status()
        self.bus.close()
        self.write_status()

    def change(self) -> None:
        """One transaction, and what it says."""
        rows, by_tag = draw_change(self.random)
        places: list[int] = []
        began = now_ns()

        def before_commit(versions: list[int]) -> None:
            # A strict write announces its hold here, and notes until when it lasts.
            places.extend(
                self.changes.append(key, version, 0, 0, 0, began) for key, version in zip(rows, versions, strict=True)
            )

        versions = self.source.change(rows, self.orders.name, before_commit)
        now = now_ns()
        for place in places:
            self.changes.note_committed(place, now)
        self.counts["changes"] += len(rows)
        with self.no_error("invalidate"):
            if by_tag:
                receipt = self.bus.invalidate(tags=[tag_name(rows[0])])
            else:
                receipt = self.bus.invalidate(*map(key_name, rows))
            if receipt.accepted:
                self.note_accepted(places)
            else:
                self.counts["queued"] += 1
                self.waiting.put((receipt, places))
        self.own.update(zip(rows, versions, strict=True))
        for row in rows[:2]:
            self.read(row)
        for _ in range(OTHER_READS):
            self.read(self.random.randrange(KEYS))

    def read(self, index: int) -> None:
        """One read, which must know our own writes."""
        with self.no_error(f"read of {key_name(index)}"):
            began = now_ns()
            version = self.cache.get_or_set(key_name(index), lambda: self.source.read(index), tags=(tag_name(index),))
            self.reads.append(index, version, began, now_ns())
            self.counts["own_reads"] += index in self.own
            if version < self.own.get(index, 0):
                self.complain(
                    f"read-your-writes: {key_name(index)} version {version} after writing {self.own[index]} at {began}"
                )

    def watch_receipts(self) -> None:
        """A thread: note when what had to wait is accepted. In order, as the publisher delivers."""
        while True:
            receipt, places = self.waiting.get()
            if receipt.wait(60):
                self.note_accepted(places)

    def note_accepted(self, places: list[int]) -> None:
        """The invalidation of these changes has been accepted by now."""
        now = now_ns()
        for place in places:
            self.changes.note_accepted(place, now)


def main() -> None:
    """Run one writer."""
    Writer(Orders.from_arguments()).run()


if __name__ == "__main__":
    main()
