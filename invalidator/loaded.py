"""What a loader returns when the value itself decides how it is cached; and the time to live, given or not."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from .config import TTL
from .copying import Copy
from .entry import AnyEntry
from .errors import InvalidSetting
from .names import Tag

V = TypeVar("V")
T = TypeVar("T")


class Default:
    """The type of DEFAULT: "the cache's own"."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = Default()
"""A TTL that was not given. None means "never expires"."""
Ttl = float | None | Default


@dataclass(slots=True)  # not frozen: that would take three times as long to make, and each recorded load makes one
class Loaded(Generic[V]):
    """
    What a loader may return in place of a bare value.

    Attributes:
        ttl: seconds; None for never; without it, that of the call.
        tags: in addition to those of the call.
        made_from: entries (of `get_entry`, `load_entry`) whose values are in this one, of caches on the same bus. This
            one is void when one of them is, by its key, its tags or a flush; and without a lease it is served no longer
            than they are. Their TTL has no effect on it.
        copy: what each reader is handed out, see `copying`; without it, what the cache says.
    """

    value: V
    ttl: Ttl = DEFAULT
    tags: Iterable[str | Tag] = ()
    made_from: Iterable[AnyEntry] = ()
    copy: Copy | None = None


def check_ttl(ttl: T) -> T:
    """Return *ttl*, or raise InvalidSetting."""
    if not isinstance(ttl, Default) and not TTL.check.fits(ttl):
        raise InvalidSetting(f"ttl must be {TTL.check.right}, not {ttl!r}{_hint(ttl)}")
    return ttl


def _hint(ttl: Any) -> str:
    """What may have been meant."""
    if isinstance(ttl, timedelta):
        return f": did you mean {ttl.total_seconds():g}?"
    if isinstance(ttl, str):
        with contextlib.suppress(ValueError):
            return f": did you mean {float(ttl):g}?" if TTL.check.fits(float(ttl)) else ""
    return ": for no end write None" if ttl in (-1, math.inf) else ""
