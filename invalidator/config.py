"""
Every option, in one place: its default, what it may be, and what it does.

`Config` holds those of an `Invalidator`. `OPTIONS` holds them by name, and with them those of a `NearCache` and of
`Invalidator.hold`; signatures, an integration's settings and docs/api.md take theirs from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

from .copying import COPIES, Copy
from .errors import InvalidSetting
from .names import NAMESPACE_RIGHT, is_namespace

T = TypeVar("T")

WhenUnleased = Literal["short", "bypass", "serve"]
WhenDown = Literal["queue", "raise"]

PROOFS_PER_BOUND = 4
"""A lease is renewed when a quarter of it is gone: three proofs in a row may be lost."""


class Check(NamedTuple):
    """
    What a value may be.

    Attributes:
        fits: whether a value is such.
        right: such values in words; a sentence may begin with "It must be" or "Set it to".
    """

    fits: Callable[[Any], bool]
    right: str


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """
    One option.

    Attributes:
        default: its value where none is given; `...` if one must be given.
        check: what it may be.
        doc: what it does, as a table shows it.
    """

    default: T
    check: Check
    doc: str

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is ...

    def validate(self, name: str, value: object) -> None:
        """Raise InvalidSetting, which calls the option *name*, unless *value* fits."""
        if not self.check.fits(value):
            raise InvalidSetting(f"{name} must be {self.check.right}, not {value!r}")


def number(unit: str, *, least: float, most: float) -> Check:
    """A finite number of *unit*, between two that are included."""

    return Check(
        lambda value: _is_finite(value) and least <= value <= most,
        f"a number of {unit} from {least:g} to {most:g}",
    )


def whole(unit: str, *, least: int, most: int = 2**40) -> Check:
    """A whole number of *unit*."""

    return Check(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
        f"a whole number of {unit}, {least} or more",
    )


def one_of(*choices: str) -> Check:
    """One of some texts."""
    return Check(lambda value: isinstance(value, str) and value in choices, f"one of {', '.join(map(repr, choices))}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)  # True would pass for one second


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_size(value: Any) -> bool:
    return _is_number(value) and bool(value > 0)


def _is_ttl(value: Any) -> bool:
    return value is None or (_is_finite(value) and bool(value >= 0))


def _option(default: Any, check: Check, doc: str) -> Any:
    return field(default=default, metadata={"option": Option(default, check, doc)})


def _required(check: Check, doc: str) -> Any:
    return field(metadata={"option": Option(..., check, doc)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    How one process takes part in one namespace: the options of an `Invalidator`, as docs/api.md lists them.

    Raises:
        InvalidSetting: an option cannot work; the message says which values can.
    """

    namespace: str = _required(
        Check(is_namespace, NAMESPACE_RIGHT), "the same in all processes that are to invalidate each other's caches"
    )
    max_staleness: float = _option(
        2.0,
        number("seconds", least=0.01, most=3600),
        "seconds: no value is served longer than this after its invalidation was accepted",
    )
    when_unleased: WhenUnleased = _option(  # noqa: RUF009 - it returns a field
        "short",
        one_of(*get_args(WhenUnleased)),
        "what reads serve without a lease, that is, while nothing proves that every invalidation was received: "
        '`"short"` (an entry for `max_staleness` after its own load), `"bypass"` (nothing), `"serve"` (until the TTL: '
        "gives up the bound)",
    )
    replica_lag: float = _option(
        0.0,
        number("seconds", least=0, most=3600),
        "seconds by which the data that loaders read may be behind the source",
    )
    publish: WhenDown = _option(  # noqa: RUF009
        "queue",
        one_of(*get_args(WhenDown)),
        'what to do with an invalidation that Redis does not take: `"queue"` it and try again, or `"raise"`',
    )
    queue_size: int = _option(
        10_000, whole("names", least=1), "how many names may wait for Redis before they become one clear"
    )
    publish_timeout: float = _option(
        1.0,
        number("seconds", least=0.001, most=600),
        "seconds to wait for Redis when connecting, and for each answer",
    )
    publish_connections: int = _option(
        64,
        whole("connections", least=1, most=10_000),
        "how many threads may publish at once, each on a connection of its own; one more waits for a connection, at "
        "most `publish_timeout`",
    )
    close_timeout: float = _option(
        2.0, number("seconds", least=0, most=600), "seconds that `close()` may take to deliver what waits"
    )
    journal_length: int = _option(
        100_000,
        whole("messages", least=100),
        "how many messages the journal in Redis keeps for processes that were disconnected",
    )
    slots: int = _option(
        2**17,
        whole("slots", least=64, most=2**32),
        "the size of this process' ledger, 8 bytes for each slot: with more of them, fewer entries are reloaded for "
        "nothing",
    )

    def __post_init__(self) -> None:
        for name, option in CONFIG_OPTIONS.items():
            option.validate(name, getattr(self, name))

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


CONFIG_OPTIONS: Mapping[str, Option[Any]] = {each.name: each.metadata["option"] for each in fields(Config)}

CONNECTIONS: Option[int] = CONFIG_OPTIONS["publish_connections"]

MAXSIZE: Option[int] = Option(
    50_000,
    Check(_is_size, "more than 0 (entries, or the sum of their sizes)"),
    "how many entries a near cache holds; with `getsizeof`, the sum of their sizes",
)
TTL: Option[float | None] = Option(
    None,
    Check(_is_ttl, "None (never expires) or seconds, 0 or more"),
    "seconds after which an entry expires, whatever happens; `None` for never",
)
COPY: Option[Copy] = Option(
    "none",
    one_of(*COPIES),
    'what a hit hands out of a value that can be changed: `"clone"`, `"deep"` or `"pickle"` (three ways to make the '
    'reader\'s own), or `"none"`, the live object',
)
GUARD: Option[float] = Option(
    0,
    Check(lambda value: value in (True, False) or (_is_finite(value) and 0 <= value <= 1), "a number from 0 to 1"),
    "the share of the hits at which values that are handed out live are looked at again: whether a reader has changed "
    "them",
)
JOIN_TIMEOUT: Option[float | None] = Option(
    30.0,
    Check(lambda value: value is None or (_is_finite(value) and value > 0), "None (as long as it takes) or seconds"),
    "seconds that a caller waits for another caller's load of the same key, before it starts one itself; `None` for as "
    "long as it takes",
)
HOLD: Option[float] = Option(
    30.0,
    number("seconds", least=0.1, most=3600),
    "seconds that a hold lasts if it is not released: for so long a writer that dies keeps its names out of all caches",
)

OPTIONS: Mapping[str, Option[Any]] = {
    **CONFIG_OPTIONS,
    "maxsize": MAXSIZE,
    "ttl": TTL,
    "join_timeout": JOIN_TIMEOUT,
    "copy": COPY,
    "guard": GUARD,
    "hold": HOLD,
}
