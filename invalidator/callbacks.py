"""
Callbacks on invalidations: which of them wants which, and calling them.

Rule 1: whatever a callback raises, a `SystemExit` too, ends there: it runs in a thread that is not its own.
Rule 2: a callback that fails again and again is counted each time, and logged once in QUIET_S.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .errors import InvalidName
from .names import Tag, check_key, check_tags
from .status import Invalidation

log = logging.getLogger("invalidator.callbacks")

Callback = Callable[[Invalidation], object]

QUIET_S = 60.0


class _Registered(NamedTuple):
    callback: Callback
    keys: frozenset[str]
    tags: frozenset[str]

    def wants(self, invalidation: Invalidation) -> bool:
        return (
            invalidation.everything
            or not (self.keys or self.tags)
            or not self.keys.isdisjoint(invalidation.keys)
            or not self.tags.isdisjoint(invalidation.tags)
        )


class Callbacks:
    """The callbacks of one bus. They are called without any lock held, and their exceptions end here."""

    def __init__(self) -> None:
        self._registered: dict[int, _Registered] = {}
        self._numbers = itertools.count()
        self._logged: dict[int, float] = {}  # by number, when it was logged that it failed
        self.failures = 0

    def __len__(self) -> int:
        return len(self._registered)

    def add(self, callback: Callback, keys: Iterable[str], tags: Iterable[str | Tag]) -> Callable[[], None]:
        """
        Call *callback* with each invalidation of one of *keys* or *tags*; without any, with each there is.

        Returns:
            a function that ends this.

        Raises:
            InvalidName: a name cannot be one.
        """
        if isinstance(keys, str):
            raise InvalidName(f"keys must be a list, tuple or set of strings; for one key write keys=[{keys!r}]")
        number = next(self._numbers)
        self._registered[number] = _Registered(callback, frozenset(map(check_key, keys)), frozenset(check_tags(tags)))

        def end() -> None:
            self._registered.pop(number, None)
            self._logged.pop(number, None)

        return end

    def call(self, invalidation: Invalidation) -> None:
        """Call those that want *invalidation*."""
        for number, registered in list(self._registered.items()):
            if registered.wants(invalidation):
                try:
                    registered.callback(invalidation)
                except BaseException as error:
                    if any(kind.__name__ == "GreenletExit" for kind in type(error).__mro__):
                        raise  # gevent ends the greenlet
                    self.failures += 1
                    if self._is_news(number):
                        log.exception("on_invalidate callback failed callback=%r", registered.callback)

    def _is_news(self, number: int) -> bool:
        """Whether nothing was logged in the last QUIET_S of the callback of that number, which has failed."""
        now = time.monotonic()
        if now < self._logged.get(number, 0.0):
            return False
        if number in self._registered:  # or it has ended itself: then it fails no more
            self._logged[number] = now + QUIET_S
        return True
