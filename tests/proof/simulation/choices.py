"""
Everything that is left to chance, drawn from one seed, written down, and played again.

A run is a list of steps, each a list of numbers that were drawn in it. Such a plan can be cut (whole steps left out,
numbers set to 0) and played again: what is drawn beyond its end is 0, and 0 is always the most boring choice. That is
how a failing run is shrunk (`shrink.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

Plan = list[list[int]]

US = 1_000
MS = 1_000_000
S = 1_000_000_000

DURATIONS = (0, US, 50 * US, MS, 20 * MS, 200 * MS, 600 * MS, 1_300 * MS, 2_100 * MS, 5 * S)
"""The bound is 2 s: a little less and a little more than it and its parts."""


class Choices:
    """
    A source of numbers.

    Args:
        seed: of fresh numbers.
        plan: numbers of an earlier run, played instead.
    """

    def __init__(self, seed: int | None = None, plan: Plan | None = None) -> None:
        self.taken: Plan = []
        self._random = Random(seed)
        self._plan = plan
        self._step: list[int] = []
        self._left: list[int] = []

    @property
    def over(self) -> bool:
        """Whether the plan has no further step."""
        return self._plan is not None and len(self.taken) >= len(self._plan)

    def begin_step(self) -> None:
        """What is drawn from now on belongs to the next step."""
        if self._plan is not None:
            at = len(self.taken)
            self._left = self._plan[at][::-1] if at < len(self._plan) else []
        self._step = []
        self.taken.append(self._step)

    def draw(self, n: int) -> int:
        """A number from 0 to *n* - 1."""
        if self._plan is None:
            number = int(self._random.random() * n)
        else:
            number = self._left.pop() if self._left else 0
            if number >= n:
                number = 0
        self._step.append(number)
        return number

    def one_in(self, n: int) -> bool:
        """True once in *n* times."""
        return self.draw(n) == n - 1 if n > 1 else n == 1

    def pick(self, items: Sequence[T]) -> T:
        """One of *items*, the most boring of which comes first."""
        return items[self.draw(len(items))]

    def weigh(self, weights: Sequence[tuple[int, T]]) -> T:
        """One of some things, each with the probability of its weight."""
        number = self.draw(sum(weight for weight, _ in weights))
        for weight, item in weights:
            number -= weight
            if number < 0:
                return item
        raise AssertionError

    def duration(self, shortest: int = 0) -> int:
        """Some time, in nanoseconds, not below the duration of that index."""
        scale = DURATIONS[shortest + self.draw(len(DURATIONS) - shortest)]
        return scale * (32 + self.draw(33)) // 64
