"""
A Django cache of what packages read from rows: what is in it falls when the rows change.

Packages that keep what they read from the database in one of Django's caches (`get`, on a miss read the rows and `add`
or `set_many`; after a save `delete_many` or `set`) get this one instead of theirs.

Rule 1: a value is kept if it was read after a miss, and counts from then. Any other value may have been read before
somebody else's change, or may not be committed yet: it only makes what was there leave.
Rule 2: of the values of one `set_many` one miss is enough: they were read together, after it.
Rule 3: as rule 3 of `mapping.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from invalidator.extending import Change

from ..backend.backend import NearCacheBackend
from ..backend.fills import claim


class RowsCache(NearCacheBackend):
    """Near copies under *name*, void with every one of *tags*."""

    def __init__(self, name: str, tags: Iterable[str]) -> None:
        location = f"invalidator.{name}"
        super().__init__(location, {"KEY_PREFIX": location, "OPTIONS": {"TAGS": tuple(tags)}})

    def _set_here(self, values: Mapping[str, Any], timeout: Any) -> Change | None:
        near, ttl = self._place.near, self._ttl(timeout)
        claims = claim(near, values).values()
        missed_at = [since for is_fill, since in claims if is_fill]
        if not missed_at:
            near.evict(*values)
            return None
        for name, value in values.items():
            self._make_room(name)
            near.set(name, self._keep(value), ttl=ttl, tags=self.tags, loaded_at=min(missed_at))
        return None

    def _add_here(self, name: str, value: Any, timeout: Any) -> tuple[bool, Change | None]:
        if self._place.near.peek(name) is not None:
            return False, None
        self._set_here({name: value}, timeout)
        return True, None
