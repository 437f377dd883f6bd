"""
Plain dicts, lists, sets and tuples around what cannot be changed: for each value a copier of its very shape.

Rule 1: only exact types are plain: a subclass may do anything.
Rule 2: a container that is reached twice, or in a circle, is not plain: its copy would come apart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .unchanging import DEEPEST, UNCHANGING, is_unchanging

Copier = Callable[[Any], Any]


class NotPlainError(Exception):
    """A value has to be copied in another way."""


def copier_of(value: Any) -> Copier | None:
    """
    Return what copies *value* and all of its shape, or None if it cannot be changed.

    Raises:
        NotPlainError: there is something else in it.
    """
    return _copier(value, set(), 0)


def _copier(value: Any, seen: set[int], depth: int) -> Copier | None:
    kind = type(value)
    if kind in UNCHANGING:
        return None
    if kind is dict or kind is list or kind is set:
        if id(value) in seen or depth > DEEPEST:
            raise NotPlainError
        seen.add(id(value))
        if kind is dict:
            return _dict_copier(value, seen, depth + 1)
        if kind is list:
            return _list_copier(value, seen, depth + 1)
        _check_unchanging(value, depth + 1)
        return set.copy
    if kind is tuple:
        return _tuple_copier(value, seen, depth + 1)
    if is_unchanging(value, depth + 1):
        return None
    raise NotPlainError


def _dict_copier(value: dict[Any, Any], seen: set[int], depth: int) -> Copier:
    _check_unchanging(value, depth)
    changing = [
        (key, copier)
        for key, item in value.items()
        if type(item) not in UNCHANGING and (copier := _copier(item, seen, depth)) is not None
    ]
    return partial(_copy_dict, changing) if changing else dict.copy


def _list_copier(value: list[Any], seen: set[int], depth: int) -> Copier:
    copiers = [None if type(item) in UNCHANGING else _copier(item, seen, depth) for item in value]
    one = copiers[0] if copiers else None
    if all(copier is one for copier in copiers):  # such as the rows of a table
        return list.copy if one is None else partial(_copy_list_of, one)
    return partial(_copy_list, [(index, copier) for index, copier in enumerate(copiers) if copier is not None])


def _tuple_copier(value: tuple[Any, ...], seen: set[int], depth: int) -> Copier | None:
    if depth > DEEPEST:
        raise NotPlainError
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
        if type(item) not in UNCHANGING and not is_unchanging(item, depth):
            raise NotPlainError
