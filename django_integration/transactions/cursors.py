"""
Open cursors of SQLite: as long as one cursor of a connection has rows left, everything that the connection reads is as
old as that cursor, inside a transaction and outside. (With a write-ahead log; without one, no other connection can
commit meanwhile.)

    for product in Product.objects.iterator():  # one cursor, until the last row
        page(product)                           # what is loaded here is as old as the first row

On the other databases that Django supports, a statement outside a transaction reads what is committed when it begins.

Rule 1: a cursor is treated as open from when it is made until it is closed or collected, whatever it does meanwhile.
Django closes its cursors after each query, but for those of `iterator()` and `raw()`.
"""

from __future__ import annotations

import weakref
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator.extending import now_ns

from ..patching import Patches

_patches = Patches("Cursors of SQLite")

_OPEN = "_invalidator_open_cursors"
"""Where a connection keeps its open cursors: by `id`, when each was made, and the weak reference that removes it."""
_OPEN_WITH = "_invalidator_open_with"
"""Where a cursor keeps that dictionary, to remove itself when it is closed."""


def open_since(connection: BaseDatabaseWrapper) -> int | None:
    """Return when the oldest open cursor of *connection* was made, by the bus' clock; None if none is open."""
    open_cursors: dict[int, tuple[int, object]] = getattr(connection, _OPEN, {})
    # A copy, taken in one step: a coroutine may ask while the connection's own thread goes on.
    return min((made_at for made_at, _ in tuple(open_cursors.values())), default=None)


def watch(connection: BaseDatabaseWrapper) -> None:
    """Keep the open cursors of *connection*, which is about to connect, if it is one to SQLite."""
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
        if (open_cursors := self.__dict__.get(_OPEN)) is not None:
            _close.put_on(type(cursor))
            number = id(cursor)
            open_cursors[number] = made_at, weakref.ref(cursor, lambda _: open_cursors.pop(number, None))
            setattr(cursor, _OPEN_WITH, open_cursors)
        return cursor

    return create_cursor


@_patches.around_each(
    "the cursor class of such a connection", "close", "self", why="a closed cursor makes nothing older"
)
def _close(original: Any) -> Any:
    def close(self: Any) -> None:
        original(self)
        if (open_cursors := getattr(self, _OPEN_WITH, None)) is not None:
            open_cursors.pop(id(self), None)

    return close
