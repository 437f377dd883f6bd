"""A list that keeps nothing alive, and that threads may read while others add to it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class WeakList(Generic[T]):
    """
    Objects, in the order in which they were added, for as long as something else keeps them.

    It takes no lock: a garbage collection, and with it a destructor that adds something, can begin at any allocation.
    (Iterating over a `weakref.WeakSet` raises RuntimeError when another thread adds to it.)
    """

    def __init__(self) -> None:
        self._references: dict[int, weakref.ReferenceType[T]] = {}

    def add(self, item: T) -> None:
        """Append *item*. An item that is there already stays where it is."""
        # An id is free again only after the callback has run.
        key, references = id(item), self._references
        references.setdefault(key, weakref.ref(item, lambda _: references.pop(key, None)))

    def discard(self, item: T) -> None:
        """Remove *item*, if it is there."""
        self._references.pop(id(item), None)

    def __iter__(self) -> Iterator[T]:
        """Those that are alive at this moment; what is added later is not among them."""
        living = [reference() for reference in self._references.copy().values()]
        return iter([item for item in living if item is not None])

    def __len__(self) -> int:
        return len(self._references)
