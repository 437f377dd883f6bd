"""
How a primary key is spelled in the tag of its row: "42" in "shop.product:42".

A key comes here as the row in memory has it, as a query asks for it, as a URL spells it, and as a field has prepared it
for the database. All of these must be one text, or a reader waits for another name than the writer publishes.

Rule 1: a key has a spelling only if it is sure to be the only one. `to_python` of the field and then `get_prep_value`
make it a number, a text, a UUID, a date or bytes, and doing both again changes nothing. A decimal or a time has none:
1.0 and 1.00 are one key, and a database rounds.
Rule 2: a field that converts values on their way to the database, below what a query shows, has no spellings.
Rule 3: what has no spelling is no error. Its rows are known by their table: readers depend on all of it, and writers
name unknown rows.
"""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Field, Model

from .columns import NUMBERS, TEXTS, target_of
from .relations import by_model

_CONVERSIONS = ("db_type", "get_db_prep_save", "get_db_prep_value")
"""Methods that change a value on its way to the database (rule 2), unless they are Django's own."""

_OWN: dict[type[Field[Any, Any]], type] = {
    **dict.fromkeys(NUMBERS, int),
    **dict.fromkeys((*TEXTS, models.TextField), str),
    models.UUIDField: UUID,
}
"""Kinds of fields that leave a value of this type as it is. The usual ones, for the sake of speed."""


def spelling(model: type[Model], pk: object) -> str | None:
    """Return how every server spells the primary key *pk* of the concrete *model*; None if that is not sure."""
    try:
        columns = _columns(model)
        if columns is None:
            return None
        if len(columns) == 1:
            return _spelled(columns[0], pk)
        if not isinstance(pk, tuple | list):
            return None
        texts = [_spelled(column, value) for column, value in zip(columns, pk, strict=True)]
        return None if None in texts else ",".join(map(str, texts))
    except Exception:  # noqa: BLE001 - a field of somebody's own may refuse a value in any way (rule 3)
        return None


@by_model
def _columns(model: type[Model]) -> tuple[Any, ...] | None:
    """The fields that decide over the spelling of a key of *model*; None if one of them has none."""
    ends = tuple(map(target_of, model._meta.pk_fields))
    return ends if all(map(_shows_what_is_stored, (*model._meta.pk_fields, *ends))) else None


def _shows_what_is_stored(field: Field[Any, Any]) -> bool:
    kind = type(field)
    return all(getattr(kind, name).__module__.startswith("django.db.models.") for name in _CONVERSIONS)


def _spelled(field: Any, value: object) -> str | None:
    if _OWN.get(type(field)) is type(value):
        return str(value)
    if value is None or hasattr(value, "resolve_expression"):
        return None
    prepared = _prepared(field, value)
    text = _text(prepared)
    if type(value) is int and text != str(value):
        return None  # who reads rows spells their numbers as they are, for the sake of speed
    return text if text is not None and text == _text(_prepared(field, prepared)) else None


def _prepared(field: Any, value: object) -> object:
    return field.get_prep_value(field.to_python(value))


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return str.__str__(value)  # of an enum's member, too, this is the text
    if isinstance(value, bool | UUID) or type(value) is dt.date:
        return str(value)
    if isinstance(value, int):
        return int.__repr__(value)
    return repr(bytes(value)) if isinstance(value, bytes | bytearray | memoryview) else None
