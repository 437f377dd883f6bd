"""
The daemon: for each namespace one subscription, and one ledger in a file.

It uses the same `Listener`, `Subscription` and `Link` as a process that listens for itself.

Rule 1: whatever happens to one namespace, the others go on.
Rule 2: a restart voids nothing. The position is in the file, and the journal is replayed from there.
Rule 3: a ledger that somebody removed or replaced is put back (`repair`). Workers that map the old one lose their
lease, and then find the new one by its name.
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
from ..errors import LedgerFileError
from ..feeds.listener import make_listener
from ..ledger import PROVEN_AT, now_ns
from ..ledger.file import default_path, writing
from ..link import make_link
from ..message import Body
from ..protocol.journal import read_journal

log = logging.getLogger("invalidator.sidecar")

DEFAULT_SLOTS = 2**20
"""8 MiB. The table in docs/sidecar.md shows what that means for misses."""
STUCK_AFTER_NS = 60 * 1_000_000_000
"""A listener finishes a turn every few seconds, also while the server is away; three dead name servers take 30."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """
    The state of one namespace.

    Args:
        alive: whether its listener makes progress, connected or not.
        leased: whether a worker with the same `max_staleness` holds a lease.
        proven_age_s: seconds since the last proof; None before the first.
        names: keys and tags applied so far.
    """

    namespace: str
    path: str
    slots: int
    state: str
    alive: bool
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


class ServedNamespace:
    """One namespace that the sidecar serves: its ledger, and the listener that writes it."""

    def __init__(self, url: str, config: Config, path: Path) -> None:
        self.namespace = config.namespace
        self.config = config
        self.path = path
        self.names = 0
        self.trouble: str | None = None
        self._max_staleness_ns = config.max_staleness_ns
        self._close_timeout = config.close_timeout
        self._link = make_link(url, timeout_s=config.publish_timeout, namespace=config.namespace)
        self._stack = contextlib.ExitStack()
        self.ledger = self._stack.enter_context(writing(path, namespace=config.namespace, slots=config.slots))
        self._identity = identity(path)
        self._listener = make_listener(
            config,
            self._link,
            self.ledger,
            self,
            node=f"sidecar-{secrets.token_hex(6)}",
            clock=now_ns,
            journal=read_journal(self.ledger),
        )

    def start(self) -> None:
        """Start the listener."""
        self._listener.start()

    def wait_until_leased(self, timeout_s: float) -> bool:
        """Wait for a lease, at most *timeout_s* seconds. Returns whether there is one."""
        return self._listener.wait_until(self.is_leased, timeout_s)

    def is_leased(self) -> bool:
        """Whether a worker with the same `max_staleness` holds a lease."""
        proven_at = self.ledger.words[PROVEN_AT]
        return proven_at > 0 and now_ns() < proven_at + self._max_staleness_ns

    def is_alive(self) -> bool:
        """Whether the listener makes progress, connected or not."""
        return not self._listener.has_ended and now_ns() < self._listener.turned_at + STUCK_AFTER_NS

    def is_in_place(self) -> bool:
        """Whether the file at the path is the ledger that this sidecar writes."""
        return identity(self.path) == self._identity

    def close(self) -> None:
        """
        Stop the listener and unlock the file, which stays: the next sidecar goes on from there. May be called again.

        If the listener does not end, it may still write, so the file stays locked until the process ends.
        """
        if not self._listener.close(self._close_timeout):
            log.error("listener does not end, its ledger stays locked namespace=%s path=%s", self.namespace, self.path)
            return
        self._link.close()
        self._stack.close()

    def health(self) -> Health:
        """Return its state."""
        subscription, tally = self._listener.subscription, self._listener.subscription.tally
        proven_at = self.ledger.words[PROVEN_AT]
        return Health(
            namespace=self.namespace,
            path=str(self.path),
            slots=self.ledger.slots,
            state=str(subscription.state),
            alive=self.is_alive(),
            leased=self.is_leased(),
            proven_age_s=(now_ns() - proven_at) / 1e9 if proven_at else None,
            position=subscription.journal.position if subscription.journal else None,
            flushes=tally.flushes,
            replays=tally.replays,
            reconnects=tally.reconnects,
            received=tally.received,
            names=self.names,
            refused=dict(tally.refused),
            last_error=self.trouble or tally.last_error,
        )

    # Called by the listener.

    def invalidated(self, body: Body, id: str, now: int) -> None:
        """A message was applied."""
        self.names += len(body.keys) + len(body.tags)

    def listening(self, now: int) -> None:
        """The ledger is kept up to date from now on."""

    def flushed(self, reason: str, now: int) -> None:
        """The ledger was voided."""


class Sidecar:
    """
    Serves several namespaces of one server.

    Args:
        url: of the server.
        configs: one for each namespace.
        paths: of the ledgers, by namespace; without one, `default_path`.

    Raises:
        InvalidSetting: an option cannot work.
        LedgerFileError: another sidecar writes one of the ledgers, or it cannot be written.
    """

    def __init__(self, url: str, configs: Sequence[Config], paths: dict[str, Path] | None = None) -> None:
        self.served: list[ServedNamespace] = []
        self._url = url
        try:
            for config in configs:
                path = (paths or {}).get(config.namespace) or default_path(config.namespace)
                self.served.append(ServedNamespace(url, config, path))
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start all listeners."""
        for served in self.served:
            _start(served)

    def repair(self) -> None:
        """Put a new ledger in the place of each that was removed or replaced. What fails is tried by the next call."""
        for index, served in enumerate(self.served):
            if not served.is_in_place():
                served.close()
                try:
                    self.served[index] = ServedNamespace(self._url, served.config, served.path)
                except LedgerFileError as error:
                    if served.trouble != str(error):  # once per change, not once per attempt
                        log.error("ledger lost namespace=%s error=%s", served.namespace, error)  # noqa: TRY400
                    served.trouble = str(error)
                else:
                    log.warning("ledger was removed or replaced, and is put back namespace=%s", served.namespace)
                    _start(self.served[index])

    def is_ready(self) -> bool:
        """Whether every namespace is leased."""
        return all(served.is_leased() for served in self.served)

    def close(self) -> None:
        """Stop. May be called again."""
        while self.served:
            self.served.pop().close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file at *path*; None if there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _start(served: ServedNamespace) -> None:
    served.start()
    log.info("listening namespace=%s path=%s slots=%d", served.namespace, served.path, served.ledger.slots)
