"""
What a model change is called.

A change of row 42 of `shop.Product` is published as three tags:

    shop.product        something in the table changed: lists, counts, pages over many rows
    shop.product:42     this row changed
    shop.product:*      rows changed, and nobody knows which (published instead of row tags)

An entry that holds one row carries `row_tags(Product, 42)`, an entry over the table `model_tag(Product)`.

Beside them stand the tags of columns and their values, which say what a row joins when it is written (`columns.py`).

Rule 1: a proxy is its concrete model.
Rule 2: with multi-table inheritance a row is one row of several tables. Its change is a change of the model, of
all its parents and of all its children, since a child's copy holds the parent's columns.
Rule 3: a row of a many-to-many's through table is a change of the rows it links.
Rule 4: no query, ever. What is not in memory is not known, and unknown rows are the `*` tag.
Rule 5: values are told of a row that was written whole. A write of some of its columns tells that these have changed,
and no value: those in memory beside them may be old.
Rule 6: where a database may take two texts for one ("a", "A" and "á" in MariaDB's usual collations), a row by its text
is not the only one that may be meant, so unknown rows are named beside it.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeAlias, TypeGuard, TypeVar, cast, overload

from django.apps import apps
from django.core.signals import setting_changed
from django.db import connections, models
from django.db.models import ForeignKey, Model

from invalidator import InvalidName, Tag, tag
from invalidator.extending import check_key

from ..conf import SETTING, conf
from .columns import tags_of_columns, tags_of_values, target_of

Target: TypeAlias = "str | Tag | Model | type[Model]"
"""What can be invalidated: a key, a tag, a row, a table."""

MAX_NAMES = 100_000
"""
Names kept for one transaction, some 10 MB. Beyond it rows become unknown rows; if that is not enough, it is one clear,
and little is left in any cache by then.
"""

UNWATCHED = frozenset({"admin.logentry", "migrations.migration", "sessions.session"})
"""Tables that are written on nearly every request, or by `migrate` alone, and cached by nobody under a model's tag."""


Function = TypeVar("Function", bound=Callable[..., Any])


def _by_model(function: Function) -> Function:
    """Answer once for each model. (As `lru_cache` itself is typed, a `type[Any]` could not be asked about.)"""
    return cast(Function, functools.lru_cache(maxsize=4096)(function))  # migrations have models of their own


@_by_model
def is_watched(model: type[Model]) -> bool:
    """
    Whether changes of *model* are published, as the setting `MODELS` says.

    What is excluded, is not. What is included, is; one of `UNWATCHED` by any pattern but "*". A child of a watched
    model by multi-table inheritance is watched in any case, since its rows are rows of its parent's. The table that
    Django makes for a many-to-many relation goes with the model that has the relation, unless it is named itself.
    """
    model = concrete_of(model)
    label = model._meta.label_lower
    if any(map(is_watched, model._meta.get_parent_list())):
        return True
    included = conf.models.get("include", ("*",))
    if _matches(label, conf.models.get("exclude", ())):
        return False
    if label in UNWATCHED:
        return _matches(label, [pattern for pattern in included if pattern.strip("*.")])
    if _matches(label, included):
        return True
    maker: Any = model._meta.auto_created  # the stubs say bool; it is the model with the relation
    return bool(maker) and is_watched(maker)


def matches(pattern: str, labels: Iterable[str]) -> bool:
    """Whether *pattern* of the setting `MODELS` means one of these *labels*."""
    return any(fnmatchcase(label.lower(), pattern.lower()) for label in labels)


def closest_label(text: str, labels: Iterable[str]) -> str | None:
    """Return that of *labels* which somebody who wrote *text* most likely meant, None if there is none like it."""
    known = {label.lower(): label for label in labels}
    close = difflib.get_close_matches(text.lower(), known, n=1)
    return known[close[0]] if close else None


def _matches(label: str, patterns: Iterable[str]) -> bool:
    return any(matches(pattern, [label]) for pattern in patterns)


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting in (SETTING, "INSTALLED_APPS"):
        cast(Any, is_watched).cache_clear()


setting_changed.connect(_on_setting_changed, dispatch_uid="invalidator.names")


@_by_model
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

    Alone it misses writes of which nobody knows the rows; an entry wants `row_tags`.

    Raises:
        InvalidName: the row has no primary key yet.
    """
    model, value = (type(row), row.pk) if isinstance(row, Model) else (row, pk)
    if value is None:
        raise InvalidName(f"{model._meta.label} has no primary key yet: save it first, or name a key")
    concrete = concrete_of(model)
    return _join(concrete, _pk_text(concrete, value))


@overload
def row_tags(row: Model, /) -> tuple[str, str]: ...
@overload
def row_tags(model: type[Model], pk: object, /) -> tuple[str, str]: ...
def row_tags(row: Model | type[Model], pk: object = None, /) -> tuple[str, str]:
    """Return the two tags that an entry holding this row carries: its own, and that of unknown rows."""
    if isinstance(row, Model):
        return row_tag(row), unknown_rows_tag(type(row))
    return row_tag(row, pk), unknown_rows_tag(row)


@_by_model
def unknown_rows_tag(model: type[Model]) -> str:
    """Return the tag that stands for rows nobody knows, such as "shop.product:*"."""
    return _join(concrete_of(model), "*")


@dataclass(slots=True)
class Names:
    """Names that became stale, in the order they were said, each once; `everything` stands for all there are."""

    keys: dict[str, None] = field(default_factory=dict)
    tags: dict[str, None] = field(default_factory=dict)
    everything: bool = False

    def __bool__(self) -> bool:
        return bool(self.everything or self.keys or self.tags)

    def __len__(self) -> int:
        return len(self.keys) + len(self.tags)

    def add(self, target: Target) -> None:
        """Add one target. Raises TypeError for what cannot be invalidated, InvalidName for an impossible name."""
        if isinstance(target, str):
            self.keys[check_key(target)] = None
        elif isinstance(target, Tag):
            self.tags[target.name] = None
        elif isinstance(target, Model):
            row_tag(target)  # raises for a row that was never saved
            # Which columns have changed is not known; what is in memory may be older than what changed them.
            for model in tables_of(type(target)):
                self.columns_changed(model, [column.name for column in model._meta.local_concrete_fields])
            self.row_changed(target)
        elif is_model(target):
            self.table_changed(target)
        else:
            raise TypeError(
                "a key (str), a tag (tag('prices')), a model instance or a model class can be invalidated, "
                f"not {type(target).__name__}: {target!r}"
            )
        self._bound()

    def update(self, other: Names) -> None:
        """Add all of *other*."""
        self.everything |= other.everything
        self.keys.update(other.keys)
        self.tags.update(other.tags)
        self._bound()

    def clear(self) -> None:
        """Forget all."""
        self.everything = False
        self.keys.clear()
        self.tags.clear()

    def row_written(self, row: Model, *, columns: Collection[str] | None = None) -> None:
        """
        Add what `row_changed` adds, and the tags of the columns that were written.

        Args:
            columns: their names or attribute names, as in `save(update_fields=…)`. None: all, and *row* holds what the
                database holds now, apart from columns that it lacks and expressions.
        """
        for model in tables_of(type(row)):
            if columns is None:
                self.values_written(model, row)
            else:
                self.columns_changed(model, columns)
        self.row_changed(row)

    def row_changed(self, row: Model) -> None:
        """Add the tags of *row* in its table and in those it shares by inheritance, and of the rows it links."""
        concrete = concrete_of(type(row))
        for model in family(concrete):
            self._add_row(model, _pk_in(row, model))
        for key in ends_of(concrete):
            # Only what is in memory: a deferred column would cost a query.
            self._add_family(key.related_model, row.__dict__.get(key.attname) if key.target_field.primary_key else None)
        self._bound()

    def rows_changed(
        self, model: type[Model], pks: Iterable[object] | None, ends: Mapping[str, Collection[object]] | None = None
    ) -> None:
        """
        Add the tags of rows of *model* by their primary keys, of their family, and of the rows that they link.

        Args:
            pks: None if they are not known.
            ends: what the foreign keys of a through model hold in these rows, by attribute name, as far as is known.
        """
        for pk in (None,) if pks is None else pks:
            self._add_family(model, pk)
        for key in ends_of(concrete_of(model)):
            values = (ends or {}).get(key.attname) if key.target_field.primary_key else None
            for value in (None,) if values is None else values:
                self._add_family(key.related_model, value)
        self._bound()

    def table_changed(self, model: type[Model]) -> None:
        """Add the tags for a change of *model* of which the rows are not known."""
        self.rows_changed(model, None)

    def columns_changed(self, model: type[Model], columns: Collection[str]) -> None:
        """Add the tags of *columns* of the table of *model*, by name or attribute name: some rows' values changed."""
        concrete = concrete_of(model)
        if concrete._meta.apps is apps:
            self.tags.update(dict.fromkeys(tags_of_columns(concrete, columns)))
        else:
            self._add_row(concrete, None)
        self._bound()

    def values_written(self, model: type[Model], row: Model) -> None:
        """Add the tags of the values that *row* has in the table of *model*, its own or a parent's; no row's tag."""
        if model._meta.apps is apps:
            self.tags.update(dict.fromkeys(tags_of_values(model, row.__dict__)))
        else:
            self._add_row(model, None)
        self._bound()

    def dependents_changed(self, model: type[Model]) -> None:
        """Add the tables whose rows the database itself deletes or changes when rows of *model* are deleted."""
        for dependent in _dependents_in_database(concrete_of(model)):
            if is_watched(dependent):
                self.table_changed(dependent)

    def _add_family(self, model: type[Model], pk: object) -> None:
        concrete = concrete_of(model)
        for relative in family(concrete):
            self._add_row(relative, pk if _one_value(relative, concrete) else None)

    def _add_row(self, model: type[Model], pk: object) -> None:
        concrete = concrete_of(model)
        self.tags[concrete._meta.label_lower] = None
        if pk is not None:
            self.tags[row_tag(concrete, pk)] = None
        if pk is None or _has_keys_of_many_spellings(concrete):
            self.tags[unknown_rows_tag(concrete)] = None

    def _bound(self) -> None:
        if len(self) > MAX_NAMES:
            self.tags = _without_rows(self.tags)
            # Half: this is not to be done again for each of the next rows.
            self.everything |= len(self) > MAX_NAMES // 2
        if self.everything:
            self.keys.clear()
            self.tags.clear()


def _without_rows(tags: Iterable[str]) -> dict[str, None]:
    """*tags*, in which all tags of rows and columns of a model have become the one of unknown rows."""
    unknown = {model._meta.label_lower: unknown_rows_tag(model) for model in apps.get_models(include_auto_created=True)}
    coarse = dict.fromkeys(tags)
    for name in tags:
        label = re.split(r"[:\[]", name, maxsplit=1)[0]
        if label in unknown and name != label:
            del coarse[name]
            coarse[unknown[label]] = None
    return coarse


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


def _dependents_in_database(model: type[Model]) -> dict[type[Model], None]:
    """The models of which the database deletes or changes rows when it deletes some of *model*, directly or by way."""
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


def _pk_in(row: Model, model: type[Model]) -> object:
    """The primary key of *row* in the table of *model*, one of its family; None if not known without a query."""
    if _one_value(model, concrete_of(type(row))):
        return row.pk
    # A parent's columns are the child's attributes. A child with a key of its own is not known.
    return row.__dict__.get(model._meta.pk.attname) if isinstance(row, model) else None


def _one_value(model: type[Model], other: type[Model]) -> bool:
    """Whether a row of *model* and *other* has one primary key: a child's is, by default, the link to its parent."""
    return target_of(model._meta.pk) is target_of(other._meta.pk)


def _pk_text(model: type[Model], pk: object) -> str:
    """*pk* as every server spells it: through the field's own type, so that "42" and 42 are one row."""
    columns = model._meta.pk_fields
    values = pk if isinstance(pk, tuple | list) else (pk,)
    return ",".join(_spelled(column.to_python(value)) for column, value in zip(columns, values, strict=True))


def _spelled(value: object) -> str:
    return str.__str__(value) if isinstance(value, str) else str(value)  # of an enum's member, too, this is the text


TEXTS_ARE_EXACT = frozenset({"sqlite", "postgresql", "oracle"})
"""Databases whose usual collation tells every two texts apart."""

_EXACT_COLLATION = re.compile(r"(?i)(binary|c|posix|ucs_basic|.*_(nopad|0900)_bin)")
"""Those that do so anywhere. MariaDB's other `_bin` ones do not look at spaces at the end."""


def _has_keys_of_many_spellings(model: type[Model]) -> bool:
    """Whether two texts that differ may be one primary key of *model*, in a database of this project."""
    collations = _collations_of_key(model)
    return bool(collations) and any(
        not (_EXACT_COLLATION.fullmatch(collation) if collation else _all_texts_are_exact()) for collation in collations
    )


@functools.lru_cache(maxsize=4096)  # not without bound: migrations have models of their own
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
