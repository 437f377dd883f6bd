"""
Arguments of cached functions that are Django's: rows, query sets, model classes.

Rule 1: a row is named by its model and primary key, whatever its columns hold in memory: "shop.Product:42".
Rule 2: a query set is named by its query, never by its result (`query_sets.py`).
Rule 3: a value without a name that is the same in every process is refused, and the message says what would work.
Rule 4: a function is called with rows and query sets as they are in the database: what the caller has in memory is the
caller's alone.
"""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model, QuerySet
from django.db.models.manager import BaseManager

from invalidator import InvalidName
from invalidator.extending import plain_key

from ..names import is_model, row_tag
from . import query_sets

_CONTAINERS = (tuple, list, dict, set, frozenset)


def describe(value: object) -> str | None:
    """
    Return the text of *value* in a key, or None if it is nothing of Django's.

    Raises:
        InvalidName: a row was never saved, or a query set has a part without a text of its own.
    """
    if isinstance(value, Model):  # a lazy `request.user`, too
        return _describe_row(value)
    if isinstance(value, QuerySet):
        text = query_sets.text_of(value, describe)
        return f"QuerySet({value.model._meta.label} {text}){_database(value.db)}"
    if is_model(value):
        return f"<{value._meta.label}>"
    if isinstance(value, BaseManager):
        raise InvalidName("a manager is no argument of a cached function; hand over its query set: .all()")
    return None


def read_anew(value: Any) -> Any:
    """
    Return *value* with each row in it, also in containers, read from its database again, and each query set and related
    manager fresh, as if it had not been evaluated and were made from such a row.

    Raises:
        DoesNotExist: a row is not there any more.
        InvalidName: a row was never saved.
    """
    if isinstance(value, Model):
        return _fresh_row(value)
    if isinstance(value, QuerySet):
        return query_sets.fresh(value, read_anew)
    if _is_related_manager(value):
        return type(value)(_fresh_row(value.instance))
    if not isinstance(value, _CONTAINERS) or not has_any_to_read(value):
        return value
    if isinstance(value, dict):
        return {read_anew(name): read_anew(item) for name, item in value.items()}
    items = map(read_anew, value)
    return type(value)(*items) if hasattr(value, "_fields") else _plain_type(value)(items)


def has_any_to_read(value: object) -> bool:
    """Whether `read_anew` has anything to do for *value*."""
    if isinstance(value, _CONTAINERS):
        return any(map(has_any_to_read, value)) or (isinstance(value, dict) and has_any_to_read([*value.values()]))
    return isinstance(value, Model | QuerySet) or _is_related_manager(value)


def _is_related_manager(value: Any) -> bool:
    return isinstance(value, BaseManager) and isinstance(getattr(value, "instance", None), Model)


def _plain_type(value: Any) -> type:
    return next(kind for kind in _CONTAINERS if isinstance(value, kind))


def _fresh_row(row: Model) -> Model:
    if row.pk is None:
        raise InvalidName(f"a {row._meta.label} that was never saved cannot be an argument of a cached function")
    # Of the model's own class: `request.user` is a wrapper around it.
    return row.__class__._base_manager.db_manager(row._state.db, hints={"instance": row}).get(pk=row.pk)


def _describe_row(row: Model) -> str:
    if row.pk is None:
        raise InvalidName(f"a {row._meta.label} that was never saved has no primary key yet")
    return f"{row.__class__._meta.label}:{_key_text(row)}{_database(row._state.db)}"


def _key_text(row: Model) -> str:
    try:
        return row_tag(row.__class__, row.pk).partition(":")[2]
    except InvalidName:  # a key of a kind that writes do not name; the function reads the row, and depends on its table
        return plain_key("", {"": row.pk})


def _database(alias: str | None) -> str:
    return f"@{alias}" if alias not in (None, DEFAULT_DB_ALIAS) else ""
