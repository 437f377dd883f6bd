"""
The functions of `@invalidates`: which there are, and what they name for a row.

    @invalidates(Product)
    def product_pages(product):
        yield f"category:{product.category_id}"
        yield tag("prices")

A function is called with the row as it was before a change and as it is after, so that moving a product to
another category invalidates both. Put it into `invalidation.py` of an app; it is found there.

Rule 1: a model with a function pays for it: the row as it was is read before each save (one query), and its deletes
read the rows they delete. All other models pay nothing.
Rule 2: functions see whole rows of the application's own models. Fixtures being loaded, migrations' models and rows
that were not read are none: there everything is invalidated. When in doubt, clear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from django.db import NotSupportedError, ProgrammingError, connections, transaction
from django.db.models import Model, QuerySet

from invalidator import Tag

from .relations import concrete_of, family, tables_of

Target: TypeAlias = "str | Tag | Model | type[Model]"
"""What can be invalidated: a key, a tag, a row, a table."""

Function: TypeAlias = Callable[[Any], Iterable[Target]]

ROWS_PER_QUERY = 500
"""Below every database's limit of parameters (Oracle: 1000)."""

_functions: dict[str, list[Function]] = {}
"""By lower-case label: a migration's model is another class of the same name."""

_on_added: list[Callable[[], object]] = []


def check_model(model: object) -> None:
    """Raise TypeError unless *model* is a model class that has a table."""
    if not (isinstance(model, type) and issubclass(model, Model)) or model._meta.abstract:
        raise TypeError(
            f"@invalidates takes a model class that has a table, such as @invalidates(Product), not {model!r}"
        )


def add(model: type[Model], function: Function) -> None:
    """Let *function* name what depends on a row of *model*, from now on."""
    _functions.setdefault(_label(model), []).append(function)
    for callback in _on_added:
        callback()


def on_added(callback: Callable[[], object]) -> None:
    """Call *callback* whenever a function was added."""
    _on_added.append(callback)


def of_rows(model: type[Model]) -> tuple[Function, ...]:
    """Return the functions that name what depends on a row of *model*: its own, and its parents'."""
    return tuple(function for ancestor in tables_of(model) for function in _functions.get(_label(ancestor), ()))


def any_for(model: type[Model]) -> bool:
    """Whether a row of *model* is, in one of its tables, a row that some function wants to see."""
    return bool(_functions) and any(_label(relative) in _functions for relative in family(model))


def children_wanted(model: type[Model]) -> tuple[type[Model], ...]:
    """Return the children of *model*, by multi-table inheritance, whose rows a function of their own wants to see."""
    concrete = concrete_of(model)
    return tuple(
        relative
        for relative in family(concrete)
        if relative is not concrete and issubclass(relative, concrete) and _label(relative) in _functions
    )


def call(function: Function, row: Model) -> Iterable[Target]:
    """Return what *function* names for *row*. Raises TypeError if that is no list; its own errors come through."""
    targets: object = function(row)
    if isinstance(targets, str) or not isinstance(targets, Iterable):
        raise TypeError(
            f"{function.__module__}.{function.__qualname__} must return a list of names, or yield them, not {targets!r}"
        )
    return targets


def read_rows(model: type[Model], key: str, pks: Sequence[object], using: str, *, lock: bool) -> Sequence[Model]:
    """
    Return the rows of *model* whose column *key* is one of *pks*, no more than ROWS_PER_QUERY.

    They are asked for plainly, and not through a manager of the application: one that joins, counts or is distinct
    cannot be locked in PostgreSQL, nor can an order by what may be NULL; and one that hides rows hides changes.

    Args:
        lock: keep the rows as they are until the transaction ends, where there is one and the database can.
    """
    rows: QuerySet[Model, Model] = QuerySet(model=model, using=using).filter(**{f"{key}__in": pks}).order_by()
    connection = connections[using]
    features = connection.features
    if not (lock and connection.in_atomic_block and features.has_select_for_update):
        return list(rows)
    # Taken a moment early: the save that follows takes the same lock.
    locked = rows.select_for_update(no_key=features.has_select_for_no_key_update)
    if model._meta.managed:
        return list(locked)
    try:  # the table may be a view, which PostgreSQL may refuse to lock
        with transaction.atomic(using=using):
            return list(locked)
    except (NotSupportedError, ProgrammingError):
        return list(rows)


def _label(model: type[Model]) -> str:
    return concrete_of(model)._meta.label_lower
