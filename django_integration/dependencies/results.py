"""
What in a result would be read later, by whoever gets it from the cache: query sets not yet evaluated, and the like.

Rule 1: what can be evaluated is evaluated inside the load. Left for later, its first reader would fill it for all
others, with rows that are not recorded. Query sets, pages, paginators, lazy objects and template responses are found in
containers of all kinds, in the attributes of rows and of the application's own objects, dataclasses among them, and in
the arguments of a `partial`.
Rule 2: what cannot is refused by a TypeError that says where it is and what to return instead: what can be read only
once, and what asks the database whenever it is used.
Rule 3: deep inside objects of the application's own, which may have good reasons for such attributes, it is warned of.
Rule 4: things are told apart by their types, and a container whose items are all text, numbers and the like costs one
look at the set of their types. Objects of Python's library and of Django are not looked into, unless they are named
here. Translations (`gettext_lazy`) stay lazy: each reader has a language of its own.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import sys
import types
import uuid
import weakref
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MappingView
from typing import Any, TypeAlias, TypeVar, cast

from asgiref.sync import async_to_sync
from django.core import paginator as paginators
from django.db.backends.utils import CursorWrapper
from django.db.models import Model, QuerySet
from django.db.models.base import ModelState
from django.db.models.manager import BaseManager
from django.db.models.query import BaseIterable, RawQuerySet
from django.forms import BaseForm
from django.forms.formsets import BaseFormSet
from django.forms.models import ModelChoiceIterator
from django.http import StreamingHttpResponse
from django.template.context import BaseContext
from django.template.response import SimpleTemplateResponse
from django.utils.functional import LazyObject, Promise, empty
from django.utils.safestring import SafeString

from invalidator import Loaded

from .recorder import warn_once

MAX_LOOKED_INTO = 200_000
"""Objects and containers of one result that are looked into; this takes half a second."""

T = TypeVar("T")

Evaluate: TypeAlias = Callable[[], object]
Path: TypeAlias = "tuple[Any, ...]"
"""The way to a thing inside of a result: the way to what it is in, and an attribute (".rows") or a key."""


class ReadLater(TypeError):
    """A cached function returns something that would be read later, and cannot be read now."""


def unread(result: Any) -> Iterator[Evaluate]:
    """
    Yield a function for each thing in *result* that has to be evaluated; to be called before the next one is asked for.

    Raises:
        ReadLater: something in it can neither be evaluated nor be left for later.
    """
    if issubclass(type(result), Loaded):  # `isinstance` would evaluate a lazy object here and now
        result = result.value
    if (look := _look_of(type(result))) is None or (look is _into_row and not _row_holds_more(result)):
        return iter(())  # the usual cases, in which there is nothing to look for
    return _Walk().through(result)


class _Walk:
    """One way through a result."""

    def __init__(self) -> None:
        self._ahead: list[tuple[Any, Path, bool]] = []
        self._seen: dict[int, Any] = {}
        self._evaluated: set[int] = set()
        self._paginators: list[tuple[Any, Path]] = []
        self.paginators_of_pages: set[int] = set()
        """By `id`: of these the page that was asked for is enough."""

    def through(self, result: Any) -> Iterator[Evaluate]:
        """See `unread`."""
        self.add(result, (), "", is_open=True)
        while self._ahead or self._paginators:
            if not self._ahead:
                self._add_paginator()
                continue
            value, path, is_open = self._ahead.pop()
            look = _look_of(type(value))
            assert look is not None
            evaluate = look(self, value, path, is_open)
            if evaluate is not None and id(value) not in self._evaluated:
                self._evaluated.add(id(value))
                yield evaluate
                self._ahead.append((value, path, is_open))
            if len(self._seen) > MAX_LOOKED_INTO:
                _warn("so many things that not all of them were looked into", path)
                return

    def add(self, value: Any, path: Path, key: Any, *, is_open: bool) -> None:
        """
        Look into *value* later, if there may be something in it.

        Args:
            path, key: the way to what it is in, and where it is there.
            is_open: it is a result, or an item of a container or dataclass in it; not hidden in an object.
        """
        look = _look_of(type(value))
        if look is None or id(value) in self._seen:
            return
        if look is _into_row and not _row_holds_more(value):
            return
        self._seen[id(value)] = value
        self._ahead.append((value, (path, key), is_open))

    def add_all(self, items: Iterable[tuple[Any, Any]], path: Path, *, is_open: bool) -> None:
        """Look into the second of each pair; the first is its key."""
        for key, item in items:
            if type(item) not in _PLAIN:
                self.add(item, path, key, is_open=is_open)

    def add_paginator(self, paginator: Any, path: Path) -> None:
        """Look into *paginator* last, when it is known whether it is that of a page."""
        self._paginators.append((paginator, path))

    def _add_paginator(self) -> None:
        paginator, path = self._paginators.pop()
        if id(paginator) not in self.paginators_of_pages:
            self.add(paginator.object_list, path, ".object_list", is_open=True)


Look: TypeAlias = "Callable[[_Walk, Any, Path, bool], Evaluate | None]"
"""Adds what is inside of a thing, and returns what evaluates the thing itself, if it was not."""


def _by_type(function: Callable[[type], T]) -> Callable[[type], T]:
    """Answer once for each type, and not for ever: some are made while the process runs."""
    return cast("Callable[[type], T]", functools.lru_cache(maxsize=4096)(function))


# Containers, and objects with attributes.


def _into_items(walk: _Walk, value: Any, path: Path, is_open: bool) -> None:
    # Of the type itself: an `__iter__` of somebody's own might read from the database.
    items = list(next((base.__iter__(value) for base in _SEQUENCES if issubclass(type(value), base)), value))
    if not _PLAIN.issuperset(map(type, items)):
        walk.add_all(enumerate(items), path, is_open=is_open)


def _into_dict(walk: _Walk, value: Any, path: Path, is_open: bool) -> None:
    if not _PLAIN.issuperset(map(type, dict.values(value))):
        walk.add_all(dict.items(value), path, is_open=is_open)
    if not _PLAIN.issuperset(map(type, dict.keys(value))):
        walk.add_all(((key, key) for key in dict.keys(value)), path, is_open=is_open)


def _into_attributes(walk: _Walk, value: Any, path: Path, is_open: bool) -> None:
    is_open = is_open and dataclasses.is_dataclass(type(value))
    walk.add_all(_attributes(value), path, is_open=is_open)


def _into_items_and_attributes(walk: _Walk, value: Any, path: Path, is_open: bool) -> None:
    (_into_dict if issubclass(type(value), dict) else _into_items)(walk, value, path, is_open)
    walk.add_all(_attributes(value), path, is_open=False)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that are stored in *value*, whose names begin with a dot here."""
    if type(value).__dictoffset__:
        for name, item in object.__getattribute__(value, "__dict__").items():
            yield f".{name}", item
    for slot in _slots(type(value)):
        try:
            item = slot.__get__(value)
        except AttributeError:
            continue
        yield f".{slot.__name__}", item


@_by_type
def _slots(kind: type) -> tuple[Any, ...]:
    return tuple(
        found
        for base in kind.__mro__
        if "__slots__" in base.__dict__
        for found in base.__dict__.values()
        if isinstance(found, types.MemberDescriptorType)
    )


def _into_partial(walk: _Walk, value: Any, path: Path, is_open: bool) -> None:
    walk.add_all(enumerate(value.args), (path, ".args"), is_open=is_open)
    walk.add_all(value.keywords.items(), (path, ".keywords"), is_open=is_open)
    walk.add_all([(".func", value.func)], path, is_open=is_open)


def _into_row(walk: _Walk, value: Any, path: Path, is_open: bool) -> None:
    state = value.__dict__
    for name, item in (*state.items(), *state["_state"].fields_cache.items()):
        walk.add(item, path, f".{name}", is_open=is_open)


def _row_holds_more(row: Any) -> bool:
    """Whether there is more in *row*, and in the rows that it has followed, than columns of the usual kinds."""
    state = row.__dict__
    if not _PLAIN.issuperset(map(type, state.values())):
        return True
    return any(not _is_plain_row(followed) for followed in state["_state"].fields_cache.values())


def _is_plain_row(followed: Any) -> bool:
    """Whether *followed* is None, or a row that has columns of the usual kinds and has followed nothing."""
    if followed is None or not issubclass(type(followed), Model):
        return followed is None
    state = followed.__dict__
    return _PLAIN.issuperset(map(type, state.values())) and not state["_state"].fields_cache


# What is evaluated.


def _into_query_set(walk: _Walk, value: Any, path: Path, is_open: bool) -> Evaluate | None:
    # There is no other way to find out without a query.
    rows = getattr(value, "_result_cache", None)
    if rows is None:
        return value._fetch_all  # type: ignore[no-any-return] # noqa: SLF001 - a `len` of its own might count only
    walk.add(rows, path, "", is_open=is_open)
    return None


def _into_page(walk: _Walk, value: Any, path: Path, is_open: bool) -> Evaluate | None:
    paginator = value.paginator
    walk.paginators_of_pages.add(id(paginator))
    walk.add_all((item for item in _attributes(value) if item[0] != ".paginator"), path, is_open=is_open)
    return _count_of(paginator)


def _into_paginator(walk: _Walk, value: Any, path: Path, is_open: bool) -> Evaluate | None:
    walk.add_paginator(value, path)
    return _count_of(value)


def _count_of(paginator: Any) -> Evaluate:
    if hasattr(paginator, "anum_pages"):
        return async_to_sync(paginator.anum_pages)
    return lambda: (paginator.count, paginator.num_pages)


def _into_lazy_object(walk: _Walk, value: Any, path: Path, is_open: bool) -> Evaluate | None:
    wrapped = value._wrapped  # noqa: SLF001 - anything else would set it up here and now
    if wrapped is empty:
        return value._setup  # type: ignore[no-any-return] # noqa: SLF001
    walk.add(wrapped, path, "", is_open=is_open)
    return None


def _into_response(walk: _Walk, value: Any, path: Path, is_open: bool) -> Evaluate | None:
    if value.is_rendered:
        return None
    if _is_of(type(value), "rest_framework.response", "Response"):
        _refuse(value, path, is_open, "a view has to render it", "return its data")
        return None
    return value.render  # type: ignore[no-any-return]


# What is refused.


def _refusing(why: str, remedy: str) -> Look:
    return lambda walk, value, path, is_open: _refuse(value, path, is_open, why, remedy)


def _refuse(value: Any, path: Path, is_open: bool, why: str, remedy: str) -> None:
    what = _with_article(type(value).__name__)
    if not is_open:
        _warn(f"{what}: {why}", path)
        return
    where = f" (at {written})" if (written := _written(path)) else ""
    raise ReadLater(f"a cached function must not return {what}{where}: {why}; {remedy}")


def _into_serializer(walk: _Walk, value: Any, path: Path, is_open: bool) -> None:
    if not hasattr(value, "_data"):
        _refuse(value, path, is_open, "it reads its rows when its data are asked for", "return its data")


def _into_form(walk: _Walk, value: Any, path: Path, is_open: bool) -> None:
    if any(hasattr(field, "queryset") for field in value.fields.values()):
        _refuse(value, path, is_open, "it reads its choices when it is rendered", "return what it renders: str(form)")


def _into_form_set(walk: _Walk, value: Any, path: Path, is_open: bool) -> None:
    if hasattr(value, "queryset"):
        _refuse(value, path, is_open, "it reads its rows when it is rendered", "return what it renders: str(formset)")


_ONCE = _refusing("it can be read only once", "return a list of it")
_ANEW = _refusing("it asks the database whenever it is used", "return a list of its rows")
_WEAK = _refusing("what it refers to may be gone for the next reader", "return that itself")
_AWAITED = _refusing("it can be awaited only once", "await it, and return the result")
_SENT = _refusing("it can be sent only once", "return an HttpResponse")


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def _warn(what: str, path: Path) -> None:
    warn_once(f"inside of a cached value, at {_written(path) or 'its top'}, there is {what}")


def _written(path: Path) -> str:
    parts = []
    while path:
        path, last = path
        is_attribute = isinstance(last, str) and last.startswith(".")
        if last != "":
            parts.append(last if is_attribute else f"[{_short(last)}]")
    return "".join(reversed(parts))


def _short(key: Any) -> str:
    return repr(key)[:40] if isinstance(key, str | int | float | bytes | tuple) else type(key).__name__


# Which is which.

_PLAIN: frozenset[type] = frozenset(
    {
        *(str, int, float, complex, bool, bytes, bytearray, memoryview, range, slice, type, type(None), type(...)),
        *(decimal.Decimal, uuid.UUID, dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone, SafeString),
        *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, ModelState),
    }
)
"""Types of which nothing is read later. Others are found out by their bases, and remembered for a while."""

_LOOKS: tuple[tuple[tuple[type, ...], Look | None], ...] = (
    ((Model,), _into_row),
    ((QuerySet, RawQuerySet), _into_query_set),
    ((Promise, str, bytes, int, float, type, enum.Enum), None),
    ((LazyObject,), _into_lazy_object),
    ((paginators.Page, *filter(None, [getattr(paginators, "AsyncPage", None)])), _into_page),
    ((paginators.Paginator, *filter(None, [getattr(paginators, "AsyncPaginator", None)])), _into_paginator),
    ((SimpleTemplateResponse,), _into_response),
    ((StreamingHttpResponse,), _SENT),
    ((BaseManager, BaseIterable, ModelChoiceIterator), _ANEW),
    ((weakref.ref, *weakref.ProxyTypes, weakref.WeakSet, weakref.WeakKeyDictionary), _WEAK),
    ((weakref.WeakValueDictionary,), _WEAK),
    ((CursorWrapper, Iterator, AsyncIterator), _ONCE),
    ((Awaitable, asyncio.Future), _AWAITED),
    ((functools.partial,), _into_partial),
    ((BaseForm,), _into_form),
    ((BaseFormSet,), _into_form_set),
)
_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset, collections.deque)
_ITEMS = (*_SEQUENCES, dict, MappingView)
_WITH_ATTRIBUTES = (
    *(types.SimpleNamespace, Namespace, collections.ChainMap, collections.UserDict, collections.UserList),
    BaseContext,
)
"""Those of Python and Django that are looked into, as objects of the application's own are."""
_NOT_LOOKED_INTO = sys.stdlib_module_names | {"django", "rest_framework", "asgiref"}


@_by_type
def _look_of(kind: type) -> Look | None:
    """What looks into things of this *kind*; None if there is nothing to look for."""
    if kind in _PLAIN:
        return None
    for bases, look in _LOOKS:
        if issubclass(kind, bases):
            return look
    if issubclass(kind, types.MappingProxyType):
        return lambda walk, value, path, is_open: _into_dict(walk, dict(value), path, is_open)
    if _is_of(kind, "rest_framework.serializers", "BaseSerializer"):
        return _into_serializer
    is_own = kind.__module__.partition(".")[0] not in _NOT_LOOKED_INTO
    if issubclass(kind, _ITEMS):
        if is_own:
            return _into_items_and_attributes
        return _into_dict if issubclass(kind, dict) else _into_items
    if is_own or issubclass(kind, _WITH_ATTRIBUTES):
        return _into_attributes
    return None


def _is_of(kind: type, module: str, name: str) -> bool:
    """Whether *kind* is the class of that name in a package that may not be installed, or inherits from it."""
    return any(base.__module__ == module and base.__name__ == name for base in kind.__mro__)
