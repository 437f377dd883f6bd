"""
What is in a value, by name: for whoever has to walk through one.

Containers are looked into by index or key, and objects of which Python itself knows how to make another by attribute.
Integrations add their kinds of objects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from .kinds import is_drawn_by_attributes, slots_with_values
from .unchanging import UNCHANGING, is_cached_property

Parts = Iterable[tuple[Any, Any]]
"""Names and what they stand for."""

MayAppear = Callable[[Any, Any], bool]

_by_base: dict[type, Callable[[Any], Parts]] = {}
_may_appear: dict[type, MayAppear] = {}


def add_parts(base: type, parts: Callable[[Any], Parts], may_appear: MayAppear | None = None) -> None:
    """
    The parts of an object of *base* and its subclasses, by attribute, are what *parts* returns.

    Args:
        may_appear: called with an object and the name of a part: whether the object itself adds that part later.
    """
    _by_base[base] = parts
    if may_appear is not None:
        _may_appear[base] = may_appear


def may_appear(value: Any, name: Any) -> bool:
    """Whether *value* itself may add a part called *name* when it is only looked at."""
    return any(_may_appear[base](value, name) for base in type(value).__mro__ if base in _may_appear)


def parts_of(value: Any) -> tuple[Parts, bool] | None:
    """
    Return what is in *value*, and whether the names are attributes (else: indexes and keys); None if nothing is.
    """
    kind = type(value)
    if kind in UNCHANGING:
        return None
    for base in kind.__mro__:
        if base in _by_base:
            return _by_base[base](value), True
    if issubclass(kind, dict):
        return list(value.items()), False
    if issubclass(kind, list | tuple | deque):
        return list(enumerate(value)), False
    if issubclass(kind, set | frozenset):
        return [("", item) for item in value], False
    return (attributes_of(value), True) if is_drawn_by_attributes(kind) else None


def attributes_of(value: Any) -> list[tuple[str, Any]]:
    """The attributes that *value* was given, without what cached properties have kept since."""
    kind = type(value)
    given = [
        (name, item)
        for name, item in getattr(value, "__dict__", {}).items()
        if not is_cached_property(getattr(kind, name, None))
    ]
    return [*given, *slots_with_values(value)]
