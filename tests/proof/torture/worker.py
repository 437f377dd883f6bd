"""
What all processes share: their orders, a status file that is true to half a second, and how they end.

Rule 1: a worker ends when its standard input ends, at its deadline, or (Linux) with the process that started it,
whatever state it is in: nothing is left behind.
Rule 2: whatever the cache raises is an error of the cache, and ends up in the status file.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from invalidator import Invalidator, NearCache
from invalidator.extending import now_ns

from .records import LogFull
from .recovery import Recoveries

NAMESPACE = "torture"
STATUS_EVERY_NS = 500_000_000
LEASE_TIMEOUT_S = 20.0
MOST_ERRORS = 8
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """
    The orders of a worker.

    Args:
        name: of this process; its files begin with it.
        url: where the server is, or a lane of the proxy.
        directory: of the round.
        deadline: `now_ns` at which it ends by itself.
        strict: whether a writer announces holds.
        ledger: the sidecar's file, or "" to listen for oneself.
    """

    name: str
    url: str
    directory: str
    max_staleness: float
    seed: int
    deadline: int
    strict: bool = False
    ledger: str = ""

    @classmethod
    def from_arguments(cls) -> Self:
        """Those of this process."""
        return cls(**json.loads(sys.argv[1]))

    def as_argument(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))

    def path(self, ending: str) -> Path:
        """A file of this process."""
        return Path(self.directory, self.name + ending)


class Process:
    """A process that carries out orders."""

    def __init__(self, orders: Orders) -> None:
        die_with_parent()
        os.set_blocking(0, False)
        self.orders = orders
        self.recoveries = Recoveries()
        self.recoveries.watch()
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self._before = Counter[str]()
        self._next_status = 0

    def tally(self) -> Counter[str]:
        """What the library has counted."""
        raise NotImplementedError

    def is_leased(self, timeout_s: float) -> bool:
        """Wait for a lease."""
        raise NotImplementedError

    def get_ready(self, *, resuming: bool = False) -> None:
        """Wait for a lease, and say so. What was counted until now is not reported, unless somebody's work goes on."""
        if not self.is_leased(LEASE_TIMEOUT_S):
            raise TimeoutError(f"no lease in {LEASE_TIMEOUT_S} s")
        if not resuming:
            self._before = self.tally()
        self.write_status()
        os.write(1, b"ready\n")

    def commands(self) -> str:
        """The letters received since the last look; "q" is the order to stop."""
        if now_ns() > self.orders.deadline:
            return "q"
        try:
            return os.read(0, 64).decode() or "q"
        except BlockingIOError:
            return ""

    @contextlib.contextmanager
    def no_error(self, doing: str) -> Iterator[None]:
        """Count what is raised inside: the cache may not raise."""
        try:
            yield
        except LogFull:
            raise
        except Exception as error:  # noqa: BLE001 - that is the point
            self.counts["errors"] += 1
            self.complain(f"{doing}: {type(error).__name__}: {error}")

    def complain(self, what: str) -> None:
        """Note a violation that was seen by this process itself."""
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(f"{self.orders.name}: {what}")

    def write_status(self, *, if_due: bool = False) -> None:
        """Say how we are doing, for who looks at it after our death."""
        now = now_ns()
        if if_due and now < self._next_status:
            return
        self._next_status = now + STATUS_EVERY_NS
        tally = self.tally()
        tally.subtract(self._before)
        status = {
            **self.counts,
            **tally,
            "recoveries_ms": [round(ms, 1) for ms in self.recoveries.took_ms],
            "complaints": self.errors,
        }
        unfinished = self.orders.path(".status.new")
        unfinished.write_text(json.dumps(status))
        unfinished.replace(self.orders.path(".status"))


class Worker(Process):
    """One with a near cache."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self.bus = Invalidator(
            orders.url, namespace=NAMESPACE, max_staleness=orders.max_staleness, sidecar=orders.ledger or None
        )
        self.cache = NearCache(self.bus)

    def is_leased(self, timeout_s: float) -> bool:
        """Wait for a lease."""
        return self.bus.wait_until_leased(timeout_s)

    def tally(self) -> Counter[str]:
        """What the library has counted."""
        status, stats = self.bus.status(), self.cache.stats()
        seen: dict[str, Any] = {**status.as_dict(), **stats.as_dict()}
        return Counter({name: int(seen[name]) for name in (*_OF_THE_LISTENER, *_OF_THE_CACHE)})

    def begin_again(self, orders: Orders) -> None:
        """In a forked child: be somebody else."""
        self.orders = orders
        self.recoveries.forget()
        self.counts.clear()
        self.errors = []
        # The child's listener counts from 0, its cache goes on from where the parent's was.
        tally = self.tally()
        self._before = Counter({name: tally[name] for name in _OF_THE_CACHE})


_OF_THE_LISTENER = ("flushes", "replays", "reconnects", "received")
_OF_THE_CACHE = ("hits", "misses", "loads", "joins", "refused_fills")


def die_with_parent() -> None:
    """
    Ask the kernel to kill us when our parent dies, stopped or not. Nothing where it cannot.

    "Parent" is the *thread* that started us: see `Stage`.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def sleep_until(at: int) -> None:
    """Sleep until `now_ns` is *at*."""
    time.sleep(max(0, at - now_ns()) / 1e9)
