"""
A hold announces, before a commit, the names that the commit will make stale.

Until the hold is released, or ends by its time, no process caches these names. So a writer that is killed between its
commit and its invalidation leaves no stale entry: what was cached earlier is void, what is loaded during the hold is
not cached, and what is loaded after it is what was committed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from ..errors import HoldEnded
from ..ledger import Clock
from ..names import Tag
from ..receipt import Receipt

MARGIN = 0.25
"""The share of a hold that must be left when the commit begins."""


class Hold:
    """
    What `Invalidator.hold` returns. Use it from the thread or task that writes.

    Attributes:
        owner: distinguishes it from the holds of other writers on the same names.
        duration: seconds that it lasts, from its first announcement.
        keys, tags: the names it holds.
        bodies: the messages that announced it.
    """

    def __init__(
        self,
        owner: str,
        duration: float,
        clock: Clock,
        extend: Callable[[Hold, tuple[str, ...], Iterable[str | Tag]], None],
        release: Callable[[Hold], Receipt],
    ) -> None:
        self.owner = owner
        self.duration = duration
        self.keys: dict[str, None] = {}
        self.tags: dict[str, None] = {}
        self.bodies: list[bytes] = []
        self._clock = clock
        self._extend = extend
        self._release = release
        self._began = clock()
        self._lock = threading.RLock()
        self._receipt: Receipt | None = None

    @property
    def remaining_s(self) -> float:
        """Seconds until it ends; 0 or less once it has."""
        return self.duration - (self._clock() - self._began) / 1e9

    def extend(self, *keys: str, tags: Iterable[str | Tag] = ()) -> None:
        """Hold more names, until the same time. Raises as `Invalidator.hold` does, and HoldEnded."""
        self.check()
        self._extend(self, keys, tags)

    def check(self) -> None:
        """
        Call this right before the commit.

        Raises:
            HoldEnded: the hold has ended, or is about to. Its names are cached again, so do not commit.
        """
        if self._receipt is not None:
            raise HoldEnded("this hold was released")
        if self.remaining_s < MARGIN * self.duration:
            raise HoldEnded(
                f"a hold of {self.duration} s ends in {max(0, self.remaining_s):.1f} s, too soon to commit safely: "
                "roll back and try again, or hold longer"
            )

    def release(self) -> Receipt:
        """
        Publish that the names became stale, and end the hold. Call this after the commit, and after a rollback. A
        second call has no effect.
        """
        with self._lock:
            if self._receipt is None:
                self._receipt = self._release(self)
            return self._receipt

    def remember(self, keys: Iterable[str], tags: Iterable[str], bodies: Iterable[bytes]) -> None:
        """Add names that are held, too, and the messages that announced them. Called by the bus."""
        self.keys.update(dict.fromkeys(keys))
        self.tags.update(dict.fromkeys(tags))
        self.bodies.extend(bodies)
