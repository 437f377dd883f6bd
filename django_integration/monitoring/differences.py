"""
Whether two values look the same to a reader: deeper than `==`, which takes two rows with one primary key for equal.

Rule 1: rows, query sets, containers, dataclasses and responses are compared by what is in them; a field of a dataclass
that does not compare (`field(compare=False)`) does not count.
Rule 2: a value with an equality of its own is asked; one without is compared by its attributes.
Rule 3: what cannot be compared is different.
"""

from __future__ import annotations

import dataclasses
import functools
import pickle
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.db.models import Model, QuerySet
from django.http import HttpResponse
from django.utils.functional import cached_property

from invalidator.extending import hand_out

_DEEPEST = 100
"""Values in values; what is deeper is left to `==`."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class Difference(NamedTuple):
    """
    The first difference that was found.

    Args:
        where: such as `['prices'][0].amount`; "" for the value itself.
        was, is_now: the two, shortened. They may be personal data: think before you log them.
    """

    where: str
    was: str
    is_now: str

    def as_dict(self, *, with_values: bool) -> dict[str, str]:
        """Ready for JSON."""
        return {"where": self.where, "was": self.was, "is_now": self.is_now} if with_values else {"where": self.where}

    def __str__(self) -> str:
        return f"{self.where + ': ' if self.where else ''}{self.was} → {self.is_now}"


def find(old: Any, new: Any) -> Difference | None:
    """Return the first difference of two values, None if they are the same."""
    return _Comparison().find(hand_out(old), hand_out(new), "", 0)


def short(value: Any) -> str:
    """Return *value* as a text for people: not long, and never an error."""
    try:
        return _short.repr(value)
    except Exception:  # noqa: BLE001 - a broken __repr__
        return f"<{type(value).__name__}>"


class _Comparison:
    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def find(self, old: Any, new: Any, where: str, depth: int) -> Difference | None:
        if old is new or (pair := (id(old), id(new))) in self._seen:
            return None
        if depth > _DEEPEST:
            return None if _equal(old, new) else Difference(where, short(old), short(new))
        self._seen.add(pair)
        if isinstance(old, QuerySet) and isinstance(new, QuerySet):
            old, new = list(old), list(new)
        parts = _parts(old, new)
        if parts is None:
            same = _equal(old, new) if _has_own_equality(old) else _same_bytes(old, new)
            return None if same else Difference(where, short(old), short(new))
        old_parts, new_parts, dot = parts
        for name in [*old_parts, *(name for name in new_parts if name not in old_parts)]:
            inside = f"{where}.{name}" if dot else f"{where}[{short(name)}]"
            if name not in new_parts:
                return Difference(inside, short(old_parts[name]), "(nothing)")
            if name not in old_parts:
                return Difference(inside, "(nothing)", short(new_parts[name]))
            if difference := self.find(old_parts[name], new_parts[name], inside, depth + 1):
                return difference
        return None


Parts = tuple[Mapping[Any, Any], Mapping[Any, Any], str]


def _parts(old: Any, new: Any) -> Parts | None:
    """What is in them, by name, and how a name is joined; None if they are to be compared as a whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old, new, ""
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return dict(enumerate(old)), dict(enumerate(new)), ""
    if isinstance(old, Model) and isinstance(new, Model) and old._meta.concrete_model is new._meta.concrete_model:
        return _of_rows(old, new)
    if type(old) is not type(new):
        return None
    if isinstance(old, HttpResponse):
        return _of_response(old), _of_response(new), "."
    if isinstance(old, type):
        return None
    if dataclasses.is_dataclass(old):
        names = [field.name for field in dataclasses.fields(old) if field.compare]
        return {name: getattr(old, name) for name in names}, {name: getattr(new, name) for name in names}, "."
    if not _has_own_equality(old) and hasattr(old, "__dict__"):
        return _attributes(old), _attributes(new), "."
    return None


def _of_rows(old: Model, new: Model) -> Parts:
    """What both have: a row goes on to load deferred columns and related rows while its readers ask for them."""
    olds, news = _of_row(old), _of_row(new)
    names = olds.keys() & news.keys()
    return {name: olds[name] for name in olds if name in names}, {name: news[name] for name in names}, "."


def _of_row(row: Model) -> dict[str, Any]:
    """Columns and annotations, and the related rows that came with it."""
    found = _attributes(row)
    found.pop("_state")
    found.update(row._state.fields_cache)
    for name, rows in found.pop("_prefetched_objects_cache", {}).items():
        found[name] = list(rows)
    return found


def _of_response(response: HttpResponse) -> dict[str, Any]:
    return {"status_code": response.status_code, "content": response.content, "headers": dict(response.items())}


def _attributes(value: object) -> dict[str, Any]:
    """Those that it was given; not what a `cached_property` has kept since."""
    kind = type(value)
    lazy = (functools.cached_property, cached_property)
    return {name: item for name, item in vars(value).items() if not isinstance(getattr(kind, name, None), lazy)}


def _has_own_equality(value: object) -> bool:
    return type(value).__eq__ is not object.__eq__


def _equal(old: Any, new: Any) -> bool:
    try:
        # NaN is not equal to itself, and no change.
        return bool(old == new) or bool(old != old and new != new)  # noqa: PLR0124
    except Exception:  # noqa: BLE001 - arrays, and whatever else answers with more than yes or no
        return _same_bytes(old, new)


def _same_bytes(old: Any, new: Any) -> bool:
    try:
        return pickle.dumps(old) == pickle.dumps(new)
    except Exception:  # noqa: BLE001
        return False
