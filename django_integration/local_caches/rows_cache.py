"""
A Django cache for what packages read from rows, which are invalidated when the rows change.

It is for packages that keep rows in one of Django's caches: they call `get`, on a miss read the rows and call `add` or
`set_many`, and after a save call `delete_many` or `set`.

Rule 1: a value is kept if it was read after a miss, and is treated as loaded at that miss. Any other value may have
been read before a change by another process, or may not be committed yet: it only evicts what was there.
Rule 2: of the values of one `set_many` one miss is enough: they were read together, after it.
Rule 3: as rule 3 of `mapping.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..backend.backend import NearCacheBackend
from ..backend.fills import claim
from ..backend.levels import Done, Pending
from ..backend.one_level import OneLevel


class RowsLevel(OneLevel):
    """Stores fills, and publishes none of its values: the rows themselves are published when they change."""

    def set(self, values: Mapping[str, Any], ttl: float | None) -> Pending[None]:
        """See `Levels`, and rules 1 and 2."""
        near = self.near
        missed_at = [since for is_fill, since in claim(near, values).values() if is_fill]
        if not missed_at:
            near.evict(*values)
        else:
            for name, value in values.items():
                self.make_room(name)
                near.set(name, self.keep(value), ttl=ttl, tags=self.tags, loaded_at=min(missed_at))
        return Done(None)

    def add(self, name: str, value: Any, ttl: float | None) -> Pending[bool]:
        """See `Levels`, and rule 1."""
        if self.near.peek(name) is not None:
            return Done(False)
        self.set({name: value}, ttl)
        return Done(True)


class RowsCache(NearCacheBackend):
    """Near copies under *name*, void with every one of *tags*."""

    _without_second_level = RowsLevel

    def __init__(self, name: str, tags: Iterable[str]) -> None:
        location = f"invalidator.{name}"
        super().__init__(location, {"KEY_PREFIX": location, "OPTIONS": {"TAGS": tuple(tags), "TRANSACTIONS": False}})
