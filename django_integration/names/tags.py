"""
The tags of rows and tables.

    shop.product        something in the table changed: lists, counts, pages over many rows
    shop.product:42     this row changed
    shop.product:*      unknown rows changed (published in the place of row tags)

An entry that holds one row carries `row_tags(Product, 42)`, an entry over the table `model_tag(Product)`. Beside them
stand the tags of columns and their values, for the results that a written row joins (`columns.py`).

Rule 1: one primary key has one spelling, whatever type it comes in (`keys.py`). Rows whose key has none are known by
their table.
Rule 2: where a database may take two texts for one ("a", "A" and "á" in MariaDB's usual collations), a row that is
known by its text may not be the only one meant, so a write names unknown rows as well (`has_inexact_key`).
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import overload

from django.db import connections, models
from django.db.models import Model

from invalidator import InvalidName, tag

from .columns import target_of
from .keys import spelling
from .relations import MOST_MODELS, by_model, concrete_of

TEXTS_ARE_EXACT = frozenset({"sqlite", "postgresql", "oracle"})
"""Databases whose usual collation distinguishes every two texts."""

_EXACT_COLLATION = re.compile(r"(?i)(binary|c|posix|ucs_basic|.*_(nopad|0900)_bin)")
"""Those that do so anywhere. MariaDB's other `_bin` ones do not look at spaces at the end."""


@by_model
def model_tag(model: type[Model]) -> str:
    """Return the tag of everything in the table of *model*, such as "shop.product"."""
    return concrete_of(model)._meta.label_lower


@overload
def row_tag(row: Model, /) -> str: ...
@overload
def row_tag(model: type[Model], pk: object, /) -> str: ...
def row_tag(row: Model | type[Model], pk: object = None, /) -> str:
    """
    Return the tag of one row, such as "shop.product:42": of *row*, or of *pk* in a model.

    This tag alone misses writes of unknown rows; an entry should carry `row_tags`.

    Raises:
        InvalidName: the row has no primary key yet, or one that has no sure spelling (`names/keys.py`).
    """
    model, value = (type(row), row.pk) if isinstance(row, Model) else (row, pk)
    name = known_row_tag(model, value)
    if name is None:
        raise _no_tag(model, value)
    return name


def known_row_tag(model: type[Model], pk: object) -> str | None:
    """As `row_tag`, but None for a key that is missing or has no sure spelling."""
    concrete = concrete_of(model)
    text = spelling(concrete, pk)
    return None if text is None else _join(concrete, text)


def _no_tag(model: type[Model], pk: object) -> InvalidName:
    label = model._meta.label
    if pk is None:
        return InvalidName(f"{label} has no primary key yet: save it first, or name a key")
    kind = type(pk).__name__
    return InvalidName(f"the row of {label} has no tag, since its key (a {kind}) has no sure spelling: name the model")


@overload
def row_tags(row: Model, /) -> tuple[str, str]: ...
@overload
def row_tags(model: type[Model], pk: object, /) -> tuple[str, str]: ...
def row_tags(row: Model | type[Model], pk: object = None, /) -> tuple[str, str]:
    """
    Return the two tags that an entry holding this row carries: its own, and that of unknown rows.

    Where the key has no sure spelling (`names/keys.py`), its own is that of the table, which every write names.

    Raises:
        InvalidName: the row has no primary key yet.
    """
    model, value = (type(row), row.pk) if isinstance(row, Model) else (row, pk)
    if value is None:
        raise _no_tag(model, value)
    return known_row_tag(model, value) or model_tag(model), unknown_rows_tag(model)


@by_model
def unknown_rows_tag(model: type[Model]) -> str:
    """Return the tag that stands for unknown rows, such as "shop.product:*"."""
    return _join(concrete_of(model), "*")


def label_in(tag: str) -> str:
    """Return what is the label of a model if *tag* is that of a table, of a row, or of a column's value."""
    return tag.partition(":")[0].partition("[")[0]


def has_inexact_key(model: type[Model]) -> bool:
    """Whether two texts that differ may be one primary key of *model*, in a database of this project."""
    collations = _collations_of_key(model)
    return bool(collations) and any(
        not (_EXACT_COLLATION.fullmatch(collation) if collation else _all_texts_are_exact()) for collation in collations
    )


@functools.lru_cache(maxsize=MOST_MODELS)
def _collations_of_key(model: type[Model]) -> tuple[str, ...]:
    """The collations of the texts in the primary key of *model*, "" for the database's usual one."""
    texts = (models.CharField, models.TextField, models.FileField)
    ends = [target_of(column) for column in model._meta.pk_fields]
    return tuple(getattr(end, "db_collation", None) or "" for end in ends if isinstance(end, texts))


@functools.cache
def _all_texts_are_exact() -> bool:
    # No connection is made for this.
    return all(connections[alias].vendor in TEXTS_ARE_EXACT for alias in connections)


def _join(model: type[Model], pk: str) -> str:
    name = f"{model._meta.label_lower}:{pk}"
    try:
        return tag(name).name
    except InvalidName:
        # A primary key may be any text, and saving its row must not fail for that: its hash stands for it.
        digest = hashlib.blake2b(pk.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        return f"{model._meta.label_lower}:~{digest}"
