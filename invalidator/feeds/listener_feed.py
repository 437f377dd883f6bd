"""A thread of this process receives what becomes stale, and writes a private ledger."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from ..forks import Lock
from ..ledger import Ledger, LedgerView
from ..protocol.journal import Journal, read_journal
from ..protocol.states import State
from ..protocol.subscription import Tally
from ..receipt import Receipt
from .listener import Listener

log = logging.getLogger("invalidator.listener")


class ListenerFeed:
    """
    See `LedgerFeed`. The thread starts with `start`, once more in each forked child, and again if it has ended.

    Args:
        ledger: written by the listener, and by the process' own invalidations.
        make_listener: makes a listener of that ledger, given how far an earlier one has applied which journal.
    """

    kind = "own"

    def __init__(self, ledger: Ledger, make_listener: Callable[[Ledger, Journal | None], Listener]) -> None:
        self.own = ledger
        self.view: LedgerView = ledger
        self._make_listener = make_listener
        self._journal = read_journal(ledger)
        self._listener: Listener | None = None
        self._closed = False
        self._lock = threading.RLock()

    @property
    def state(self) -> str:
        if self._listener is None:
            return str(State.IDLE)
        return "ended" if self._listener.has_ended and not self._closed else str(self._listener.subscription.state)

    @property
    def position(self) -> str | None:
        journal = self._listener.subscription.journal if self._listener else self._journal
        return journal.position if journal else None

    @property
    def tally(self) -> Tally:
        return self._listener.subscription.tally if self._listener else Tally()

    def start(self) -> None:
        if (self._listener is None or self._listener.has_ended) and not self._closed:
            self._start()

    def _start(self) -> None:
        with self._lock:
            before = self._listener
            if (before is not None and not before.has_ended) or self._closed:
                return
            if before is not None:
                self._leave(before)
            listener = self._make_listener(self.own, self._journal)
            if self._listener is not before:
                return  # a signal handler was quicker: it does not wait for the lock of its own thread
            self._listener = listener
            if before is not None:
                listener.subscription.tally = before.subscription.tally
        # Not under the lock: gevent suspends whoever starts a thread, and a lock from before it took over (in an
        # application that was preloaded) would block every other greenlet, and with them this one.
        try:
            listener.start()
        except RuntimeError as error:  # the interpreter is going down, or the system is out of threads
            log.warning("listener cannot start channel=%s error=%s", listener.subscription.names.channel, error)
            self._listener = None

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        return self._listener.wait_until(is_so, timeout_s) if self._listener else is_so()

    def wait_for_first_proof(self, timeout_s: float) -> None:
        self.wait_until(lambda: self.view.is_proven() or self.is_away(), timeout_s)

    def is_away(self) -> bool:
        return self._listener is not None and self._listener.subscription.is_failing

    def is_own_thread(self) -> bool:
        return self._listener is not None and self._listener.is_this_thread()

    def before_publish(self) -> None:
        pass  # what is stamped in `own` is stamped in `view`

    def after_publish(self, receipt: Receipt) -> None:
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
            self._leave(self._listener)
            self._listener = None

    def _leave(self, listener: Listener) -> None:
        """Its thread takes no further steps, here. The next one goes on from where it is."""
        self._journal = listener.subscription.journal
        self.own.touch()  # up to that position everything is stamped, but perhaps not counted yet
        listener.close_connection()
