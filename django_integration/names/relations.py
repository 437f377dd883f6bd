"""
Which models share a row, and which rows a row links.

Rule 1: a proxy is its concrete model.
Rule 2: with multi-table inheritance a row is one row of several tables: its model's, its parents' and its children's.
Rule 3: a row of a many-to-many relation's through table links two others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard, TypeVar, cast

from django.apps import apps
from django.db import models
from django.db.models import ForeignKey, Model

from .columns import target_of

Function = TypeVar("Function", bound=Callable[..., Any])

MOST_MODELS = 4096
"""Models of which something is remembered; migrations have models of their own."""


def by_model(function: Function) -> Function:
    """Answer once for each model. (As `lru_cache` itself is typed, a `type[Any]` could not be asked about.)"""
    return cast(Function, functools.lru_cache(maxsize=MOST_MODELS)(function))


def is_model(target: object) -> TypeGuard[type[Model]]:
    """Whether *target* is a model class."""
    return isinstance(target, type) and issubclass(target, Model)


def family(model: type[Model]) -> tuple[type[Model], ...]:
    """Return the concrete *model* first, then all its parents and children by multi-table inheritance."""
    return (*tables_of(model), *_children(concrete_of(model)))


def tables_of(model: type[Model]) -> tuple[type[Model], ...]:
    """Return the models in whose tables a row of *model* has its columns: itself, and its parents."""
    concrete = concrete_of(model)
    return (concrete, *map(concrete_of, concrete._meta.get_parent_list()))


def concrete_of(model: type[Model]) -> type[Model]:
    """Return the model whose table holds the rows of *model*. Raises TypeError if there is none."""
    concrete = model._meta.concrete_model
    if concrete is None or concrete._meta.abstract:
        raise TypeError(f"{model.__name__} is abstract: it has no rows; name a model that has a table")
    return concrete


def _children(model: type[Model]) -> Iterator[type[Model]]:
    for relation in model._meta.related_objects:
        if relation.one_to_one and getattr(relation, "parent_link", False):
            child: type[Model] = relation.related_model
            yield child
            yield from _children(child)


_IN_DATABASE = {getattr(models, name, None) for name in ("DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT")} - {None}
"""The kinds of `on_delete` that the database carries out by itself, where Django has them (6.1)."""


def dependents_in_database(model: type[Model]) -> dict[type[Model], None]:
    """Return the models of which the database deletes or changes rows when rows of *model* are deleted."""
    changed: dict[type[Model], None] = {}
    deleted = [model] if _IN_DATABASE else []
    for target in deleted:  # which grows meanwhile
        for relation in target._meta.get_fields(include_hidden=True):
            on_delete = getattr(relation, "on_delete", None) if relation.auto_created else None
            if on_delete not in _IN_DATABASE:
                continue
            dependent = concrete_of(cast("type[Model]", relation.related_model))
            changed[dependent] = None
            if on_delete is models.DB_CASCADE and dependent not in deleted:
                deleted.append(dependent)
    return changed


def ends_of(model: type[Model]) -> list[ForeignKey[Any, Any]]:
    """Return the foreign keys of *model* if it is the through table of a many-to-many relation, else none."""
    if not (model._meta.auto_created or model._meta.label_lower in _link_labels()):
        return []
    return [column for column in model._meta.concrete_fields if isinstance(column, ForeignKey)]


@functools.cache
def _link_labels() -> frozenset[str]:
    relations = [relation for model in apps.get_models() for relation in model._meta.local_many_to_many]
    throughs = [relation.remote_field.through for relation in relations]
    return frozenset(through._meta.label_lower for through in throughs if through is not None)


def is_historical(model: type[Model]) -> bool:
    """Whether *model* is a migration's: it has the columns of its day, and none of the application's methods."""
    return model._meta.apps is not apps


def has_expressions(row: Model) -> bool:
    """Whether a column of *row* still holds `F("price") + 1`, whose value only the database knows."""
    return any(hasattr(value, "resolve_expression") for value in row.__dict__.values())


def clone_of(row: Model) -> Model:
    """
    Return a second object with what *row* holds, for us to change.

    `copy.copy` would look the model up among those of today: a migration's model may not be there.
    """
    model = row.__class__
    clone = model.__new__(model)
    clone.__dict__.update(row.__dict__)
    state = row._state.__class__.__new__(row._state.__class__)
    state.__dict__.update(row._state.__dict__)
    state.__dict__.pop("peers", None)  # those that Django fetched with the row (6.1); the clone is none of them
    state.fields_cache = dict(row._state.fields_cache)
    clone._state = state
    return clone


def have_one_key(model: type[Model], other: type[Model]) -> bool:
    """Whether a row of *model* and of *other* has one primary key: a child's is, by default, the link to its parent."""
    return target_of(model._meta.pk) is target_of(other._meta.pk)
