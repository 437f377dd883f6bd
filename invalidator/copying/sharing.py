"""
Objects that are handed out live.

Some objects write into themselves when they are only looked at: a row keeps a relation that somebody followed. A live
one would show it to all readers, for as long as it is cached. An integration says what is to be done with such objects
before they are stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .parts import parts_of
from .unchanging import UNCHANGING

MOST = 100_000
"""Objects in one value that are looked at."""

_by_base: dict[type, Callable[[Any], object]] = {}


def add_shared_kind(base: type, prepare: Callable[[Any], object]) -> None:
    """Call *prepare* with every object of *base* and its subclasses that is about to be stored and handed out live."""
    _by_base[base] = prepare


def share(value: Any) -> None:
    """*value* is about to be stored, and handed out live: prepare the objects in it that have to be prepared."""
    if not _by_base or type(value) in UNCHANGING:
        return
    seen: set[int] = set()
    ahead = [value]
    while ahead and len(seen) < MOST:
        at = ahead.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        found = parts_of(at)
        if found is not None:
            ahead += [part for _, part in found[0] if type(part) not in UNCHANGING]
        for base in type(at).__mro__:
            if base in _by_base:
                _by_base[base](at)
                break
