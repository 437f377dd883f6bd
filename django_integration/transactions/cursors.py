"""
Unfinished reads on SQLite.

As long as one cursor of a connection has rows left to fetch, everything that this connection reads is as old as that
cursor's query, in a transaction or not. (This is so with a write-ahead log; without one, nobody else can commit.)

    for product in Product.objects.iterator():  # one cursor, until the last row
        page(product)                           # what is loaded here is as old as the first row

Other databases show each statement outside a transaction what is committed when it begins.

Rule 1: a cursor counts as open from when it is made until it is closed or garbage collected, whatever it does
meanwhile. Django closes cursors after each query, except those of `iterator()` and `raw()`.
"""

from __future__ import annotations

import weakref
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator.extending import now_ns

from ..patching import Patches

_patches = Patches("Cursors of SQLite")

_OPEN = "_invalidator_open_cursors"
"""Where a connection keeps, by a cursor's id, when it was made, and a weak reference that notices its end."""
_AMONG = "_invalidator_among"
"""Where a cursor keeps the table of open cursors that it leaves when it is closed."""


def open_since(connection: BaseDatabaseWrapper) -> int | None:
    """Return when, by the bus' clock, the oldest open cursor of *connection* was made; None if none is open."""
    among: dict[int, tuple[int, object]] = getattr(connection, _OPEN, {})
    # A copy, taken in one step: a coroutine may ask while the connection's own thread goes on.
    return min((made_at for made_at, _ in tuple(among.values())), default=None)


def watch(connection: BaseDatabaseWrapper) -> None:
    """Keep track of the cursors of *connection* from now on, if its database is SQLite."""
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
