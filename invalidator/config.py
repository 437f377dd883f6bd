"""Every option of an `Invalidator`, checked in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from .errors import InvalidSetting
from .names import check_namespace

WhenUnleased = Literal["short", "bypass", "serve"]
WhenDown = Literal["queue", "raise"]

PROOFS_PER_BOUND = 4
"""A lease is renewed when a quarter of it is gone: three proofs in a row may be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    How one process takes part in one namespace.

    Args:
        namespace: who hears whom; 1-64 letters, digits, `_`, `-`, `.`, `:`.
        max_staleness: seconds; no value is served longer than this after its invalidation was accepted.
        when_unleased: what to serve while nothing proves that we hear everything: "short" (each entry for
            `max_staleness` after its own load), "bypass" (nothing), "serve" (until the TTL: gives up the bound).
        replica_lag: seconds by which the data that loaders read may be old.
        publish: what to do when Redis does not take an invalidation: "queue" (try again) or "raise".
        queue_size: how many names may wait for Redis before they become one clear.
        publish_timeout: seconds to wait for Redis when connecting and for each answer.
        close_timeout: seconds that `close()` may take to deliver what waits.
        journal_length: how many messages the journal in Redis keeps for who was away.
        slots: of this process' ledger, 8 bytes each. More slots, fewer unneeded misses.

    Raises:
        InvalidSetting: an option cannot work; the message says which values can.
    """

    namespace: str
    max_staleness: float = 2.0
    when_unleased: WhenUnleased = "short"
    replica_lag: float = 0.0
    publish: WhenDown = "queue"
    queue_size: int = 10_000
    publish_timeout: float = 1.0
    close_timeout: float = 2.0
    journal_length: int = 100_000
    slots: int = 2**17

    def __post_init__(self) -> None:
        check_namespace(self.namespace)
        check_number("max_staleness", self.max_staleness, "seconds", least=0.01, most=3600)
        check_number("replica_lag", self.replica_lag, "seconds", least=0, most=3600)
        check_number("publish_timeout", self.publish_timeout, "seconds", least=0.001, most=600)
        check_number("close_timeout", self.close_timeout, "seconds", least=0, most=600)
        _check_choice("when_unleased", self.when_unleased, get_args(WhenUnleased))
        _check_choice("publish", self.publish, get_args(WhenDown))
        _check_whole("queue_size", self.queue_size, "names", least=1)
        _check_whole("journal_length", self.journal_length, "messages", least=100)
        _check_whole("slots", self.slots, "slots", least=64, most=2**32)

    @property
    def max_staleness_ns(self) -> int:
        """`max_staleness` in nanoseconds."""
        return int(self.max_staleness * 1e9)

    @property
    def replica_lag_ns(self) -> int:
        """`replica_lag` in nanoseconds."""
        return int(self.replica_lag * 1e9)

    @property
    def proof_interval_ns(self) -> int:
        """How often to ask for a proof."""
        return self.max_staleness_ns // PROOFS_PER_BOUND

    @property
    def answer_timeout_ns(self) -> int:
        """How long a silent connection is kept: half a bound, so that a new one can be proven within the other half."""
        return min(max(self.max_staleness_ns // 2, 250_000_000), 5_000_000_000)


def check_number(name: str, value: object, unit: str, *, least: float, most: float) -> None:
    """Raise InvalidSetting unless *value* is a number between *least* and *most*."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        raise InvalidSetting(f"{name} must be {least}-{most} {unit}, not {value!r}")


def _check_whole(name: str, value: object, unit: str, *, least: int, most: int = 2**40) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidSetting(f"{name} must be a whole number of {unit}, {least} or more, not {value!r}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidSetting(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")
