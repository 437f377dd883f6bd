"""
The daemon: for each namespace one subscription and one ledger in a file. No second implementation of anything: the same
`Listener`, `Subscription` and `Link` as in a process that listens for itself.

Rule 1: whatever happens to one namespace, the others go on.
Rule 2: a restart voids nothing: the position is in the file, and the journal is read from there.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..config import Config
from ..ledger import EPOCH, POSITION_MS, POSITION_SEQ, PROVEN_AT, SERVER_RUN, Ledger, now_ns
from ..ledger_file import default_path, writing
from ..link import make_link
from ..listener import Listener
from ..message import Body
from ..names import redis_names
from ..subscription import Journal, Subscription

log = logging.getLogger("invalidator.sidecar")

DEFAULT_SLOTS = 2**20
"""8 MiB; docs/sidecar.md has the table of what that means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """
    How one namespace is doing.

    Args:
        leased: whether a worker with the same `max_staleness` holds a lease.
        proven_age_s: seconds since the last proof; None before the first.
        names: keys and tags applied so far.
    """

    namespace: str
    path: str
    slots: int
    state: str
    leased: bool
    proven_age_s: float | None
    position: str | None
    flushes: int
    replays: int
    reconnects: int
    received: int
    names: int
    refused: dict[str, int]
    last_error: str | None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


class Ward:
    """One namespace: its ledger, its subscription, its listener."""

    def __init__(self, url: str, config: Config, path: Path) -> None:
        self.namespace = config.namespace
        self.path = path
        self.names = 0
        self._max_staleness_ns = config.max_staleness_ns
        self._close_timeout = config.close_timeout
        self._link = make_link(url, timeout_s=config.publish_timeout)
        self._stack = contextlib.ExitStack()
        self.ledger = self._stack.enter_context(writing(path, namespace=config.namespace, slots=config.slots))
        names = redis_names(config.namespace)
        subscription = Subscription(
            names,
            node=f"sidecar-{secrets.token_hex(6)}",
            proof_interval_ns=config.proof_interval_ns,
            answer_timeout_ns=config.answer_timeout_ns,
            open_journal=self._link.open_journal(names, config.journal_length),
            journal=read_journal(self.ledger),
        )
        self._listener = Listener(subscription, self._link, self.ledger, self, now_ns)

    def start(self) -> None:
        """Begin to listen."""
        self._listener.start()

    def wait_until_leased(self, timeout_s: float) -> bool:
        """Wait for a lease, at most *timeout_s* seconds. Returns whether there is one."""
        return self._listener.wait_until(self.is_leased, timeout_s)

    def is_leased(self) -> bool:
        """Whether a worker with the same `max_staleness` holds a lease."""
        proven_at = self.ledger.words[PROVEN_AT]
        return proven_at > 0 and now_ns() < proven_at + self._max_staleness_ns

    def close(self) -> None:
        """Stop listening and let go of the file, which stays: the next sidecar goes on from there."""
        self._listener.close(self._close_timeout)
        self._link.close()
        self._stack.close()

    def health(self) -> Health:
        """How it is doing."""
        subscription, tally = self._listener.subscription, self._listener.subscription.tally
        proven_at = self.ledger.words[PROVEN_AT]
        return Health(
            namespace=self.namespace,
            path=str(self.path),
            slots=self.ledger.slots,
            state=str(subscription.state),
            leased=self.is_leased(),
            proven_age_s=(now_ns() - proven_at) / 1e9 if proven_at else None,
            position=subscription.journal.position if subscription.journal else None,
            flushes=tally.flushes,
            replays=tally.replays,
            reconnects=tally.reconnects,
            received=tally.received,
            names=self.names,
            refused=dict(tally.refused),
            last_error=tally.last_error,
        )

    # What the listener tells us.

    def invalidated(self, body: Body, id: str, now: int) -> None:
        """A message was applied."""
        self.names += len(body.keys) + len(body.tags)

    def flushed(self, reason: str, now: int) -> None:
        """The ledger was voided."""


class Sidecar:
    """
    Several namespaces of one server.

    Args:
        url: of the server.
        configs: one for each namespace.
        paths: of the ledgers, by namespace; without one, `default_path`.

    Raises:
        InvalidSetting: an option cannot work.
        LedgerFileError: another sidecar writes a ledger, or it cannot be written.
    """

    def __init__(self, url: str, configs: Sequence[Config], paths: dict[str, Path] | None = None) -> None:
        self.wards: list[Ward] = []
        try:
            for config in configs:
                path = (paths or {}).get(config.namespace) or default_path(config.namespace)
                self.wards.append(Ward(url, config, path))
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Begin to listen."""
        for ward in self.wards:
            ward.start()
            log.info("listening namespace=%s path=%s slots=%d", ward.namespace, ward.path, ward.ledger.slots)

    def is_ready(self) -> bool:
        """Whether every namespace is leased."""
        return all(ward.is_leased() for ward in self.wards)

    def close(self) -> None:
        """Stop. May be called again."""
        while self.wards:
            self.wards.pop().close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(ledger: Ledger) -> Journal | None:
    """How far an earlier writer of *ledger* has applied which journal."""
    words = ledger.words
    if not words[POSITION_MS]:
        return None
    return Journal(f"{words[POSITION_MS]}-{words[POSITION_SEQ]}", words[SERVER_RUN], words[EPOCH])
