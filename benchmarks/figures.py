"""What a benchmark returns: figures, some with a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Unit = Literal["ns", "µs", "ms", "×", "%", ""]


@dataclass(frozen=True, slots=True)
class Target:
    """
    What an issue asks for.

    Args:
        issue: its number.
        sign: on which side of *limit* a figure has to be.
        limit: in the unit of the figure.
    """

    issue: int
    sign: Literal["≤", "≥", "<"]
    limit: float

    def is_met(self, value: float) -> bool:
        """Whether *value* is on the right side. No rounding: 1.504 misses "≤ 1.5"."""
        match self.sign:
            case "≤":
                return value <= self.limit
            case "<":
                return value < self.limit
            case "≥":
                return value >= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One line of a table.

    Args:
        what: a few words.
        value: in *unit*.
        times: how many times the base of this benchmark that is, if it has one.
        target: what it should be, if an issue sets one.
    """

    what: str
    value: float
    unit: Unit
    times: float | None = None
    target: Target | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return self.target.is_met(self.value) if self.target else None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "met": self.is_met}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of one benchmark."""

    name: str
    title: str
    figures: Sequence[Figure]
    took_s: float

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        figures = [figure.as_dict() for figure in self.figures]
        return {"name": self.name, "title": self.title, "took_s": round(self.took_s, 2), "figures": figures}
