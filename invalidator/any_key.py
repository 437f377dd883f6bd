"""
A near cache whose keys are any hashable values: the arguments of a call, the keys of a dictionary.

Such a key has no text that is the same on every server, so a message cannot name a single entry. Every entry carries
one tag, and is void by that, by further tags of its own, and by whatever voids the whole ledger.

Rule 1: a key of this cache is no name. A key of the namespace that happens to be equal has nothing to do with it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from .bus import Invalidator
from .entry import AnyEntry
from .names import check_tag, name_slots
from .near_cache import NearCache


class AnyKeyCache(NearCache):
    """
    Live objects in this process' memory, by any hashable key, void when any process invalidates *tag* or another tag
    of theirs.

    Args:
        tag: what every entry carries.
        options: those of `NearCache`.

    Raises:
        InvalidName, InvalidSetting: an argument cannot work.
    """

    def __init__(self, bus: Invalidator, tag: str, **options: Any) -> None:
        self.tag = check_tag(tag)
        super().__init__(bus, **options)

    def evict_invalidated(self, keys: Iterable[str], loaded_before: int) -> None:
        """Called by the bus, and without effect: these keys are those of other caches (rule 1)."""

    def keys(self) -> list[Hashable]:
        """The keys of what may be served now."""
        return [key for key, entry in self._store.items() if self._rule.check(entry) == "valid"]

    def clear(self) -> int:
        """Let every entry leave, here only. Returns how many there were."""
        gone = self._store.remove_if(lambda entry: "hand")
        self._report(gone)
        return len(gone)

    def _check_key(self, key: Any) -> Any:
        """Return *key*. Raises TypeError if it cannot be hashed."""
        hash(key)
        return key

    def _slots_of(self, key: Hashable, tags: tuple[str, ...]) -> tuple[int, ...]:
        return name_slots((), tags if self.tag in tags else (self.tag, *tags), self.bus.slots)

    def _make_entry(self, key: str, value: Any, loaded_at: int, ttl: float | None, tags: Any, *parts: Any) -> AnyEntry:
        own = tags if self.tag in tags else (self.tag, *tags)
        return super()._make_entry(key, value, loaded_at, ttl, own, *parts)
