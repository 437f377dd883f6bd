"""
The tags of columns and their values.

Beside the tags of rows and tables (`tags.py`) there are two more, for results that were found by a column's value:

    shop.product[category_id=7]   a row has this value now
    shop.product[category_id=*]   this column changed in some row; the values of the row are not known

They are for rows that *join* a result. A row that leaves a result, or changes in it, was part of it before, and is
covered by its own tag; so no value from before a write is ever needed, and none is read.

Rule 1: a column has such tags only if its equality is the same in Python and in the database (`comparable_fields`).
Writers spell a text as it is; whether the database distinguishes "a" from "A" is decided by the reader.
Rule 2: equal values have one spelling, whatever type they come in: the field prepares them as for the database.
Rule 3: a value that the database may store as another one (cut, clamped) counts as not known.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.models import F, Field, Model
from django.db.models.query_utils import DeferredAttribute

LONGEST_TEXT = 255
"""Longest text column that is compared, in characters. Longer ones hold prose, and rows are not found by them."""

UNKNOWN = F("unknown")
"""Stands for the value of a column that is not in memory: like an expression, only the database knows it."""

LONGEST_PLAIN = 64
"""Longest value written out in a tag, in characters; a longer one is hashed."""

NUMBERS = (
    models.AutoField,
    models.BigAutoField,
    models.BigIntegerField,
    models.IntegerField,
    models.PositiveBigIntegerField,
    models.PositiveIntegerField,
    models.PositiveSmallIntegerField,
    models.SmallAutoField,
    models.SmallIntegerField,
)
TEXTS = (models.CharField, models.EmailField, models.SlugField, models.URLField)
_LINKS = (models.ForeignKey, models.OneToOneField)
_SPELLED = {models.BooleanField: bool, models.UUIDField: UUID, models.DateField: dt.date}
"""Kinds whose prepared value is always of this type, and whose `str` is the one spelling."""


@functools.cache
def comparable_fields(model: type[Model]) -> tuple[Field[Any, Any], ...]:
    """
    Return the columns of the table of *model* itself whose equality is the same in Python and in the database.

    They are exactly Django's own integer, boolean, UUID and date fields, its text fields of up to 255 characters with
    the database's usual collation, and foreign keys to such. A subclass may store something else, so it is none.
    """
    return tuple(field for field in model._meta.local_concrete_fields if is_comparable(field))


def is_comparable(field: Field[Any, Any]) -> bool:
    """Whether *field* is one of `comparable_fields` of its model."""
    # A property of this name would come before what is stored.
    if not isinstance(getattr(field.model, field.attname, None), DeferredAttribute):
        return False
    return _speller(field) is not None


def field_tag(model: type[Model], field: Field[Any, Any], value: object) -> str:
    """
    Return the tag of rows of which *field* has this *value*, such as "shop.product[category_id=7]".

    An inherited column belongs to the table that it is in: *model* may be a child, or a proxy.

    Raises:
        ValueError, TypeError, ValidationError: the value is none that the field can hold.
    """
    tag = _column(field).tag(value)
    return any_value_tag(model, field) if tag is None else tag


def any_value_tag(model: type[Model], field: Field[Any, Any]) -> str:
    """Return the tag of a change of *field* to an unknown value, such as "shop.product[category_id=*]"."""
    return _column(field).any_value


def tags_of_values(model: type[Model], values: Mapping[str, object]) -> Iterator[str]:
    """
    Yield the tags of a row whose every column in the table of *model* was just written.

    Args:
        values: by attribute name, such as "category_id"; what is not there, or is an expression, is not known.
    """
    for column in _comparable_columns(model):
        tag = None
        value = values.get(column.attname, UNKNOWN)
        if not hasattr(value, "resolve_expression"):
            # The database may understand a value that the field does not.
            with contextlib.suppress(ArithmeticError, AttributeError, TypeError, ValueError, ValidationError):
                tag = column.tag(value)
        yield column.any_value if tag is None else tag


def tags_of_columns(model: type[Model], columns: Collection[str] | None) -> Iterator[str]:
    """
    Yield the tags of a write of these *columns* of the table of *model*, and of no others.

    Args:
        columns: names or attribute names; those of other tables' columns are ignored. None: all columns.
    """
    written = [
        field
        for field in model._meta.local_concrete_fields
        if columns is None or field.name in columns or field.attname in columns
    ]
    if written:
        # The database computes these from the others.
        written += [field for field in model._meta.local_concrete_fields if field.generated and field not in written]
    for field in written:
        yield _column(field).any_value


Speller = Callable[[Any, Any], "str | None"]


class _Column(NamedTuple):
    """How the tags of a column are made; remembered for each column."""

    attname: str
    prefix: str
    any_value: str
    spell: Speller | None
    speller: Any
    """The field that prepares values; of a foreign key, the field at its end."""

    def tag(self, value: object) -> str | None:
        """The tag of *value*; None if the database may store another value for it. Raises as `field_tag`."""
        if value is None:
            return self.prefix + "None]"
        if self.spell is None or (text := self.spell(self.speller, value)) is None:
            return None
        return f"{self.prefix}{text}]"


@functools.cache
def _comparable_columns(model: type[Model]) -> tuple[_Column, ...]:
    return tuple(map(_column, comparable_fields(model)))


@functools.lru_cache(maxsize=4096)  # not without bound: a migration's models have fields of their own
def _column(field: Field[Any, Any]) -> _Column:
    concrete: Any = field.model._meta.concrete_model
    prefix = f"{concrete._meta.label_lower}[{_short(field.attname)}="
    return _Column(field.attname, prefix, prefix + "*]", _speller(field), target_of(field))


def target_of(field: Any) -> Any:
    """Return the field at the end of a chain of foreign keys: its values are theirs."""
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    return field


def _speller(field: Any) -> Speller | None:
    while type(field) in _LINKS:
        if getattr(field, "db_collation", None):
            return None
        field = field.target_field
    kind = type(field)
    if kind in NUMBERS:
        return _spell_number
    if kind in TEXTS and not field.db_collation and field.max_length and field.max_length <= LONGEST_TEXT:
        return _spell_text
    return _spell if kind in _SPELLED else None


def _spell_number(field: Any, value: object) -> str | None:
    number: int = value if type(value) is int else field.get_prep_value(value)
    least, most = BaseDatabaseOperations.integer_field_ranges[type(field).__name__]
    return str(int(number)) if least <= number <= most else None


def _spell_text(field: Any, value: object) -> str | None:
    text: str = value if type(value) is str else field.get_prep_value(value)
    if len(text) > field.max_length:
        return None
    return _short(str.__str__(text))  # of an enum's member, too, this is the text


def _spell(field: Any, value: object) -> str | None:
    prepared = field.get_prep_value(value)
    # Exactly: a datetime is a date, too, and spelled otherwise.
    return str(prepared) if type(prepared) is _SPELLED[type(field)] else None


def _short(text: str) -> str:
    if len(text) <= LONGEST_PLAIN and text.isascii():
        return text
    return "~" + hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
