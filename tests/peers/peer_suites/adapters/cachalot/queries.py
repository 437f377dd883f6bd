"""
The ORM's queries, through the cache: rows as instances, everything else as the database returns it.

Rule 1: rows are cached as a list of instances, as a function of an application would return them: this exercises the
finest rules of recording. Each reader gets copies.
Rule 2: values, counts, aggregates and the like are cached where cachalot itself caches them, as the database returned
them.
Rule 3: not cached are results that are locked, random or depend on the present time, and rows of models whose writes
are not published (sessions).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import reading
from django.conf import settings
from django.contrib.postgres.functions import TransactionNow
from django.core.exceptions import EmptyResultSet
from django.db.models.functions import Now
from django.db.models.functions.math import Random
from django.db.models.query import ModelIterable
from django.db.models.sql.compiler import SQLCompiler, SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler

from django_integration.names import is_watched

from .api import is_disabled

WRITES = (SQLInsertCompiler, SQLUpdateCompiler, SQLDeleteCompiler)


class Unkept(Exception):
    """The result of this query must not be cached."""


def read_through_cache() -> None:
    """Wrap the two methods that send queries."""
    _wrap_rows()
    _wrap_execute()


def key_of(compiler: Any, *more: object) -> str:
    """
    Return the key of the query that *compiler* sends.

    Raises:
        Unkept: rule 3.
        EmptyResultSet: Django does not send it.
    """
    if reading.is_past_the_cache() or is_disabled() or compiler.using not in settings.DATABASES:
        raise Unkept
    model = compiler.query.model  # None for an aggregate of a query
    if compiler.query.select_for_update or (model is not None and not is_watched(model)):
        raise Unkept
    with _watching() as seen:
        sql, params = compiler.as_sql()
    if seen and not (seen <= {Random} and getattr(settings, "CACHALOT_CACHE_RANDOM", False)):
        raise Unkept
    return reading.hashed(compiler.using, sql, params, *more)


def _wrap_rows() -> None:
    original = ModelIterable.__iter__

    @functools.wraps(original)
    def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807
        rows = self.queryset
        # The caller's own rows are put into these copies, which no one else holds.
        if rows._known_related_objects or self.chunked_fetch:
            yield from original(self)
            return
        try:
            compiler = rows.query.get_compiler(using=rows.db)
            key = key_of(compiler, "rows", rows.model._meta.label, rows.query.select_related)
        except (Unkept, EmptyResultSet):
            yield from original(self)
            return
        yield from reading.copied(reading.read(key, lambda: list(original(self)), rows.db))

    ModelIterable.__iter__ = __iter__  # type: ignore[method-assign]


def _wrap_execute() -> None:
    original = SQLCompiler.execute_sql

    @functools.wraps(original)
    def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, WRITES):
            return original(self, *args, **kwargs)
        if kwargs.get("chunked_fetch") and not getattr(settings, "CACHALOT_CACHE_ITERATORS", True):
            return original(self, *args, **kwargs)
        try:
            key = key_of(self, args, sorted(kwargs))
        except (Unkept, EmptyResultSet):
            return original(self, *args, **kwargs)
        return reading.read(key, lambda: _kept(original(self, *args, **kwargs)), self.using)

    SQLCompiler.execute_sql = execute_sql  # type: ignore[method-assign]


def _kept(result: Any) -> Any:
    """*result* in a form that can be read twice."""
    return list(result) if isinstance(result, Iterable) and not isinstance(result, tuple | list) else result


class _watching:  # noqa: N801 - used as a function
    """Record, in the block, which functions of chance and time are compiled."""

    KINDS = (Now, TransactionNow, Random)
    active: list[set[type]] = []  # noqa: RUF012 - one thread compiles at a time

    def __enter__(self) -> set[type]:
        self.active.append(seen := set())
        return seen

    def __exit__(self, *_: object) -> None:
        self.active.pop()


def _wrap_chance(kind: type[Any], vendor: str) -> None:
    original = getattr(kind, vendor)

    @functools.wraps(original)
    def as_vendor(self: Any, *args: Any, **kwargs: Any) -> Any:
        for seen in _watching.active:
            seen.add(kind)
        return original(self, *args, **kwargs)

    setattr(kind, vendor, as_vendor)


for _kind in _watching.KINDS:
    for _vendor in ("as_sql", "as_sqlite", "as_postgresql", "as_mysql"):
        if hasattr(_kind, _vendor):
            _wrap_chance(_kind, _vendor)
