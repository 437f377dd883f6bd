"""What a value says, as tuples and text that can be compared: two values that say the same are equal here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from django.core.paginator import Page
from django.db.models import Manager, Model, QuerySet
from django.db.models.fields.files import FieldFile
from django.db.models.query import RawQuerySet

DEEPEST = 8


def plainly(value: Any, depth: int = 0) -> Any:
    """
    What *value* says: of a row the columns that are in memory, and the relations that were loaded with it.

    A query set that was not evaluated is evaluated by this, as by any caller who looks at it.
    """
    if depth > DEEPEST:
        return "…"
    again: Callable[[Any], Any] = lambda item: plainly(item, depth + 1)  # noqa: E731
    if isinstance(value, Model):
        return _row(value, again)
    if isinstance(value, FieldFile):
        return value.name
    if isinstance(value, Page):
        return ("page", value.number, [again(item) for item in value.object_list])
    if isinstance(value, Mapping):
        return {again(key): again(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((again(item) for item in value), key=str)
    if isinstance(value, tuple):
        return tuple(again(item) for item in value)
    if isinstance(value, list | QuerySet | RawQuerySet):
        return [again(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: again(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Manager):
        return "a manager"
    if hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        return {name: again(item) for name, item in vars(value).items()}
    return value


def _row(row: Model, again: Callable[[Any], Any]) -> Any:
    said = {name: again(value) for name, value in sorted(vars(row).items()) if not name.startswith("_")}
    state: Any = row._state
    if loaded := getattr(state, "fields_cache", None):
        said["loaded"] = {name: again(value) for name, value in sorted(loaded.items())}
    if prefetched := getattr(row, "_prefetched_objects_cache", None):
        said["prefetched"] = {name: again(value) for name, value in sorted(prefetched.items())}
    return (type(row).__name__, said)


def outcome_of(call: Callable[[], Any]) -> tuple[str, Any]:
    """How *call* ends: with a value, or with an error."""
    try:
        return "returns", call()
    except Exception as error:  # noqa: BLE001 - whatever an application would be shown
        return "raises", error


def said_by(outcome: tuple[str, Any]) -> tuple[str, Any]:
    """What an outcome says."""
    how, value = outcome
    return how, f"{type(value).__name__}: {value}" if how == "raises" else plainly(value)
