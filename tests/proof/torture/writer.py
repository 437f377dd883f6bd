"""
A process that changes rows, invalidates them, and reads its own writes.

Rule 1: an invalidation is published after the commit has returned; the time of its acceptance is taken after
`invalidate()` has returned accepted, or after its receipt has said so. Both are late rather than early.
Rule 2: from the moment `invalidate()` returned, accepted or not, this process never again reads a version older than
its own.
Rule 3: a strict writer announces a hold before each commit, inside the transaction or ahead of it, and commits
nothing that it could not announce.

On its standard input: "k" die by -9 between the next commit and its invalidation; "l" the same, after a
long thought between the hold of a whole group and its change; "q" end.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from random import Random

from invalidator import Hold, HoldEnded, PublishError, Receipt
from invalidator.extending import now_ns

from .records import CHANGE, READ, Log, LogFull
from .source import Source
from .worker import Orders, Worker
from .workload import KEYS, WRITE_PAUSE_S, draw_change, key_name, tag_name

ROOM = 500_000
OTHER_READS = 4
"""Of rows at random, after each change."""
HOLD_S = 4.0
LONGEST_THOUGHT_S = 0.06
"""Between an early hold and its transaction: the holds of two writers overlap."""
LAST_THOUGHT_S = 2.2
"""Long enough for a reader to begin meanwhile."""
ROLLBACKS = 0.05
"""The share of strict transactions that change their mind."""


class RolledBack(Exception):
    """A transaction changed its mind."""


class Writer(Worker):
    """See the module."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self.source = Source(orders.path("").with_name("source.db"))
        self.random = Random(orders.seed)
        self.changes = Log(orders.path(".changes"), CHANGE, ROOM)
        self.reads = Log(orders.path(".own.reads"), READ, ROOM)
        self.own: dict[int, int] = {}
        self.dying = False
        self.lingering = False
        self.waiting: queue.SimpleQueue[tuple[Receipt, list[int]]] = queue.SimpleQueue()
        self.watcher = threading.Thread(target=self.watch_receipts, daemon=True)

    def run(self) -> None:
        """Write until the order to stop."""
        for index in range(KEYS):
            self.read(index)
        self.get_ready()
        self.watcher.start()
        try:
            while "q" not in (commands := self.commands()):
                self.lingering = self.lingering or "l" in commands
                self.dying = self.dying or self.lingering or "k" in commands
                self.change()
                self.write_status(if_due=True)
                time.sleep(self.random.expovariate(1 / WRITE_PAUSE_S))
        except LogFull:
            self.complain("a log is full: the round is too long for it")
        self.write_status()
        self.bus.close()
        self.write_status()

    def change(self) -> None:
        """One transaction, and its invalidation."""
        rows, by_tag = draw_change(self.random)
        while self.lingering and not by_tag:
            rows, by_tag = draw_change(self.random)
        keys = () if by_tag else tuple(map(key_name, rows))
        tags = (tag_name(rows[0]),) if by_tag else ()
        if self.orders.strict:
            self.change_strictly(rows, keys, tags)
        else:
            places, versions = self.commit(rows, lambda: 0)
            self.say(lambda: self.bus.invalidate(*keys, tags=tags), rows, versions, places)

    def change_strictly(self, rows: list[int], keys: tuple[str, ...], tags: tuple[str, ...]) -> None:
        """The same with a hold."""
        early, thought_s = self.random.random() < 0.5, self.random.uniform(0, LONGEST_THOUGHT_S)
        if self.lingering:
            early, thought_s = True, LAST_THOUGHT_S
        changes_its_mind = self.random.random() < ROLLBACKS
        hold: Hold | None = None
        held = 0

        def announce() -> int:
            nonlocal hold, held
            if hold is None:
                hold = self.bus.hold(*keys, tags=tags, duration=HOLD_S)
                held = now_ns()
            if changes_its_mind:
                raise RolledBack
            hold.check()
            return held

        try:
            if early:
                announce()
                time.sleep(thought_s)
            places, versions = self.commit(rows, announce)
        except (PublishError, HoldEnded, RolledBack) as error:
            self.counts["rolled_back" if isinstance(error, RolledBack) else "refused"] += 1
            if hold is not None:
                with self.no_error("release"):
                    hold.release()
            return
        assert hold is not None
        self.say(hold.release, rows, versions, places)

    def commit(self, rows: list[int], announce: Callable[[], int]) -> tuple[list[int], list[int]]:
        """Change *rows*. Returns the places of their records, and their versions."""
        places: list[int] = []
        began = now_ns()

        def before_commit(versions: list[int]) -> None:
            held = announce()
            places.extend(
                self.changes.append(key, version, 0, held, 0, began)
                for key, version in zip(rows, versions, strict=True)
            )

        versions = self.source.change(rows, self.orders.name, before_commit)
        if self.dying:
            os.kill(os.getpid(), signal.SIGKILL)
        now = now_ns()
        for place in places:
            self.changes.note_committed(place, now)
        self.counts["changes"] += len(rows)
        return places, versions

    def say(self, what: Callable[[], Receipt], rows: list[int], versions: list[int], places: list[int]) -> None:
        """Invalidate or release, then read what was written."""
        with self.no_error("invalidate"):
            receipt = what()
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
