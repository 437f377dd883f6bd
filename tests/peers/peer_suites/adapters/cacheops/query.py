"""
`.cache()` of query sets and managers, and `cached_as`.

Rule 1: a query set that is to be cached returns its rows, count, existence and aggregates through the cache; each value
is compared with the database (`reading.py`).
Rule 2: rows that the caller holds (such as the row whose related rows are read) are put into copies, and never into
cached rows.
Rule 3: a result cached "as" query sets depends on what reading them reads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import reading
from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models.manager import BaseManager

from django_integration import depends_on

from .conf import settings
from .signals import cache_read
from .simple import by_get_or_set
from .utils import cached_view_fab  # type: ignore[import-not-found]

ALL_OPS = {"get", "fetch", "count", "aggregate", "exists"}
invalidate_m2o = invalidate_dict = None  # names that cacheops' tests import


def install() -> None:
    """Wrap the methods of query sets, and give managers the methods that return cached query sets."""
    queries: Any = models.QuerySet
    queries._cached_ops = frozenset()
    for method in (cache, nocache, inplace, clone, invalidated_update):
        setattr(queries, method.__name__, method)
    _wrap(queries, "_clone", _cloned)
    _wrap(queries, "_fetch_all", _fetched)
    _wrap(queries, "count", _through_cache("count"))
    _wrap(queries, "exists", _through_cache("exists"))
    _wrap(queries, "aggregate", _through_cache("aggregate"))
    for name in ("get", "first", "last"):
        _wrap(queries, name, _fetching)
    managers: Any = BaseManager
    for name in ("cache", "nocache", "inplace", "invalidated_update"):
        setattr(managers, name, _of_query_set(name))


def _wrap(kind: Any, name: str, by: Callable[..., Any]) -> None:
    original = getattr(kind, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return by(original, self, *args, **kwargs)

    setattr(kind, name, method)


def _of_query_set(name: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.get_queryset(), name)(*args, **kwargs)

    return method


def cache(self: Any, ops: Any = None, timeout: float | None = None, lock: bool | None = None) -> Any:
    """Cache these operations; all of them, if none are named."""
    self._cached_ops = ALL_OPS if ops in (None, "all") else {ops} if isinstance(ops, str) else set(ops)
    return self


def nocache(self: Any) -> Any:
    """Cache nothing."""
    return self.cache(ops=[])


def inplace(self: Any) -> Any:
    """Do nothing: our app needs no counterpart."""
    return self


def clone(self: Any) -> Any:
    """See Django."""
    return self._clone()


def invalidated_update(self: Any, **columns: Any) -> int:
    """Update: ours always publishes."""
    changed: int = self.nocache().update(**columns)
    return changed


def _cloned(original: Any, self: Any) -> Any:
    other = original(self)
    other._cached_ops = self._cached_ops
    return other


def _is_cached(self: Any, op: str) -> bool:
    return settings.CACHEOPS_ENABLED and op in self._cached_ops and not self._for_write


def _key(self: Any, *more: object) -> str:
    """Return the key of the query. Raises EmptyResultSet if Django does not send it."""
    sql, params = self.query.get_compiler(self.db).as_sql()
    kind = self._iterable_class.__name__
    return reading.hashed(self.db, type(self).__name__, self.model._meta.label, kind, sql, params, *more)


def _fetched(original: Any, self: Any) -> None:
    if self._result_cache is None and _is_cached(self, "fetch") and not reading.is_past_the_cache():
        loads = reading.tally.reads - reading.tally.hits
        try:
            self._result_cache = _rows(self)
        except EmptyResultSet:
            self._result_cache = []
            loads = -1
        cache_read.send(sender=self.model, func=None, hit=loads == reading.tally.reads - reading.tally.hits)
    original(self)


def _rows(self: Any) -> list[Any]:
    key = _key(self, "rows", self.query.select_related)
    rows: list[Any] = reading.copied(reading.read(key, lambda: _loaded(self), self.db))
    for field, known in self._known_related_objects.items():
        for row in rows:
            if not field.is_cached(row) and getattr(row, field.attname) in known:
                setattr(row, field.name, known[getattr(row, field.attname)])
    return rows


def _loaded(self: Any) -> list[Any]:
    other = self._clone()
    other._known_related_objects = {}
    return list(other._iterable_class(other))


def _through_cache(op: str) -> Callable[..., Any]:
    def through_cache(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._result_cache is not None or not _is_cached(self, op) or reading.is_past_the_cache():
            return original(self, *args, **kwargs)
        try:
            key = _key(self, op, args, sorted(kwargs.items()))
        except EmptyResultSet:
            return original(self, *args, **kwargs)
        return reading.copied(reading.read(key, lambda: original(self._clone(), *args, **kwargs), self.db))

    return through_cache


def _fetching(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    if not _is_cached(self, "get"):
        return original(self, *args, **kwargs)
    return original(self._clone().cache(), *args, **kwargs)


def cached_as(*samples: Any, timeout: float | None = None, extra: Any = None, **_: object) -> Any:
    """Cache the results of a function until one of these query sets, rows or models changes."""
    if not samples:
        raise TypeError("Pass a queryset, a model or an object to cache like")
    if len(samples) == 1 and isinstance(samples[0], list):
        return lambda function: function

    def read_samples() -> None:
        for sample in samples:
            if isinstance(sample, models.QuerySet):
                list(sample.all())
            else:
                depends_on(sample)

    names = tuple(_key(one) if isinstance(one, models.QuerySet) else repr(one) for one in samples)
    return by_get_or_set(timeout, extra, names, read_samples)


def cached_view_as(*samples: Any, **kwargs: Any) -> Any:
    """Cache the responses of a view, as `cached_as` does results."""
    return cached_view_fab(cached_as)(*samples, **kwargs)
