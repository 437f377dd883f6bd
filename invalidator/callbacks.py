"""Callbacks on invalidations: which of them wants which, and calling them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .errors import InvalidName
from .names import Tag, check_key, check_tags
from .status import Invalidation

log = logging.getLogger("invalidator.callbacks")

Callback = Callable[[Invalidation], object]


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

        return end

    def call(self, invalidation: Invalidation) -> None:
        """Call those that want *invalidation*."""
        for registered in list(self._registered.values()):
            if registered.wants(invalidation):
                try:
                    registered.callback(invalidation)
                except Exception:
                    log.exception("on_invalidate callback failed callback=%r", registered.callback)
