"""
How values that live in the memory of each process follow the transactions that have set them: see `following.py`.

Rule 1: the second message, after the commit, leaves the new values of this process alone: their keys are not stamped
here. Stamped, and given a later `loaded_at`, they would hide what others have published a moment before.
Rule 2: a ledger that stamps by itself what this process publishes (a sidecar's) voids them all the same; then they are
put back, as after every change (`WritableCache.renew`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invalidator import Entry, Receipt
from invalidator.extending import WritableCache

from ..names import Names
from ..transactions.uncommitted import Again
from .following import Changes, Made, changing


class NearChanges(Changes):
    """
    The changes of one stretch of a transaction in a near cache alone. What is kept of a value is its entry.

    Args:
        near: the near cache of the LOCATION.
    """

    def __init__(self, near: WritableCache, place_tag: str) -> None:
        super().__init__(place_tag)
        self._near = near
        self._survivors: dict[str, Entry[Any]] = {}
        self._at = 0

    def names(self) -> Names:
        """See `Follower`: a hold would void the new values of this process."""
        names = super().names()
        for name in self._find_survivors():
            del names.keys[name]
        return names

    def committed(self) -> Again:
        """See `Follower`, and rule 1."""
        self._at = self._near.bus.clock()
        self._survivors = self._find_survivors()
        names = super().names()
        for name in self._survivors:
            del names.keys[name]
        return Again(names, dict.fromkeys(self._survivors))

    def _find_survivors(self) -> dict[str, Entry[Any]]:
        """Return those of the new values that are still the ones in force."""
        in_force = {name: self._near.peek(name) for name in self.made}
        return {name: entry for name, entry in in_force.items() if entry is not None and entry is self.made[name].kept}

    def published(self, receipt: Receipt | None) -> None:
        """See `Follower`, and rule 2."""
        if self._near.bus.echoes:
            self._near.renew(self._survivors, self._at)
        self._survivors = {}

    def void(self, falling: Mapping[str, Made]) -> None:
        """See `Changes`: what somebody else has set meanwhile has voided the value already."""
        with changing.lock:
            names = [name for name, made in falling.items() if not self._near.is_invalidated(made.kept)]
            publish = self._near.bus.announce(*names) if names else None
        if publish is not None:
            publish()

    def void_everything(self) -> None:
        """See `Changes`."""
        self._near.bus.announce(tags=(self.place_tag,))()
