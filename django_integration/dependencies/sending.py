"""A query of the ORM on its way to the database, and whether there is more in its SQL than the ORM has put there."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Any

from django.db.models.sql import Query

from .rows import RowRecorder

_QUERIES = re.compile(r"(?<![\"`\[])\b(?:SELECT|TABLE)\b", re.IGNORECASE)
"""What begins a query. Names in quotes do not."""


def has_query(text: str) -> bool:
    """Whether there is a query in *text*."""
    return _QUERIES.search(text) is not None


class Sending:
    """
    One query being sent, or about to be.

    Args:
        rows_of: the query whose rows will be instances.
    """

    __slots__ = ("compilers", "done", "empty", "inner", "recorded", "rows", "rows_of", "sql")

    def __init__(self, rows_of: Query | None = None) -> None:
        self.rows_of = rows_of
        self.compilers: list[Any] = []
        """Those of the query and of the queries inside it, in the order in which they begin to compile."""
        self.inner: list[str] = []
        """The SQL of the queries inside it."""
        self.recorded: list[str] = []
        """Text of the application's own inside it whose tables are recorded."""
        self.sql: str | None = None
        """Its own."""
        self.rows: RowRecorder | None = None
        """What records its rows, if they have to be recorded."""
        self.empty = False
        """Whether it is not sent, because nothing can match."""
        self.done = False

    def holds_more(self) -> bool:
        """
        Whether its SQL holds queries that no compiler has written: in a function's template, or by an expression of
        somebody's own.
        """
        if self.sql is None or (not self.inner and len(_QUERIES.findall(self.sql)) <= 1):
            return False
        queries = sorted({self.sql, *self.inner}, key=len, reverse=True)
        return any(
            _has_more(query, [*self.recorded, *queries[number:]]) for number, query in enumerate(queries, start=1)
        )


def _has_more(query: str, known: list[str]) -> bool:
    for text in known:
        query = query.replace(text, "")
    return len(_QUERIES.findall(query)) > 1


current_sending: ContextVar[Sending | None] = ContextVar("invalidator_sending", default=None)
