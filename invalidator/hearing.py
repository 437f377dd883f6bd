"""
How a process hears what became stale: by a listener of its own, or by the sidecar of its host.

Either has a `view`, the ledger that reads check, and an `own` ledger, where the process stamps what it invalidates
itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from .config import Config
from .errors import LedgerFileError
from .forks import Lock
from .ledger import CHANGES, FLUSHED_AT, FOREVER, PROVEN_AT, Clock, Ledger, LedgerView, Words
from .ledger_file import LedgerFile
from .link import Link
from .listener import Audience, Listener
from .protocol.journal import Journal
from .protocol.states import State
from .protocol.subscription import Subscription, Tally
from .receipt import Receipt

log = logging.getLogger("invalidator.hearing")


class Hearing(Protocol):
    """What a bus needs of either way."""

    kind: str
    view: LedgerView
    own: Ledger

    @property
    def state(self) -> str:
        """For people: a state of the subscription, or "sidecar"."""

    @property
    def position(self) -> str | None:
        """The id of the last applied message."""

    @property
    def tally(self) -> Tally:
        """What happened so far."""

    def start(self) -> None:
        """Begin to hear, or look whether all is well. Cheap: called with every fill."""

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until *is_so*, which may become so with a proof."""

    def saying(self) -> None:
        """This process is about to publish what it has stamped in `own`."""

    def said(self, receipt: Receipt) -> None:
        """It was published, or waits in the queue."""

    def close(self, timeout_s: float) -> None:
        """Hear no more."""

    def fork_locks(self) -> Iterable[Lock]:
        """See `forks.ForkOwner`."""

    def after_fork_in_child(self) -> None:
        """Forget what only the parent has."""


class OwnHearing:
    """
    A thread of this process writes a private ledger.

    Args:
        make_subscription: from how far an earlier one came.
        audience: told what is applied.
    """

    kind = "own"

    def __init__(
        self,
        config: Config,
        clock: Clock,
        link: Link,
        make_subscription: Callable[[Journal | None], Subscription],
        audience: Audience,
    ) -> None:
        self.own = Ledger.private(slots=config.slots, namespace=config.namespace)
        self.view: LedgerView = self.own
        self._clock = clock
        self._link = link
        self._make_subscription = make_subscription
        self._audience = audience
        self._journal: Journal | None = None
        self._listener: Listener | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def state(self) -> str:
        return str(self._listener.subscription.state if self._listener else State.IDLE)

    @property
    def position(self) -> str | None:
        journal = self._listener.subscription.journal if self._listener else self._journal
        return journal.position if journal else None

    @property
    def tally(self) -> Tally:
        return self._listener.subscription.tally if self._listener else Tally()

    def start(self) -> None:
        if self._listener is None and not self._closed:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._listener is not None or self._closed:
                return
            subscription = self._make_subscription(self._journal)
            listener = self._listener = Listener(subscription, self._link, self.own, self._audience, self._clock)
        # Not under the lock: gevent suspends who starts a thread, and a lock from before it took over (an application
        # that was preloaded) would block every other greenlet, and with them this one.
        try:
            listener.start()
        except RuntimeError as error:  # the interpreter is going down, or the system is out of threads
            log.warning("listener cannot start channel=%s error=%s", subscription.names.channel, error)
            self._listener = None

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        return self._listener.wait_until(is_so, timeout_s) if self._listener else is_so()

    def saying(self) -> None:
        pass  # what is stamped in `own` is stamped in `view`

    def said(self, receipt: Receipt) -> None:
        pass

    def close(self, timeout_s: float) -> None:
        with self._lock:
            self._closed = True
            listener = self._listener
        if listener is not None:
            listener.close(timeout_s)

    def fork_locks(self) -> Iterable[Lock]:
        return (self._lock, self.own.lock)

    def after_fork_in_child(self) -> None:
        if self._listener is not None:
            self._journal = self._listener.subscription.journal
            self.own.touch()  # what it says was applied may have been stamped, and not counted yet
            self._listener.let_go()
            self._listener = None


LOOK_AGAIN_NS = 250_000_000
"""How often a worker without a lease looks whether a new sidecar has put another file in the place of its own."""
SETTLE_AGAIN_NS = 1_000_000
"""How often reads in doubt ask whether the doubt is over."""
SWEEP_AGAIN_NS = 1_000_000_000
"""A sweep looks at every entry: an outage with `publish="raise"` asks for one with each invalidation."""
SPINS = 200
SLEEP_S = 0.0002
"""While waiting for the host's ledger to reach a message: a short spin, as it takes about 100 µs, then sleeps."""


class Doubt:
    """
    What a hit compares with until the host's ledger has reached what this process said itself: a count that no entry
    has seen, and stamps that void every entry, so that every read looks at the whole rule, the own ledger included.

    Args:
        look: called by every such read, so that doubt ends in a process that only reads.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def __getitem__(self, index: int, /) -> int:
        self._look()
        return -2 if index == CHANGES else FOREVER

    def __setitem__(self, index: int, value: int, /) -> None:
        raise TypeError("nobody writes here")


class SidecarHearing:
    """
    The sidecar of this host writes a ledger in a file, which this process maps read-only: no thread, no connection,
    no message.

    What this process says itself is stamped in `own`, which every look at the whole rule includes. A hit is no such
    look: it compares the count of changes. Hence doubt.

    Rule 1: doubt begins before the stamp (`saying`) and ends when the host's ledger has reached everything that was
    said, which has moved its count past whatever any entry remembers.
    Rule 2: a stamp that the host's ledger will never confirm (Redis refused it, the queue overflowed, another process
    waits for it) is orphaned: doubt ends after a sweep has let go of everything that it voids.
    Rule 3: whoever ends doubt looks again, under the lock, whether it may; a sweep takes time, and others go on saying.
    Rule 4: an invalidation waits for its own message, never for those of other threads.

    Args:
        path: of the file.
        any_owner: trust a file that belongs to somebody else than root or ourselves.
        watch: told what a hit has to compare with.
        sweep: lets every entry leave that may not be served, by either ledger.

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
        watch: Callable[[Words], None],
        sweep: Callable[[], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._any_owner = any_owner
        self._watch = watch
        self._sweep = sweep
        self._file = LedgerFile(path, namespace=config.namespace, any_owner=any_owner)
        self.view = self._file.view
        # As many slots as the host's, so that a slot means the same in both. Untouched pages of it cost nothing.
        self.own = Ledger.private(slots=self.view.slots, namespace=config.namespace)
        self.tally = Tally()
        self._lock = threading.Lock()
        self._in_doubt = False
        self._saying = 0
        self._unsettled: deque[tuple[Receipt, int]] = deque()
        self._orphans = 0  # how often stamps were orphaned, and how many of these times were swept
        self._swept = 0
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
        """Whether the sidecar has proved within `max_staleness` that it hears everything."""
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

    def saying(self) -> None:
        with self._lock:
            self._saying += 1
            if not self._in_doubt:
                self._in_doubt = True
                self._watch(Doubt(self._settle_in_passing))

    def said(self, receipt: Receipt) -> None:
        with self._lock:
            self._saying = max(0, self._saying - 1)  # a child that was forked meanwhile began to count anew
            said_at = self._clock()
            self._unsettled.append((receipt, said_at))
            if len(self._unsettled) > self._config.queue_size:
                self._unsettled.popleft()
                self._orphans += 1
        if not receipt.queued:
            # Without a lease the sidecar is dead, or knows as little as we do: nothing to wait for.
            self.wait_until(
                lambda: self._is_settled(receipt, said_at) or not self.is_leased(), self._config.max_staleness
            )
        self._settle()

    def close(self, timeout_s: float) -> None:
        pass

    def fork_locks(self) -> Iterable[Lock]:
        return (self._lock, self.own.lock)

    def after_fork_in_child(self) -> None:
        if self._in_doubt:
            self._saying = 0  # the threads that say it, and their receipts, are the parent's
            self._unsettled.clear()
            self._orphans += 1

    def _settle(self) -> None:
        """Trust the host's ledger alone again, if it has reached everything that we said."""
        with self._lock:
            while self._unsettled and self._is_settled(*self._unsettled[0]):
                receipt, _ = self._unsettled.popleft()
                self._orphans += receipt.lost_because is not None
            if not self._in_doubt or self._is_waiting():
                return
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
                self._watch(self.view.words)

    def _is_waiting(self) -> bool:
        """Whether the host's ledger has yet to reach something."""
        return self._saying > 0 or bool(self._unsettled)

    def _settle_in_passing(self) -> None:
        """By a read. It must not wait for a lock: a signal handler or a destructor may read while we hold it."""
        now = self._clock()
        if now >= self._next_settling and not self._lock.locked():
            self._next_settling = now + SETTLE_AGAIN_NS
            self._settle()

    def _is_settled(self, receipt: Receipt, said_at: int) -> bool:
        if receipt.lost_because is not None:
            return True
        # The writer stores a flush before it counts it, and proves a later time only after that.
        proven_at, _ = self.view.read_lease()
        if proven_at > self.view.words[FLUSHED_AT] > said_at:
            return True
        if not receipt.id:
            return not receipt.queued
        ms, _, seq = receipt.id.partition("-")
        return self.view.read_position() >= (int(ms), int(seq))

    def _look_for_new_file(self) -> None:
        if not self._file.was_replaced():
            return
        try:
            file = LedgerFile(self._file.path, namespace=self._config.namespace, any_owner=self._any_owner)
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
                self._watch(self.view.words)
