"""
Templates of keys: `"page:{user}:{path}"`, filled in with the arguments of a call.

Rule 1: a template can be filled in, or is refused where it is written: every name in it is an argument.
Rule 2: two calls of which one text is made are told apart by what each value was, and by how much of the text is its
own: page("1:2", "3"), page("1", "2:3") and page("1:2", 3) are three.
"""

from __future__ import annotations

import difflib
import itertools
import operator
import string
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from .errors import InvalidName

_PLAIN = (str, bytes, bool, int, float, Decimal, datetime, date, time, timedelta, UUID)
_CONVERSIONS: Mapping[str | None, Callable[[Any], Any] | None] = {None: None, "s": str, "r": repr, "a": ascii}


class _Field(NamedTuple):
    """One `{…}`, and the text before it."""

    before: str
    name: str
    """Of the argument."""
    look: Callable[[Any], Any] | None
    """From the argument to the value, if that is not the same."""
    convert: Callable[[Any], Any] | None
    spec: str


class Template:
    """
    One template.

    Args:
        names: of the arguments.
        owner: whose template it is, for messages.

    Raises:
        InvalidName: it cannot be filled in; the message says why.
    """

    def __init__(self, text: str, names: Iterable[str], owner: str) -> None:
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise InvalidName(f"{owner}: the template {text!r} cannot be read: {error}") from None
        names = tuple(names)
        for name in _names_in(text):
            if name not in names:
                raise InvalidName(f"{owner}: {_refusal(text, name, names)}")
        for *_, conversion in parsed:
            if conversion not in _CONVERSIONS:
                raise InvalidName(f"{owner}: the template {text!r} cannot be read: there is no !{conversion}")
        self._fields: list[_Field] = []
        self._end = ""
        for before, path, spec, conversion in parsed:
            self._end += before
            if path is not None:
                self._fields.append(_field(self._end, path, spec or "", conversion))
                self._end = ""

    def fill(self, arguments: Mapping[str, Any]) -> tuple[str, str]:
        """Return the text, and what tells it from an equal text of other *arguments*."""
        text, apart = "", ""
        for before, name, look, convert, spec in self._fields:
            value = argument = arguments[name]
            if look is not None:
                value = look(argument)
                apart += f"{_kind_of(argument)}."
            apart += f"{_kind_of(value)}"
            if convert is not None:
                value = convert(value)
            filled = value if type(value) is str and not spec else format(value, spec and spec.format_map(arguments))
            text += before + filled
            apart += f"{len(filled)},"
        return text + self._end, apart


def _field(before: str, path: str, spec: str, conversion: str | None) -> _Field:
    name = _name(path)
    rest = path[len(name) :]
    return _Field(before, name, _looker(rest) if rest else None, _CONVERSIONS[conversion], spec)


def _looker(rest: str) -> Callable[[Any], Any]:
    if "[" not in rest:
        return operator.attrgetter(rest[1:])
    return lambda argument: string.Formatter().get_field(f"argument{rest}", (), {"argument": argument})[0]


def _name(path: str) -> str:
    return path.partition(".")[0].partition("[")[0]


def _names_in(text: str) -> Iterator[str]:
    for _, path, spec, _ in string.Formatter().parse(text):
        if path is not None:
            yield _name(path)
            yield from _names_in(spec or "")


def check_template(text: str, names: Iterable[str], owner: str) -> str:
    """Return *text*, which `str.format_map` fills in. Raises as `Template` does."""
    Template(text, names, owner)
    return text


def _refusal(text: str, name: str, names: tuple[str, ...]) -> str:
    if not name or name.isdigit():
        return f"the template {text!r} has to name its arguments, as in {{{names[0] if names else 'pk'}}}"
    close = difflib.get_close_matches(name, names, n=1)
    known = f"did you mean {{{close[0]}}}?" if close else f"its arguments are: {', '.join(names) or 'none'}"
    return f"the template {text!r} names {name!r}, which is no argument; {known}"


# Kinds of values: 1 and "1" have one text, and so may the keys of two models' rows.

_numbers = itertools.count()
_kinds: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def _kind_of(value: Any) -> str:
    """Return a text for the type of *value*, in this process; subclasses of plain types are those."""
    kind = value.__class__  # of what a lazy object stands for
    try:
        return _kinds[kind]
    except KeyError:
        plain = None if issubclass(kind, Enum) else next((plain for plain in _PLAIN if issubclass(kind, plain)), None)
        text = f"{plain.__name__}:" if plain is not None else f"{next(_numbers)}:"
        return _kinds.setdefault(kind, text)
    except TypeError:  # a class whose own class cannot be hashed
        return f"{kind.__module__}.{kind.__qualname__}:"
