"""What a hit compares with while a worker cannot trust the count of its host's ledger alone."""

from __future__ import annotations

from collections.abc import Callable

from ..ledger import CHANGES, FOREVER


class Doubt:
    """
    Stands in for the words of the host's ledger in the short check of a hit, and makes that check fail: its count is
    one that no entry remembers, and its stamps are later than every load. So every read takes the whole rule, which
    asks this process' own ledger as well.

    Args:
        look: called by every such read, so that doubt also ends in a process that does nothing but read.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def __getitem__(self, index: int, /) -> int:
        self._look()
        return -2 if index == CHANGES else FOREVER

    def __setitem__(self, index: int, value: int, /) -> None:
        raise TypeError("nobody writes here")
