"""
Reads that are not at their end, on SQLite: as long as one of a connection's cursors has rows left, all that this
connection reads is as old as that one, in a transaction or not. (With a write-ahead log; without, nobody can commit.)

    for product in Product.objects.iterator():  # one cursor, until the last row
        page(product)                           # what is loaded here is as old as the first

The other databases that Django knows give each statement outside a transaction what is committed at its beginning.

Rule 1: a cursor counts from when it was made until it is closed or gone, whatever it does meanwhile. Django closes its
own after each query, but for those of `iterator()` and `raw()`.
"""

from __future__ import annotations

import weakref
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator.extending import now_ns

from ..patching import Patches

_patches = Patches("Cursors of SQLite")

_OPEN = "_invalidator_open_cursors"
"""Where a connection keeps, by a cursor's id, when it was made, and what notices that it is gone."""
_AMONG = "_invalidator_among"
"""Where a cursor keeps what it has to leave when it is closed."""


def open_since(connection: BaseDatabaseWrapper) -> int | None:
    """When, by the bus' clock, the oldest of the open cursors of *connection* was made; None if there are none."""
    among: dict[int, tuple[int, object]] = getattr(connection, _OPEN, {})
    # A copy, taken in one step: a coroutine asks while the connection's own thread goes on.
    return min((made_at for made_at, _ in tuple(among.values())), default=None)


def watch(connection: BaseDatabaseWrapper) -> None:
    """Note the cursors of *connection* from now on, if it is one of those that need it."""
    if connection.vendor == "sqlite":
        connection.__dict__[_OPEN] = {}
        _create_cursor.put_on(type(connection))


@_patches.around_each(
    "the connection class of a SQLite database",
    "create_cursor",
    "self, name=None",
    why="what is read while a cursor is open is as old as the cursor",
)
def _create_cursor(original: Any) -> Any:
    def create_cursor(self: BaseDatabaseWrapper, *args: Any, **kwargs: Any) -> Any:
        made_at = now_ns()
        cursor = original(self, *args, **kwargs)
        if (among := self.__dict__.get(_OPEN)) is not None:
            _close.put_on(type(cursor))
            number = id(cursor)
            among[number] = made_at, weakref.ref(cursor, lambda _: among.pop(number, None))
            setattr(cursor, _AMONG, among)
        return cursor

    return create_cursor


@_patches.around_each(
    "the cursor class of such a connection", "close", "self", why="a closed cursor makes nothing older"
)
def _close(original: Any) -> Any:
    def close(self: Any) -> None:
        original(self)
        if (among := getattr(self, _AMONG, None)) is not None:
            among.pop(id(self), None)

    return close
