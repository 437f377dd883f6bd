"""
When what a listener has stamped is counted. No I/O; the time is passed in.

Each time the ledger's count moves, every process that reads the ledger checks each entry anew when it reads it next.
Counted at once, an invalidation is in force on the whole host within microseconds. But in a storm of invalidations
readers would do little else than check anew. So:

Rule 1: while messages come at less than `CALM_PER_S`, each is counted at once, and so is a burst of `BURST` on top.
Rule 2: in a storm, which is more than that, the count moves once in `STEP_NS`: a stamp is counted at most so much
later.
"""

from __future__ import annotations

CALM_PER_S = 5_000
"""
Messages a second. The writers of one host hardly get there: each waits until its message is counted before it publishes
the next.
"""
BURST = 100
STEP_NS = 30_000_000


class CountThrottle:
    """
    Spaces out the counts of one ledger: a bucket that messages fill, and that leaks `CALM_PER_S`.

    Args:
        burst: messages that it holds before it is a storm.
    """

    def __init__(self, burst: int = BURST) -> None:
        self._burst = burst
        self._level = 0.0
        self._stamped_at = 0
        self._counted_at = -STEP_NS

    def stamped(self, now: int) -> None:
        """A message was stamped."""
        leaked = (now - self._stamped_at) * CALM_PER_S / 1e9
        # A storm is over as soon as its last `burst` messages would have passed.
        self._level = min(max(self._level - leaked, 0.0) + 1, 2 * self._burst + 1)
        self._stamped_at = now

    def due(self) -> int:
        """When to count what was stamped: a time that is past, or at most `STEP_NS` ahead."""
        return self._counted_at + STEP_NS if self._level > self._burst else self._stamped_at

    def counted(self, now: int) -> None:
        """The count has moved."""
        self._counted_at = now
