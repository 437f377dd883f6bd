"""
What nobody can change, and is handed out as it is.

Rule 1: only exact types are recognised: a subclass may do anything.
Rule 2: functions, classes, modules and patterns count: they are code, of which there is one for all.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Generic, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

UNCHANGING: set[type] = {
    *(object, str, bytes, int, float, complex, bool, type(None), type(...), type(NotImplemented)),
    *(date, timedelta, Decimal, Fraction, UUID, range, timezone, ZoneInfo),
    *(type, FunctionType, BuiltinFunctionType, ModuleType, re.Pattern),
}
"""By exact type."""

DEEPEST = 50
"""Values in values that are looked into, where the look is recursive."""

_cached_properties: tuple[type, ...] = (functools.cached_property,)


def add_unchanging(*kinds: type) -> None:
    """Hand out objects of exactly these types as they are."""
    UNCHANGING.update(kinds)


def add_cached_property(kind: type) -> None:
    """*kind* is a descriptor that writes what it has computed into its object, as `functools.cached_property` does."""
    global _cached_properties  # noqa: PLW0603 - one list for the process
    _cached_properties = (*_cached_properties, kind)
    frozen_fields.cache_clear()


def is_cached_property(descriptor: object) -> bool:
    """Whether *descriptor* writes what it has computed into its object."""
    return isinstance(descriptor, _cached_properties)


def is_unchanging(value: Any, depth: int = 0) -> bool:
    """Whether nothing in *value* can be changed, though its type alone may not say so."""
    kind = type(value)
    if kind in UNCHANGING:
        return True
    if depth > DEEPEST:
        return False
    if kind is datetime or kind is time:
        return value.tzinfo is None or type(value.tzinfo) in UNCHANGING
    if issubclass(kind, Enum):
        return True  # there is one of each, and every copy would be the same object
    name: Any = kind
    if kind is tuple or kind is frozenset or is_named_tuple(name):
        return all(is_unchanging(item, depth + 1) for item in value)
    if issubclass(kind, PurePath):
        return kind.__module__.partition(".")[0] == "pathlib"
    names = frozen_fields(name)
    if names is None:
        return False
    held = [getattr(value, name, None) for name in names]
    held += [item for name, item in getattr(value, "__dict__", {}).items() if name not in names]
    return all(is_unchanging(item, depth + 1) for item in held)


@functools.lru_cache(maxsize=1024)
def is_named_tuple(kind: Hashable) -> bool:
    """Instances without a `__dict__` hold their items and nothing else."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields") and kind.__dictoffset__ == 0


@functools.lru_cache(maxsize=1024)
def frozen_fields(kind: Hashable) -> tuple[str, ...] | None:
    """The fields of a frozen dataclass that can hold nothing else; None for other types."""
    assert isinstance(kind, type)
    for base in kind.__mro__:
        if base in (object, Generic, Protocol):
            continue
        parameters = base.__dict__.get("__dataclass_params__")
        if parameters is None or not parameters.frozen:
            return None
        # These write into an instance that refuses everybody else.
        if any(map(is_cached_property, vars(base).values())):
            return None
    names: dict[str, Any] = getattr(kind, "__dataclass_fields__", {})
    return tuple(names) if names else None
