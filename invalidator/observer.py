"""
Watching a near cache: what its callers hit, miss and load.

A near cache has no observer by default, and its hits cost nothing more for that there could be one. While it has one,
every hit takes the slow path. Observers are for people, such as a panel or a trace, and for checks, such as comparing
what is cached with what a load gives now. docs/extending.md has an example.

Rule 1: an observer is called in the thread or task of the caller, without any lock held. What it raises reaches the
caller, so an observer that may fail catches its own errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from .entry import AnyEntry

Loader = Callable[[], Any]
AsyncLoader = Callable[[], Awaitable[Any]]


class Observer(Protocol):
    """What a near cache calls: one observer for one cache."""

    def loads_anyway(self, key: str, entry: AnyEntry | None) -> bool:
        """
        Whether a caller that loads *key* if it has no value is to load it in any case. Then neither a hit nor a miss is
        counted or reported, and `load` decides what becomes of it.

        Args:
            entry: what the caller would be given; None if it loads by itself.
        """

    def hit(self, key: str, entry: AnyEntry) -> None:
        """The caller is about to be given the value of *entry*."""

    def missed(self, key: str) -> None:
        """There is no value that the caller may be given."""

    def load(self, key: str, loader: Loader, load: Callable[[Loader], AnyEntry]) -> AnyEntry:
        """
        Load *key* for the caller, who is given the value of the entry that this returns.

        Args:
            load: what the cache does by itself: it waits for another caller's load, or calls the loader that it is
                given and stores what that returns. An observer that does not call it stores nothing.
        """

    async def aload(
        self, key: str, loader: AsyncLoader, load: Callable[[AsyncLoader], Awaitable[AnyEntry]]
    ) -> AnyEntry:
        """`load` for coroutines."""
