"""
A process that reads through its near cache: hot rows in its main thread, every idle row once a second in another.

Every read is recorded with the time before it began and the time after it returned. The promise is judged by the
first: a process may be stopped between the decision and the return, and no cache can help that. (The time of the
decision lies between the two.)

On its standard input: "f" fork, and go on as two readers; "c" the wall clock jumps; "g" hold the interpreter so that
the listener's thread starves; "e" a load that takes several bounds; "q" read every row once more and end.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from random import Random

_wall_clock_off = [0.0]


def _fake_wall_clock() -> None:
    """Put ourselves before `time.time`, ahead of the first import of anything that may use it."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + _wall_clock_off[0]
    time.time_ns = lambda: real_ns() + int(_wall_clock_off[0] * 1e9)


_fake_wall_clock()

from invalidator.extending import now_ns  # noqa: E402

from .records import READ, Log, LogFull  # noqa: E402
from .source import Source  # noqa: E402
from .worker import Orders, Worker, die_with_parent, sleep_until  # noqa: E402
from .workload import (  # noqa: E402
    HOT,
    IDLE_READ_EVERY_S,
    KEYS,
    PAUSE_S,
    READS_AT_ONCE,
    SLOW_LOADS,
    SLOWEST_LOAD_S,
    key_name,
    reads_by_get_and_set,
    tag_name,
)

ROOM = 2_000_000
MOST_FORKS = 3
HOT_AMONG_IDLE = 4
"""The idle thread reads a hot row after every so many idle ones: two threads then meet at one load."""
JUMPS_S = (3600.0, -7200.0, 86400.0 * 400, -86400.0 * 4000)
STARVED_SWITCH_INTERVAL_S = 10.0
ENDLESS_LOAD_BOUNDS = 5
JOINED_AFTER_BOUNDS = 4.5


class Reader(Worker):
    """See the module."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self.source = Source(orders.path("").with_name("source.db"))
        self.random = Random(orders.seed)
        self.parent = os.getppid()
        self.is_child = False
        self.children: list[int] = []
        self.ending = False
        self.endless: tuple[int, int, int] | None = None
        self.rows = [(i, key_name(i), (tag_name(i),), self._loader(i)) for i in range(KEYS)]
        self._open_logs()

    def _open_logs(self) -> None:
        self.log = Log(self.orders.path(".hot.reads"), READ, ROOM)
        self.idle_log = Log(self.orders.path(".idle.reads"), READ, ROOM)
        self.idle_thread = threading.Thread(target=self.read_idle_rows, daemon=True)

    def run(self) -> None:
        """Read until the order to stop."""
        for index in range(KEYS):
            self.read(index, self.log)
            self.counts["early_reads"] += not self.bus.status().leased
        self.get_ready()
        self.idle_thread.start()
        try:
            self.read_hot_rows()
            self.ending = True
            self.idle_thread.join(IDLE_READ_EVERY_S)
            for index in range(KEYS):
                self.read(index, self.log)
        except LogFull:
            self.complain("a log is full: the round is too long for it")
        self.write_status()
        self.bus.close()
        self.end_children()

    def read_hot_rows(self) -> None:
        """The main thread."""
        while True:
            for _ in range(READS_AT_ONCE):
                self.read(self.random.randrange(HOT), self.log)
            self.write_status(if_due=True)
            commands = self.commands() if not self.is_child else "q" if self.is_orphan() else ""
            if "q" in commands:
                return
            if "f" in commands and len(self.children) < MOST_FORKS:
                self.fork()
            if "c" in commands:
                _wall_clock_off[0] = self.random.choice(JUMPS_S)
            if "e" in commands:
                self.load_endlessly()
            if "g" in commands:
                self.starve_the_listener()
            time.sleep(PAUSE_S)

    def read_idle_rows(self) -> None:
        """The other thread: every idle row once a second, evenly."""
        step = int(IDLE_READ_EVERY_S * 1e9 / (KEYS - HOT))
        at = now_ns()
        try:
            while True:
                for index in range(HOT, KEYS):
                    if self.ending:
                        return
                    self.read(index, self.idle_log)
                    if index % HOT_AMONG_IDLE == 0:
                        self.read(self.random.randrange(HOT), self.idle_log)
                    self.ask_for_the_endless()
                    at = max(at + step, now_ns() - 10 * step)  # after a pause: not all at once
                    sleep_until(at)
        except LogFull:
            self.complain("a log is full: the round is too long for it")

    def read(self, index: int, log: Log) -> None:
        """One read, as a request would do it."""
        _, key, tags, load = self.rows[index]
        with self.no_error(f"read of {key}"):
            if reads_by_get_and_set(index):
                began = now_ns()
                version = self.cache.get(key)
                if version is None:
                    version = load()
                    self.cache.set(key, version, tags=tags)
            else:
                began = now_ns()
                version = self.cache.get_or_set(key, load, tags=tags)
            log.append(index, version, began, now_ns())

    def _loader(self, index: int) -> Callable[[], int]:
        def load() -> int:
            version = self.source.read(index)
            if self.random.random() < SLOW_LOADS:
                time.sleep(self.random.uniform(0, SLOWEST_LOAD_S))
            return version

        return load

    # What is done to it.

    def starve_the_listener(self) -> None:
        """Read on for longer than a lease lasts, without letting other threads run more than loads make us."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(STARVED_SWITCH_INTERVAL_S)
        until = now_ns() + int(1.7 * self.orders.max_staleness * 1e9)
        while now_ns() < until:
            self.read(self.random.randrange(KEYS), self.log)
            for _ in range(2000):
                pass
        sys.setswitchinterval(interval)
        self.counts["starvations"] += 1

    def load_endlessly(self) -> None:
        """
        Load a hot row for several bounds; late in it, the other thread asks for the same row.

        It may not be handed what was read before an invalidation that it came after. (Only `get_or_set` shares loads.)
        """
        index = self.random.choice([index for index in range(HOT) if not reads_by_get_and_set(index)])
        _, key, tags, load = self.rows[index]
        bound = int(self.orders.max_staleness * 1e9)

        def load_endlessly() -> int:
            version = load()
            time.sleep(ENDLESS_LOAD_BOUNDS * self.orders.max_staleness)
            return version

        with self.no_error(f"endless load of {key}"):
            self.cache.evict(key)
            began = now_ns()
            self.endless = (
                index,
                int(began + JOINED_AFTER_BOUNDS * bound),
                int(began + (ENDLESS_LOAD_BOUNDS - 0.1) * bound),
            )
            version = self.cache.get_or_set(key, load_endlessly, tags=tags)
            self.log.append(index, version, began, now_ns())
        self.counts["endless_loads"] += 1

    def ask_for_the_endless(self) -> None:
        """The other thread's part."""
        if self.endless is not None:
            index, begins, ends = self.endless
            if begins < now_ns() < ends:
                self.read(index, self.idle_log)

    def fork(self) -> None:
        """Become two. The other thread may be inside a load at that moment."""
        parent = os.getpid()
        with self.source.closed_for_fork():
            pid = os.fork()
        if pid:
            self.children.append(pid)
            self.counts["forks"] += 1
            return
        die_with_parent()
        self.parent = parent
        self.is_child = True
        self.begin_again(
            dataclasses.replace(
                self.orders, name=f"{self.orders.name}-fork{len(self.children)}", seed=self.orders.seed + 7919
            )
        )
        self.children = []
        self.random = Random(self.orders.seed)
        self._open_logs()
        self.idle_thread.start()

    def is_orphan(self) -> bool:
        """Whether a forked child's parent has gone, or wants it to go: it closes nothing, it just ends."""
        return os.getppid() != self.parent or now_ns() > self.orders.deadline or self.orders.path(".end").exists()

    def end_children(self) -> None:
        """Ask our forked children to end, and wait for them; who does not is killed."""
        for number, _ in enumerate(self.children):
            self.orders.path(f"-fork{number}.end").touch()
        give_up_at = now_ns() + 10_000_000_000
        for pid in self.children:
            ended, status = os.waitpid(pid, os.WNOHANG)
            while not ended:
                if now_ns() > give_up_at:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)
                ended, status = os.waitpid(pid, os.WNOHANG)
            if status:
                self.complain(f"a forked child ended with {os.waitstatus_to_exitcode(status)}")
        self.write_status()


def main() -> None:
    """Run one reader."""
    reader = Reader(Orders.from_arguments())
    reader.run()
    if reader.is_child:
        os._exit(0)


if __name__ == "__main__":
    main()
