"""
What a caller changes must not change the cache: how the backend keeps a value, and hands out copies of it.

Looked at once, when it is stored, a value is one of three:

- it cannot be changed (text, numbers, dates, enum members, tuples and frozen dataclasses of such …): kept as it is,
  and handed out as it is;
- it is built of plain dicts, lists, sets and tuples around such: a copier is made for its very shape, which copies each
  container once, at the speed of `dict.copy`;
- anything else (model instances, querysets, responses): as `OPTIONS["COPY"]` says. "pickle", the default, keeps bytes
  and loads them at each read, which is what Django's own backends do, so that a queryset is evaluated when it is
  stored. "deep" keeps an object and copies it with `copy.deepcopy` at each read: for what cannot be pickled.

"none" keeps and hands out the very object, whatever it is: the application must never change what it stored or got.

Rule 1: only exact types are recognised: a subclass may do anything.
Rule 2: a container that is reached twice, or in a circle, is not plain: its copy would come apart.
Rule 3: what is kept is itself a copy: the caller may go on changing the value that it stored.
"""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable, Hashable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from pathlib import PurePath
from typing import Any, Generic, Literal, Protocol, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import QuerySet
from django.utils.functional import cached_property
from django.utils.safestring import SafeString

Copy = Literal["pickle", "deep", "none"]
COPIES: tuple[Copy, ...] = get_args(Copy)

Copier = Callable[[Any], Any]

_UNCHANGING = frozenset(
    {
        *(str, SafeString, bytes, int, float, complex, bool, type(None), type(...), type(NotImplemented)),
        *(date, timedelta, Decimal, Fraction, UUID, range, timezone, ZoneInfo),
    }
)
_PLAIN_CONTAINERS = frozenset({dict, list, set, tuple, frozenset})
_DEEPEST = 50
"""Containers in containers; deeper ones are left to pickle, which does not recurse in Python."""


class Kept:
    """A value of which readers get copies."""

    __slots__ = ("copy", "value")

    def __init__(self, copy: Copier, value: Any) -> None:
        self.copy = copy
        self.value = value


class _NotPlainError(Exception):
    """A value has to be copied in another way."""


def keep(value: Any, how: Copy = "pickle") -> Any:
    """
    Return what to store for *value*: itself, or a `Kept`.

    Raises:
        Exception: whatever pickling or copying *value* raises.
    """
    if type(value) in _UNCHANGING or how == "none":
        return value
    try:
        copier = _copier(value, set(), 0)
    except _NotPlainError:
        if how == "deep" and not _is_queryset(value):
            return Kept(copy.deepcopy, copy.deepcopy(value))
        return Kept(pickle.loads, pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    return value if copier is None else Kept(copier, copier(value))


def may_do_io(value: Any) -> bool:
    """
    Whether `keep` of *value* may ask the database, as that of a query set or a lazy object does: whether there is
    anything in it but text, numbers and the like, and plain containers of them.
    """
    # By type alone: `isinstance` asks a lazy object for its class, and that sets it up.
    ahead, seen = [value], set[int]()
    while ahead:
        at = ahead.pop()
        kind = type(at)
        if kind in _UNCHANGING or kind is datetime or kind is time or issubclass(kind, Enum):
            continue
        if kind not in _PLAIN_CONTAINERS:
            return True
        if id(at) not in seen:
            seen.add(id(at))
            ahead += at
            if kind is dict:
                ahead += at.values()
    return False


def hand_out(kept: Any) -> Any:
    """Return a value for a caller to keep."""
    return kept.copy(kept.value) if type(kept) is Kept else kept


def _is_queryset(value: Any) -> bool:
    """A deep copy of a queryset forgets its rows: each reader would ask the database for them."""
    return isinstance(value, QuerySet)


def _copier(value: Any, seen: set[int], depth: int) -> Copier | None:
    """Return what copies *value* and all of its shape, or None if it cannot be changed."""
    kind = type(value)
    if kind in _UNCHANGING:
        return None
    if kind is dict or kind is list or kind is set:
        if id(value) in seen or depth > _DEEPEST:
            raise _NotPlainError
        seen.add(id(value))
        if kind is dict:
            return _dict_copier(value, seen, depth + 1)
        if kind is list:
            return _list_copier(value, seen, depth + 1)
        _check_unchanging(value, depth + 1)
        return set.copy
    if kind is tuple:
        return _tuple_copier(value, seen, depth + 1)
    if _cannot_change(value, depth + 1):
        return None
    raise _NotPlainError


def _dict_copier(value: dict[Any, Any], seen: set[int], depth: int) -> Copier:
    _check_unchanging(value, depth)
    changing = [
        (key, copier)
        for key, item in value.items()
        if type(item) not in _UNCHANGING and (copier := _copier(item, seen, depth)) is not None
    ]
    return partial(_copy_dict, changing) if changing else dict.copy


def _list_copier(value: list[Any], seen: set[int], depth: int) -> Copier:
    copiers = [None if type(item) in _UNCHANGING else _copier(item, seen, depth) for item in value]
    one = copiers[0] if copiers else None
    if all(copier is one for copier in copiers):  # such as the rows of a table
        return list.copy if one is None else partial(_copy_list_of, one)
    return partial(_copy_list, [(index, copier) for index, copier in enumerate(copiers) if copier is not None])


def _tuple_copier(value: tuple[Any, ...], seen: set[int], depth: int) -> Copier | None:
    if depth > _DEEPEST:
        raise _NotPlainError
    copiers = [_copier(item, seen, depth) for item in value]
    changing = [(index, copier) for index, copier in enumerate(copiers) if copier is not None]
    return partial(_copy_tuple, changing) if changing else None


def _copy_dict(changing: list[tuple[Any, Copier]], value: dict[Any, Any]) -> dict[Any, Any]:
    copied = value.copy()
    for key, copier in changing:
        copied[key] = copier(value[key])
    return copied


def _copy_list_of(copier: Copier, value: list[Any]) -> list[Any]:
    return list(map(copier, value))


def _copy_list(changing: list[tuple[int, Copier]], value: list[Any]) -> list[Any]:
    copied = value.copy()
    for index, copier in changing:
        copied[index] = copier(value[index])
    return copied


def _copy_tuple(changing: list[tuple[int, Copier]], value: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_copy_list(changing, list(value)))


def _check_unchanging(items: Any, depth: int) -> None:
    for item in items:
        if type(item) not in _UNCHANGING and not _cannot_change(item, depth):
            raise _NotPlainError


def _cannot_change(value: Any, depth: int) -> bool:
    """Whether nothing in *value* can be changed, though its type alone does not say so."""
    kind = type(value)
    if kind in _UNCHANGING:
        return True
    if depth > _DEEPEST:
        return False
    if kind is datetime or kind is time:
        return value.tzinfo is None or type(value.tzinfo) in _UNCHANGING
    if isinstance(value, Enum):
        return True  # there is one of each, and every copy would be the same object
    name: Any = kind
    if kind is tuple or kind is frozenset or _is_named_tuple(name):
        return all(_cannot_change(item, depth + 1) for item in value)
    if isinstance(value, PurePath):
        return kind.__module__.partition(".")[0] == "pathlib"
    names = _frozen_fields(name)
    if names is None:
        return False
    held = [getattr(value, name, None) for name in names]
    held += [item for name, item in getattr(value, "__dict__", {}).items() if name not in names]
    return all(_cannot_change(item, depth + 1) for item in held)


@functools.lru_cache(maxsize=1024)
def _is_named_tuple(kind: Hashable) -> bool:
    """Instances without a `__dict__` hold their items and nothing else."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields") and kind.__dictoffset__ == 0


@functools.lru_cache(maxsize=1024)
def _frozen_fields(kind: Hashable) -> tuple[str, ...] | None:
    """The fields of a frozen dataclass that can hold nothing else; None for other types."""
    assert isinstance(kind, type)
    for base in kind.__mro__:
        if base in (object, Generic, Protocol):
            continue
        parameters = base.__dict__.get("__dataclass_params__")
        if parameters is None or not parameters.frozen:
            return None
        # These write into an instance that refuses everybody else.
        if any(isinstance(item, functools.cached_property | cached_property) for item in vars(base).values()):
            return None
    names: dict[str, Any] = getattr(kind, "__dataclass_fields__", {})
    return tuple(names) if names else None
