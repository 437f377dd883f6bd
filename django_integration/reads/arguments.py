"""
Arguments of cached functions that are Django's: rows, query sets, model classes.

Rule 1: a row is named by its model and primary key, whatever its columns hold in memory: "shop.Product:42".
Rule 2: a query set is named by its query, never by its result: a hash of its SQL, its parameters and what it makes of
rows.
Rule 3: a value without a name that is the same in every process is refused, and the message says what would work.
"""

from __future__ import annotations

import hashlib
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model, Prefetch, QuerySet

from invalidator import InvalidName
from invalidator.extending import plain_key

from ..names import is_model, row_tag


def describe(value: object) -> str | None:
    """
    Return the text of *value* in a key, or None if it is nothing of Django's.

    Raises:
        InvalidName: a row was never saved, or a query set has a parameter without a text of its own.
    """
    if isinstance(value, Model):  # a lazy `request.user`, too
        return _describe_row(value)
    if isinstance(value, QuerySet):
        return _describe_rows(value)
    if is_model(value):
        return f"<{value._meta.label}>"
    return None


def read_anew(value: Any) -> Any:
    """
    Return *value* with each row in it, also in tuples and dictionaries, read from its database again, and each query
    set fresh, as if it had not been evaluated.

    Raises:
        DoesNotExist: a row is not there any more.
    """
    if isinstance(value, Model):
        return _fresh_row(value)
    if isinstance(value, QuerySet):
        return value.all()
    if type(value) is tuple:
        return tuple(map(read_anew, value)) if has_any_to_read(value) else value
    if type(value) is dict:
        return {name: read_anew(item) for name, item in value.items()}
    return value


def has_any_to_read(value: object) -> bool:
    """Whether `read_anew` has anything to do for *value*."""
    if type(value) is dict:
        return any(map(has_any_to_read, value.values()))
    return any(map(has_any_to_read, value)) if type(value) is tuple else isinstance(value, Model | QuerySet)


def _fresh_row(row: Model) -> Model:
    if row.pk is None:
        raise InvalidName(f"a {row._meta.label} that was never saved cannot be an argument of a cached function")
    # Of the model's own class: `request.user` is a wrapper around it.
    return row.__class__._base_manager.db_manager(row._state.db, hints={"instance": row}).get(pk=row.pk)


def _describe_row(row: Model) -> str:
    if row.pk is None:
        raise InvalidName(f"a {row._meta.label} that was never saved has no primary key yet")
    label = row.__class__._meta.label
    name = f"{label}:{row_tag(row.__class__, row.pk).partition(':')[2]}"
    return name + _database(row._state.db)


def _describe_rows(rows: QuerySet[Any, Any]) -> str:
    label = rows.model._meta.label
    text = f"{_sql(rows)} {_shape(rows)}"
    return f"QuerySet({label} {hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}){_database(rows.db)}"


def _database(alias: str | None) -> str:
    return f"@{alias}" if alias not in (None, DEFAULT_DB_ALIAS) else ""


def _sql(rows: QuerySet[Any, Any]) -> str:
    try:
        sql, params = rows.query.get_compiler(rows.db).as_sql()
    except EmptyResultSet:
        return "nothing"
    # As arguments of a function are spelled, since that is the same everywhere.
    return plain_key(sql, {f"{number:05}": parameter for number, parameter in enumerate(params)})


def _shape(rows: Any) -> str:
    """What the query set makes of its rows."""
    # Its own class, too: its methods are what a function may ask.
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in (type(rows), rows._iterable_class)]  # noqa: SLF001
    prefetched = map(_prefetch, rows._prefetch_related_lookups)  # noqa: SLF001 - nobody else knows
    return f"{kinds} {rows.query.standard_ordering} {rows._fields} {list(prefetched)}"  # noqa: SLF001


def _prefetch(lookup: str | Prefetch[Any]) -> str:
    if isinstance(lookup, str):
        return lookup
    through, to, rows = lookup.prefetch_through, lookup.prefetch_to, lookup.queryset
    # A GenericPrefetch has several.
    several = getattr(lookup, "querysets", ()) if rows is None else (rows,)
    return f"{through} {to} {' '.join(str(describe(some)) for some in several)}"
