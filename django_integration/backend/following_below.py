"""
How values in a second level follow the transactions that have set them: see `following.py`.

There is nothing at a value that says who has set it, and no operation of Django's caches that would compare and write.
So what lies there is compared with what was set, and deleted when in doubt: never set again, since a later value would
be lost.

Rule 1: after the commit, what was deleted is deleted again: a fill of an old row may have come in between. What was set
stays if it is surely still there; what is there instead may be such a fill, and is deleted.
Rule 2: at a rollback, what lies there is deleted, unless it surely is another value.
Rule 3: the key is published after that, so that nobody keeps a near copy, and fills on their way are taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invalidator import Receipt
from invalidator.extending import hand_out

from ..names import Names
from ..transactions.uncommitted import Again
from .following import GONE, UPDATED, Changes, Made
from .second_level import SecondLevel
from .settling import are_surely_equal, surely_differ

MOST_VALUES = 1000
"""Of one stretch of a transaction, to compare with; what is set beyond that counts as unknown."""
UNKNOWN: Any = object()
"""Stands for what is kept of a value of which nothing is: it is deleted."""


class ChangesBelow(Changes):
    """The changes of one stretch of a transaction in *second*."""

    def __init__(self, second: SecondLevel) -> None:
        super().__init__(second.place_tag)
        self._second = second
        self._deleted: list[str] = []
        self._begun = 0

    def note(self, name: str, made: Made, *, falls: bool) -> None:
        """See `Changes`."""
        if len(self.made) >= MOST_VALUES and made.kept is not UPDATED and made.kept is not GONE:
            made.kept = UNKNOWN
        super().note(name, made, falls=falls)

    def committed(self) -> Again:
        """See `Follower`, and rule 1."""
        self._begun = self._second.bus.clock()
        if self.is_whole:
            self._second.clear_or_owe()
            self._deleted = []
            return Again(self.names())
        self._deleted = [name for name, made in self.made.items() if made.kept is GONE]
        compared = {
            name: made for name, made in self.made.items() if made.kept is not GONE and made.kept is not UPDATED
        }
        self._deleted += self._unless(are_surely_equal, compared)
        if self._deleted:
            self._second.delete_or_owe(self._deleted)
        return Again(Names(dict.fromkeys(self.made)))

    def published(self, receipt: Receipt | None) -> None:
        """See `Follower`."""
        if receipt is not None and self._deleted:
            self._second.check_again(self._deleted, receipt, self._begun)

    def void(self, falling: Mapping[str, Made]) -> None:
        """See `Changes`, and rules 2 and 3."""
        begun = self._second.bus.clock()
        wrong = self._unless(surely_differ, falling)
        if wrong:
            self._second.delete_or_owe(wrong)
        receipt = self._second.bus.announce(*falling)()
        self._second.check_again(wrong, receipt, begun)

    def _unless(self, is_so: Any, made: Mapping[str, Made]) -> list[str]:
        """The names of those that lie there, unless *is_so* says so of what lies there and what was set."""
        try:
            found = self._second.find(list(made))
        except Exception:  # noqa: BLE001 - logged by the second level, which is away
            return list(made)
        return [
            name
            for name, value in found.items()
            if (kept := made[name].kept) is UNKNOWN or not is_so(value, hand_out(kept))
        ]

    def void_everything(self) -> None:
        """See `Changes`."""
        self._second.clear_or_owe()
        self._second.bus.announce(tags=(self.place_tag,))()
