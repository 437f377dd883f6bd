"""
The sidecar of this host receives what becomes stale, and this process maps its ledger read-only: no thread, no
connection, no message.

There is one difficulty. What this process invalidates itself must hold for its own next read, and the message reaches
the host's ledger only after a way over Redis. Until then the process stamps it in its own ledger, which the whole rule
of a read includes. But a hit asks no more than whether the host's ledger has counted a change. So until the host's
ledger has caught up, hits are sent to the whole rule: the process is *in doubt* (`doubt.py`).

Rule 1: doubt begins before the stamp (`before_publish`). It ends when the host's ledger has reached everything that
this process published; then its count is past whatever any entry remembers.
Rule 2: some stamps the host's ledger will never have: Redis refused the message, the queue overflowed, or the sidecar
began to listen after it, and its position jumped over it. They are *orphans*. Doubt ends after a sweep has removed
every entry that they void.
Rule 3: whoever ends doubt checks again, under the lock, that it may end: a sweep takes time, and other threads publish
meanwhile.
Rule 4: an invalidation waits for its own message, never for those of other threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from ..config import Config
from ..errors import LedgerFileError
from ..forks import Lock
from ..ledger import FLUSHED_AT, PROVEN_AT, Clock, Ledger, Words
from ..ledger.file import LedgerFile
from ..protocol.subscription import Tally
from ..receipt import Receipt
from .doubt import Doubt

log = logging.getLogger("invalidator.sidecar_feed")

LOOK_AGAIN_NS = 250_000_000
"""How often a worker without a lease looks whether a new sidecar has put another file in the place of its own."""
SETTLE_AGAIN_NS = 1_000_000
"""How often reads in doubt check whether it may end."""
SWEEP_AGAIN_NS = 1_000_000_000
"""A sweep looks at every entry, and in an outage with `publish="raise"` each invalidation asks for one."""
SPINS = 200
SLEEP_S = 0.0002
"""While waiting for the host's ledger to reach a message, which takes about 100 µs: spin first, then sleep."""
CONNECTS_WITHIN_NS = 1_000_000_000
"""A new sidecar listens long before that, or cannot reach Redis."""
FIRST_LOOK_S = 0.001
"""How often a worker looks whether a new sidecar listens."""


class SidecarFeed:
    """
    See `LedgerFeed`.

    Args:
        path: of the file.
        any_owner: trust a file that belongs to somebody else than root or the user of this process.
        set_hit_words: called with the words that a hit compares with from then on.
        sweep: evicts every entry that may not be served, by either ledger.

    Raises:
        LedgerFileError: the file is not there, or does not fit.
    """

    kind = "sidecar"

    def __init__(
        self,
        config: Config,
        clock: Clock,
        path: Path,
        *,
        any_owner: bool,
        set_hit_words: Callable[[Words], None],
        sweep: Callable[[], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._any_owner = any_owner
        self._set_hit_words = set_hit_words
        self._sweep = sweep
        self._file = self._map(path)
        self.view = self._file.view
        # As many slots as the host's, so that a slot means the same in both. Untouched pages of it cost nothing.
        self.own = Ledger.private(slots=self.view.slots, namespace=config.namespace)
        self.tally = Tally()
        self._lock = threading.Lock()
        self._in_doubt = False
        self._publishing = 0  # how many threads are between `before_publish` and `after_publish`
        self._unsettled: deque[tuple[Receipt, int]] = deque()  # with the time at which it was published
        self._orphans = 0  # how often a stamp became an orphan, and how many of these were swept
        self._swept = 0
        self._listening_since = 0  # as it was when doubt began
        self._next_sweep = 0
        self._next_settling = 0
        self._next_look = 0

    @property
    def state(self) -> str:
        return "sidecar"

    @property
    def position(self) -> str | None:
        ms, seq = self.view.read_position()
        return f"{ms}-{seq}" if ms else None

    def is_leased(self) -> bool:
        """Whether the sidecar has proved within `max_staleness` that it receives everything."""
        proven_at = self.view.words[PROVEN_AT]
        return proven_at > 0 and self._clock() < proven_at + self._config.max_staleness_ns

    def start(self) -> None:
        if self._in_doubt:
            self._settle()
        now = self._clock()
        if now >= self._next_look and not self.is_leased():
            self._next_look = now + LOOK_AGAIN_NS
            self._look_for_new_file()

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        deadline = self._clock() + int(timeout_s * 1e9)
        for turn in range(2**62):
            if is_so():
                return True
            if self._clock() >= deadline:
                return False
            if turn >= SPINS:
                time.sleep(SLEEP_S)
                self.start()
        return False

    def wait_for_first_proof(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while not (self.view.is_proven() or self.is_away()) and time.monotonic() < until:
            time.sleep(FIRST_LOOK_S)

    def is_away(self) -> bool:
        return not self.view.is_proven() and self._clock() >= self.view.words[FLUSHED_AT] + CONNECTS_WITHIN_NS

    def is_own_thread(self) -> bool:
        return False

    def before_publish(self) -> None:
        with self._lock:
            self._publishing += 1
            if not self._in_doubt:
                self._in_doubt = True
                self._listening_since = self.view.listening_since()
                self._set_hit_words(Doubt(self._settle_in_passing))

    def after_publish(self, receipt: Receipt) -> None:
        with self._lock:
            self._publishing = max(0, self._publishing - 1)  # a child that was forked meanwhile began to count anew
            published_at = self._clock()
            self._unsettled.append((receipt, published_at))
            if len(self._unsettled) > self._config.queue_size:
                self._unsettled.popleft()
                self._orphans += 1
        if not receipt.queued:
            # Without a lease the sidecar is dead, or knows as little as this process: there is nothing to wait for.
            self.wait_until(
                lambda: self._is_settled(receipt, published_at) or not self.is_leased(), self._config.max_staleness
            )
        self._settle()

    def close(self, timeout_s: float) -> None:
        pass

    def fork_locks(self) -> Iterable[Lock]:
        return (self._lock, self.own.lock)

    def after_fork_in_child(self) -> None:
        if self._in_doubt:
            self._publishing = 0  # the threads that publish, and their receipts, are the parent's
            self._unsettled.clear()
            self._orphans += 1

    def _settle(self) -> None:
        """End doubt, if the host's ledger has reached everything that this process published."""
        with self._lock:
            while self._unsettled and self._is_settled(*self._unsettled[0]):
                receipt, _ = self._unsettled.popleft()
                self._orphans += receipt.lost_because is not None
            if not self._in_doubt or self._is_waiting():
                return
            if (since := self.view.listening_since()) != self._listening_since:
                self._listening_since = since
                self._orphans += 1
            orphans = self._orphans
            must_sweep = orphans != self._swept
            if must_sweep:
                now = self._clock()
                if now < self._next_sweep:
                    return
                self._next_sweep = now + SWEEP_AGAIN_NS
        if must_sweep:
            self._sweep()
        with self._lock:
            self._swept = max(orphans, self._swept)
            if self._swept == self._orphans and not self._is_waiting():
                self._in_doubt = False
                self._set_hit_words(self.view.words)

    def _is_waiting(self) -> bool:
        """Whether the host's ledger has yet to reach something."""
        return self._publishing > 0 or bool(self._unsettled)

    def _settle_in_passing(self) -> None:
        """Called by a read. Never waits: a signal handler or a destructor may read while its thread holds the lock."""
        now = self._clock()
        if now >= self._next_settling and not self._lock.locked():
            self._next_settling = now + SETTLE_AGAIN_NS
            self._settle()

    def _is_settled(self, receipt: Receipt, published_at: int) -> bool:
        if receipt.lost_because is not None:
            return True
        # The writer stores a flush before it counts it, and proves a later time only after that.
        proven_at, _ = self.view.read_lease()
        if proven_at > self.view.words[FLUSHED_AT] > published_at:
            return True
        if not receipt.id:
            return not receipt.queued
        ms, _, seq = receipt.id.partition("-")
        return self.view.read_position() >= (int(ms), int(seq))

    def _map(self, path: Path) -> LedgerFile:
        return LedgerFile(path, namespace=self._config.namespace, any_owner=self._any_owner, clock=self._clock)

    def _look_for_new_file(self) -> None:
        if not self._file.was_replaced():
            return
        try:
            file = self._map(self._file.path)
        except LedgerFileError as error:
            self.tally.last_error = str(error)
            return
        if file.view.slots != self.view.slots:
            self.tally.last_error = (
                f"the sidecar was restarted with {file.view.slots} slots instead of {self.view.slots}: "
                "restart this process"
            )
            return
        log.info("mapped the new ledger of the sidecar path=%s", file.path)
        self.tally.last_error = None
        with self._lock:
            self._file = file
            self.view.words = file.view.words
            if not self._in_doubt:
                self._set_hit_words(self.view.words)
