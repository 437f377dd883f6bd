"""
When what was stamped is counted. No I/O, and no time but what it is told.

Each move of the ledger's count makes every process that reads the ledger look again at each entry that it reads next.
Counted at once, an invalidation is in force everywhere on the host within microseconds. In a storm of them, readers
would do little else than look again. So:

Rule 1: while messages come at less than `CALM_PER_S`, they are counted at once; so is a burst of `BURST` on top.
Rule 2: in a storm, which is more than that, the count moves once in `STEP_NS`: what was stamped is counted at most
so much later.
"""

from __future__ import annotations

CALM_PER_S = 5_000
"""
Messages a second. The writers of one host, each of which waits for its message to be counted before it says the next,
hardly get there.
"""
BURST = 100
STEP_NS = 30_000_000


class Pace:
    """
    The pace of one ledger's count: a bucket that messages fill, and that leaks `CALM_PER_S`.

    Args:
        burst: messages that it holds before it is a storm.
    """

    def __init__(self, burst: int = BURST) -> None:
        self._burst = burst
        self._level = 0.0
        self._heard_at = 0
        self._counted_at = -STEP_NS

    def heard(self, now: int) -> None:
        """A message was stamped."""
        leaked = (now - self._heard_at) * CALM_PER_S / 1e9
        # A storm is over as soon as its last `burst` messages would have passed.
        self._level = min(max(self._level - leaked, 0.0) + 1, 2 * self._burst + 1)
        self._heard_at = now

    def due(self) -> int:
        """When to count what has been heard: a time that is past, or at most `STEP_NS` ahead."""
        return self._counted_at + STEP_NS if self._level > self._burst else self._heard_at

    def counted(self, now: int) -> None:
        """The count has moved."""
        self._counted_at = now
