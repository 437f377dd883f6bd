"""
How a process receives invalidations: a ledger feed keeps a ledger up to date, and the process' reads check that ledger.

There are two. With `ListenerFeed`, a thread of this process (a `Listener`) receives messages and writes a private
ledger. With `SidecarFeed`, the sidecar of this host does so for all processes of the host, and they map its ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ..forks import Lock
from ..ledger import Ledger, LedgerView
from ..protocol.subscription import Tally
from ..receipt import Receipt


class LedgerFeed(Protocol):
    """
    What a bus needs of either.

    Attributes:
        kind: "own" or "sidecar", for status.
        view: the ledger that reads check.
        own: the ledger in which this process stamps what it invalidates itself; perhaps the same.
    """

    kind: str
    view: LedgerView
    own: Ledger

    @property
    def state(self) -> str:
        """For people: a state of the subscription, or "sidecar"."""

    @property
    def position(self) -> str | None:
        """The id of the last message that was applied."""

    @property
    def tally(self) -> Tally:
        """What happened so far."""

    def start(self) -> None:
        """Begin to receive, or check that all is well. Cheap: called with every fill."""

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """
        Wait until *is_so* returns True, at most *timeout_s* seconds, and return what it returned last. A proof may make
        it so.
        """

    def wait_for_first_proof(self, timeout_s: float) -> None:
        """
        Wait until there was a proof, at most *timeout_s* seconds; not for a server that is away, and not longer than
        until it turns out to be.
        """

    def is_away(self) -> bool:
        """Whether the server is known to be away, as far as who receives can tell."""

    def is_own_thread(self) -> bool:
        """Whether the caller runs in the thread that receives: it would wait for itself."""

    def before_publish(self) -> None:
        """This process is about to stamp `own`, and then to publish what it has stamped."""

    def after_publish(self, receipt: Receipt) -> None:
        """It was published, waits in the queue, or is lost: *receipt* knows. Follows each `before_publish`."""

    def close(self, timeout_s: float) -> None:
        """Receive no more."""

    def fork_locks(self) -> Iterable[Lock]:
        """See `forks.ForkOwner`."""

    def after_fork_in_child(self) -> None:
        """Forget what only the parent has."""
