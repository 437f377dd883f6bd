"""
How long a listener takes from a dropped connection to the next proof.

It looks into the library (a listener shows neither in public): two methods are wrapped in what notes the time and
calls them. Where they are gone, nothing is measured and everything else works.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from invalidator import ledger
from invalidator.extending import now_ns
from invalidator.protocol import subscription

MOST = 10_000


class Recoveries:
    """The recoveries of this process, in milliseconds. An outage of the server counts from its first moment."""

    def __init__(self) -> None:
        self.took_ms: list[float] = []
        self._dropped_at = 0

    def watch(self) -> None:
        """Begin."""
        self._before(subscription, "Subscription", "disconnected", self._note_drop)
        self._before(ledger, "Ledger", "prove", self._note_proof)

    def forget(self) -> None:
        """In a forked child: the drop was the parent's."""
        self.took_ms = []
        self._dropped_at = 0

    def _note_drop(self) -> None:
        self._dropped_at = self._dropped_at or now_ns()

    def _note_proof(self) -> None:
        if self._dropped_at and len(self.took_ms) < MOST:
            self.took_ms.append((now_ns() - self._dropped_at) / 1e6)
        self._dropped_at = 0

    @staticmethod
    def _before(module: object, of: str, method: str, note: Callable[[], None]) -> None:
        owner = getattr(module, of, None)
        wrapped = getattr(owner, method, None)
        if wrapped is None:
            return

        def noting(*args: Any, **kwargs: Any) -> Any:
            note()
            return wrapped(*args, **kwargs)

        setattr(owner, method, noting)
