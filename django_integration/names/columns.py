"""
What the value of a column is called.

Two tags stand beside those of rows and tables (`names.py`), for results that were found by a column's value:

    shop.product[category_id=7]   a row is one with this value now
    shop.product[category_id=*]   this column changed in some row, and nobody says how the row's other columns stand

They say who may have *joined* a result. Who left it, or changed in it, was in it, and is said by the row's own tag;
so no value from before a write is ever needed, and none is read.

Rule 1: only columns count whose equality is one thing in Python and in the database (`comparable_fields`). Where text
is concerned, whether a database tells "a" from "A" is for the reader to know: writers name the text as it is.
Rule 2: equal values have one spelling, whatever type they come in: the field prepares them as for the database.
Rule 3: a value that the database may store as another one (cut, clamped) is not known.
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
"""Characters of a column that is compared; what is longer is prose, and found by other means."""

UNKNOWN = F("unknown")
"""Stands for the value of a column that is not in memory: it is no more known than an expression's."""

LONGEST_PLAIN = 64
"""Characters of a value written out in a tag; of a longer one its hash is."""

_NUMBERS = (
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
_TEXTS = (models.CharField, models.EmailField, models.SlugField, models.URLField)
_LINKS = (models.ForeignKey, models.OneToOneField)
_SPELLED = {models.BooleanField: bool, models.UUIDField: UUID, models.DateField: dt.date}
"""Kinds whose prepared value is of one type, and whose `str` is one spelling."""


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
    """Return the tag of a change of *field* to nobody knows what, such as "shop.product[category_id=*]"."""
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
            # Else: what the database understands, and the field does not.
            with contextlib.suppress(ArithmeticError, AttributeError, TypeError, ValueError, ValidationError):
                tag = column.tag(value)
        yield column.any_value if tag is None else tag


def tags_of_columns(model: type[Model], columns: Collection[str] | None) -> Iterator[str]:
    """
    Yield the tags of a write of these *columns* of the table of *model*, and of no others.

    Args:
        columns: names or attribute names, also of other tables' columns, which are left out; None: any of them.
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
    """What is known once and for all of the tags of a column."""

    attname: str
    prefix: str
    any_value: str
    spell: Speller | None
    speller: Any
    """The field that spells: at the end of a foreign key, its target."""

    def tag(self, value: object) -> str | None:
        """The tag of *value*, or None if the database may store another one for it. Raises as `field_tag`."""
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
    if kind in _NUMBERS:
        return _spell_number
    if kind in _TEXTS and not field.db_collation and field.max_length and field.max_length <= LONGEST_TEXT:
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
