"""What the doctor finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from ..errors import InvalidatorError

Level = Literal["ok", "warn", "fail"]


class Unhealthy(InvalidatorError):
    """A check failed; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    The result of one check.

    Args:
        check: what was checked, in a word or two.
        level: "ok"; "warn" (it costs something, or cannot be seen); "fail" (the promise cannot be kept, or nothing
            works).
        found: the facts.
        means: what follows from them; "" if all is well.
        repair: what to do, exactly; "" if nothing.
    """

    check: str
    level: Level
    found: str
    means: str = ""
    repair: str = ""

    def as_dict(self) -> dict[str, str]:
        """Ready for JSON."""
        return asdict(self)
