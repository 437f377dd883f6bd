"""
Query sets as arguments of cached functions: their text in a key, and the copy that a function is called with.

Rule 1: a query set is named by its query, never by its result: a hash of its SQL, its parameters and what it makes of
rows.
Rule 2: what this module does not know about a query set (`_UNDERSTOOD`) is state of its class, as packages for tenants
and translations have. It is part of the key, or refused by its name.
Rule 3: a function gets a copy that holds nothing of its caller's memory: no result, and no row that the query set was
made from, as those of a related manager are. What the function wants of such a row it reads, and that is recorded.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import DecimalField, Model, Prefetch, QuerySet
from django.db.models.sql import Query
from django.utils.functional import SimpleLazyObject, cached_property

from invalidator import InvalidName
from invalidator.extending import plain_key

Rows = QuerySet[Any, Any]
Describe = Callable[[object], "str | None"]
"""Gives the text of a row, a query set or a model class; None for anything else."""
ReadAnew = Callable[[Any], Any]
"""Gives rows and query sets, alone or in containers, fresh."""

_UNDERSTOOD = frozenset(
    {
        *("model", "_db", "_hints", "_query", "_result_cache", "_sticky_filter", "_for_write"),
        *("_prefetch_related_lookups", "_prefetch_done", "_known_related_objects", "_iterable_class", "_fields"),
        *("_defer_next_filter", "_deferred_filter", "_cloning_enabled"),
    }
)
"""Attributes of Django's own that the text of a query set tells, or that have no effect on what it gives."""
_UNDERSTOOD_OF_LOOKUPS = frozenset({"prefetch_through", "prefetch_to", "to_attr", "queryset", "querysets"})
_UNDERSTOOD_OF_QUERIES = frozenset({*dir(Query), *vars(Query(None))})

# In the key.


def text_of(rows: Rows, describe: Describe) -> str:
    """
    Return a text that two query sets share only if they give the same: a hash.

    Raises:
        InvalidName: a parameter, or an attribute that is not Django's, has no text that is the same in every process.
    """
    rows = _itself(rows)
    text = " ".join([_sql(rows), *_shape(rows), *_state_texts(rows, describe), *_prefetches(rows, describe)])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _sql(rows: Rows) -> str:
    try:
        sql, params = rows.query.get_compiler(rows.db).as_sql()
    except EmptyResultSet:
        return "nothing"
    # As arguments of a function are spelled, since that is the same everywhere.
    return plain_key(sql, {f"{number:05}": parameter for number, parameter in enumerate(params)})


def _shape(rows: Any) -> Iterator[str]:
    """What the query set makes of its rows, in Django's own words."""
    query = rows.query
    yield _name(type(rows))  # its methods are what a function may ask
    yield _name(type(query))
    yield _name(rows._iterable_class)  # noqa: SLF001 - nobody else knows
    yield f"{query.standard_ordering} {query.select_for_update} {rows._sticky_filter} {rows._fields}"  # noqa: SLF001
    for alias, annotation in query.annotations.items():  # of one SQL, a number may become an int or a float
        yield f"{alias}:{_name(type(annotation))}:{_field_text(annotation)}"


def _field_text(annotation: Any) -> str:
    try:
        field = annotation.output_field
        name = _name(type(field))
        if name.startswith("django.") and not isinstance(field, DecimalField):
            return name
        return f"{name}{_spell(field.deconstruct()[3], _describe_nothing)}"
    except Exception:  # noqa: BLE001 - a package's own expression: its SQL says what it is
        return ""


def _state_texts(rows: Rows, describe: Describe) -> Iterator[str]:
    for name, value in sorted(_state(rows).items()):
        try:
            yield f"{name}={_spell(value, describe)}"
        except InvalidName:
            raise InvalidName(
                f"the attribute {name!r} of {_name(type(rows))} has a {type(value).__name__}, of which no text can be "
                "made that is the same in every process; let it be a plain value, or give cached(key=…) a template "
                "or a function of the arguments"
            ) from None
    attributes = vars(rows.query)
    for name in sorted(attributes.keys() - _UNDERSTOOD_OF_QUERIES):
        # If it has no text: what a query does with it is in its SQL.
        yield f"query.{name}={_text_or_none(attributes[name], describe)}"


def _state(rows: Rows) -> dict[str, Any]:
    """The attributes of *rows* that are not Django's, but for what its class keeps of what it has computed."""
    attributes = vars(rows)
    return {
        name: attributes[name]
        for name in attributes.keys() - _UNDERSTOOD
        if not isinstance(inspect.getattr_static(type(rows), name, None), cached_property | functools.cached_property)
    }


def _prefetches(rows: Any, describe: Describe) -> Iterator[str]:
    for lookup in rows._prefetch_related_lookups:  # noqa: SLF001 - nobody else knows
        yield _prefetch(lookup, describe)


def _prefetch(lookup: str | Prefetch[Any], describe: Describe) -> str:
    if isinstance(lookup, str):
        return lookup
    own = {name: value for name, value in vars(lookup).items() if name not in _UNDERSTOOD_OF_LOOKUPS}
    try:
        state = _spell(own, describe) if own else ""
    except InvalidName as error:
        raise InvalidName(f"{_name(type(lookup))} {lookup.prefetch_to!r}: {error}") from None
    inside = " ".join(str(describe(rows)) for rows in _query_sets_of(lookup))
    return f"{_name(type(lookup))} {lookup.prefetch_through} {lookup.prefetch_to} {state} {inside}"


def _query_sets_of(lookup: Prefetch[Any]) -> Iterable[Rows]:
    # A GenericPrefetch has several.
    return [rows for rows in (lookup.queryset, *getattr(lookup, "querysets", ())) if rows is not None]


# Texts of state.


def _spell(value: Any, describe: Describe) -> str:
    """Return the text of *value*. Raises InvalidName if it has none that is the same in every process."""
    return plain_key("", {"": value}, describe=lambda inside: _describe_inside(inside, describe))


def _text_or_none(value: Any, describe: Describe) -> str | None:
    try:
        return _spell(value, describe)
    except InvalidName:
        return None


def _describe_inside(value: Any, describe: Describe) -> str | None:
    if (text := describe(value)) is not None:
        return text
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(_spell(item, describe) for item in value.items()))}}}"
    if isinstance(value, list):
        return f"[{', '.join(_spell(item, describe) for item in value)}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(_spell(item, describe) for item in value))}}}"
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return _name(value)
    if isinstance(value, functools.partial):
        return f"{_spell(value.func, describe)}{_spell((value.args, value.keywords), describe)}"
    return f"{_name(type(value))}()" if _has_no_state(value) else None


def _describe_nothing(value: object) -> None:
    """A `Describe` for texts in which there is nothing of Django's."""


def _has_no_state(value: Any) -> bool:
    """Whether all objects of the class of *value* are alike, as Django's fetch modes are."""
    slots = [getattr(kind, "__slots__", None) for kind in type(value).__mro__[:-1]]
    return bool(slots) and all(slot == () for slot in slots)


_numbers = itertools.count(1)
_names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_first: dict[str, int] = {}
"""By name, the number of the first class or function that was found by it."""


def _name(of: Any) -> str:
    """The name of a class or function; if it is not found by that, with a number that it has in this process."""
    if isinstance(of, functools.partial):
        return f"{_name(of.func)}{_spell((of.args, of.keywords), _describe_nothing)}"
    name = _names.get(of)
    if name is None:
        name, number = f"{of.__module__}.{of.__qualname__}", next(_numbers)
        is_found = _found(of.__module__, of.__qualname__) is of
        if not is_found or _first.setdefault(name, number) != number:  # a module may be loaded again
            name += f"#{number}"
        name = _names.setdefault(of, name)
    return name


def _found(module: str, qualname: str) -> Any:
    return functools.reduce(lambda at, name: getattr(at, name, None), qualname.split("."), sys.modules.get(module))


# For the function.


def fresh(rows: Rows, read_anew: ReadAnew) -> Rows:
    """Return a copy of *rows* with nothing of the caller's memory in it (rule 3), and with the state of its class."""
    rows = _itself(rows)
    copy: Rows = rows._clone()  # type: ignore[attr-defined]  # noqa: SLF001 - `all()` may return *rows* itself
    inside = vars(copy)
    inside["_known_related_objects"] = {}
    hints = inside["_hints"]
    if any(isinstance(hint, Model) for hint in hints.values()):
        inside["_db"] = rows.db  # which a router may have chosen by the row
        inside["_hints"] = {name: _later(hint, read_anew) for name, hint in hints.items()}
    lookups = inside["_prefetch_related_lookups"]
    inside["_prefetch_related_lookups"] = tuple(_fresh_lookup(lookup, read_anew) for lookup in lookups)
    inside.update({name: read_anew(value) for name, value in _state(rows).items()})
    return copy


def _later(hint: Any, read_anew: ReadAnew) -> Any:
    """*hint*; a row is read when it is first looked at, which seldom happens."""
    return SimpleLazyObject(lambda: read_anew(hint)) if isinstance(hint, Model) else hint


def _fresh_lookup(lookup: Any, read_anew: ReadAnew) -> Any:
    if isinstance(lookup, str):
        return lookup
    copy = lookup.__class__.__new__(lookup.__class__)  # its own way of copying is for pickles
    vars(copy).update({name: read_anew(value) for name, value in vars(lookup).items()})
    return copy


def _itself(rows: Any) -> Rows:
    """*rows* without the lazy object around it."""
    if type(rows) is not rows.__class__:  # and by that it is set up
        rows = vars(rows).get("_wrapped", rows)
    return rows  # type: ignore[no-any-return]
