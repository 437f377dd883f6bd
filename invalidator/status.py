"""How an `Invalidator` and a `NearCache` are doing, and what they report: plain values, JSON-ready by `as_dict()`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

Cause = Literal["invalidated", "expired", "room", "hand", "changed"]
"""Why an entry left a near cache."""
CAUSES: tuple[Cause, ...] = get_args(Cause)


@dataclass(frozen=True, slots=True)
class Past:
    """Something that happened: why, and how many seconds ago."""

    reason: str
    age_s: float


class Journaled(NamedTuple):
    """
    A message in the journal: it was published before, and other processes have received it or will.

    Args:
        id: its place in the journal.
        at: when Redis accepted it, by the clock of Redis: seconds since 1970.
        operation: "invalidate", "clear", "hold" (its names are about to become stale), "release" (they did, and the
            hold has ended), "epoch" (the journal begins); "unknown" if this version cannot read it.
        node: who published it; "" if it names none.
    """

    id: str
    at: float
    operation: str
    node: str
    keys: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    How an `Invalidator` is doing.

    Args:
        state: of the subscription: "idle" (nothing was cached yet), "connecting", "subscribing", "replaying", "live",
            "closed", or "ended" (the listener's thread is gone, though nobody closed it; the next fill starts another).
        listener: what receives: "own" (a thread of this process) or "sidecar" (that of this host; then `state` is
            "sidecar", too, and the sidecar's own status has the counts of what it receives).
        leased: whether everything that was accepted until a moment ago is proven to have been applied.
        lease_remaining_s: how long that proof lasts if no other follows.
        listening_s: for how long what is published has been received; None before the first proof. No lease covers what
            was loaded before.
        position: the id of the last applied message of the journal.
        failures: how often the listener, or a callback of `on_invalidate`, raised what it should not have.
        flushes, replays, reconnects: how often everything was voided; how often missed messages were read from the
            journal; how often a connection was lost.
        received, refused: messages that arrived; messages that could not be read, by reason.
        published, queued, undelivered: messages that Redis took; names that wait for it; names that were given up.
        queue_overflows: how often too many names waited and became one clear.
        last_error: what went wrong last and has not recovered.
    """

    namespace: str
    node: str
    state: str
    listener: str
    leased: bool
    lease_remaining_s: float
    listening_s: float | None
    max_staleness_s: float
    position: str | None
    flushes: int
    replays: int
    reconnects: int
    failures: int
    received: int
    refused: dict[str, int]
    published: int
    queued: int
    undelivered: int
    queue_overflows: int
    last_disconnect: Past | None
    last_flush: Past | None
    last_gap: Past | None
    last_error: str | None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """
    How a `NearCache` is doing, since it was made.

    Args:
        hits, misses: reads that were answered from the store; reads that were not.
        loads, load_failures: calls of loaders; those that raised.
        joins: reads that waited for another caller's load.
        fills, refused_fills: values that were stored; values that were not, because their names were invalidated while
            they were loaded, or because they may hold what is not committed.
        evictions: entries that left, by cause.
        size, maxsize: entries (or the sum of their sizes) in the store; how many may be.
    """

    hits: int
    misses: int
    loads: int
    load_failures: int
    joins: int
    fills: int
    refused_fills: int
    evictions: dict[Cause, int]
    size: float
    maxsize: float

    @property
    def hit_ratio(self) -> float:
        """Hits among all reads; 0 before the first."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "hit_ratio": self.hit_ratio}


class Invalidation(NamedTuple):
    """
    What an `on_invalidate` callback is given.

    Args:
        keys, tags: the names that became stale; empty if `everything` did.
        everything: the whole namespace was cleared, or this process may have missed something.
        reason: "invalidate", "clear", or why this process flushed.
        id: of the message in the journal; "" if it has none.
        node: who published it; "" if the message names none.
    """

    keys: tuple[str, ...]
    tags: tuple[str, ...]
    everything: bool
    reason: str
    id: str
    node: str

    @property
    def is_message(self) -> bool:
        """Whether it was published; if not, this process has flushed its ledger."""
        return not self.everything or self.reason == "clear"
