"""
Functions that name what depends on a row.

    @invalidates(Product)
    def product_pages(product):
        yield f"category:{product.category_id}"
        yield tag("prices")

A function is called with the row as it was before a change and as it is after, so that moving a product to
another category invalidates both. Put it into `invalidation.py` of an app; it is found there.

Rule 1: a model with a function pays for it: the row as it was is read before each save (one query), and its deletes
read the rows they delete. All other models pay nothing.
Rule 2: functions see whole rows of the application's own models. Fixtures being loaded, migrations' models and rows
that nobody has read are none: there everything is invalidated. When in doubt, clear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from django.apps import apps
from django.db import connections
from django.db.models import Model, QuerySet

from .names import Names, Target, concrete_of, family, tables_of

Function: TypeAlias = Callable[[Any], Iterable[Target]]

ROWS_PER_QUERY = 500
"""Below every database's limit of parameters (Oracle: 1000)."""

_functions: dict[str, list[Function]] = {}
"""By lower-case label: a migration's model is another class of the same name."""


def check_model(model: object) -> None:
    """Raise TypeError unless *model* is a model class that has a table."""
    if not (isinstance(model, type) and issubclass(model, Model)) or model._meta.abstract:
        raise TypeError(
            f"@invalidates takes a model class that has a table, such as @invalidates(Product), not {model!r}"
        )


def add(model: type[Model], function: Function) -> None:
    """Let *function* name what depends on a row of *model*, from now on."""
    _functions.setdefault(_label(model), []).append(function)


def has_functions(model: type[Model]) -> bool:
    """Whether a row of *model* is, in one of its tables, a row that some function wants to see."""
    return bool(_functions) and any(_label(relative) in _functions for relative in family(model))


def is_historical(model: type[Model]) -> bool:
    """Whether *model* is a migration's: it has the columns of its day, and none of the application's methods."""
    return model._meta.apps is not apps


def has_expressions(row: Model) -> bool:
    """Whether a column of *row* still holds `F("price") + 1`, whose value only the database knows."""
    return any(hasattr(value, "resolve_expression") for value in row.__dict__.values())


def names_of(row: Model) -> Names:
    """Return what the functions of its model, and of that one's parents, name for *row*. Their errors come through."""
    names = Names()
    for function in _functions_of(type(row)):
        for target in _call(function, row):
            names.add(target)
    return names


def names_in_database(
    model: type[Model], pks: Sequence[object], using: str, *, lock: bool = False, only_children: bool = False
) -> Names:
    """
    Return what the functions name for these rows of *model* as they are in the database *using*.

    Args:
        lock: keep the rows as they are until the transaction ends, where there is one and the database can.
        only_children: only for the rows as rows of a child model, by multi-table inheritance.
    """
    names = Names()
    for relative in _models_to_read(model, only_children=only_children):
        for rows in _read(relative, concrete_of(model)._meta.pk.name, pks, using, lock=lock):
            for row in rows:
                names.update(names_of(row))
    return names


def _models_to_read(model: type[Model], *, only_children: bool) -> Iterator[type[Model]]:
    """The model itself and its children, those of which some function wants to see the rows."""
    concrete = concrete_of(model)
    if not only_children and _functions_of(concrete):
        yield concrete
    for relative in family(concrete):
        if relative is not concrete and issubclass(relative, concrete) and _label(relative) in _functions:
            yield relative


def _read(
    model: type[Model], key: str, pks: Sequence[object], using: str, *, lock: bool
) -> Iterator[QuerySet[Model, Model]]:
    rows = model._base_manager.using(using)
    connection = connections[using]
    if lock and connection.in_atomic_block and connection.features.has_select_for_update:
        # Taken a moment early: the save that follows takes the same lock.
        rows = rows.select_for_update(no_key=connection.features.has_select_for_no_key_update)
    for start in range(0, len(pks), ROWS_PER_QUERY):
        yield rows.filter(**{f"{key}__in": pks[start : start + ROWS_PER_QUERY]})


def _functions_of(model: type[Model]) -> list[Function]:
    return [function for ancestor in tables_of(model) for function in _functions.get(_label(ancestor), ())]


def _call(function: Function, row: Model) -> Iterable[Target]:
    targets: object = function(row)
    if isinstance(targets, str) or not isinstance(targets, Iterable):
        raise TypeError(
            f"{function.__module__}.{function.__qualname__} must return a list of names, or yield them, not {targets!r}"
        )
    return targets


def _label(model: type[Model]) -> str:
    return concrete_of(model)._meta.label_lower
