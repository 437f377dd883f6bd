"""
From a call of a function to its key: names, templates and plain values.

Rule 1: a key is built from values whose text is the same in every process. Anything else (an object whose repr holds
an address) is refused, with a repair in the message, because no other server could invalidate it.
Rule 2: arguments are bound as the function itself would bind them, so that f(1), f(id=1) and a default of 1 are one
key.
Rule 3: two functions never share a key, nor do two calls that a template spells alike: each has a variant of its own
(`variants.py`), and the text that people write is the name of them all.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, cast
from uuid import UUID

from .errors import InvalidName
from .names import Tag, check_key
from .templates import Template, check_template
from .variants import variant_of

log = logging.getLogger("invalidator.keys")

KeySpec = str | Callable[..., str]
TagsSpec = Iterable[str | Tag] | Callable[..., Iterable[str | Tag]]
MakeKey = Callable[[tuple[Any, ...], dict[str, Any]], str]

# Subclasses before their bases; each with the text of the type itself, since a subclass may show two values as one.
PLAIN: tuple[Any, ...] = (
    Enum,
    str,
    bytes,
    bool,
    int,
    float,
    type(None),
    Decimal,
    datetime,
    date,
    time,
    timedelta,
    UUID,
)

_LONGEST_PLAIN_KEY = 200
"""Bytes. Longer ones are replaced by their hash, with room left for prefixes."""

Describe = Callable[[Any], "str | None"]
"""Gives a value that is not plain a text that is the same in every process, or None if it knows none."""


def describe_nothing(value: object) -> None:
    """A `Describe` that knows nothing."""


# Functions and their names.


def key_maker(
    function: Callable[..., Any], key: KeySpec | None, bind: Binder, version: int | str, describe: Describe
) -> MakeKey:
    """
    Return what makes the key of a call: its name, or a variant of that.

    Raises:
        InvalidName: *key* is a template that cannot be filled in.
    """
    name = name_of_function(function)
    if key is None:
        prefix = f"{name}@{version}"
        own = _own_parts(prefix)
        if not own:
            return lambda args, kwargs: plain_key(name, bind(args, kwargs), version, describe)
        return lambda args, kwargs: variant_of(plain_key(name, bind(args, kwargs), version, describe), *own)
    number = _new_number()
    if callable(key):
        return lambda args, kwargs: variant_of(check_key(key(*args, **kwargs)), number)
    template = Template(key, bind.parameters, name)

    def make(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        text, apart = template.fill(bind(args, kwargs))
        return variant_of(text, f"{number}:{apart}")

    return make


def name_of_function(function: Any) -> str:
    """Return module and qualified name of *function*; of a partial or a callable object, of what it calls."""
    while isinstance(function, functools.partial):
        function = function.func
    kind = type(function)
    module = getattr(function, "__module__", None) or kind.__module__
    return f"{module}.{getattr(function, '__qualname__', kind.__qualname__)}"


MOST_NAMES = 100_000
"""Of functions, which are remembered so that the next one of a name has variants; beyond these, each has."""
AGAIN_AND_AGAIN = 1_000
"""So many functions of one name are warned of: they find nothing of what the others have cached."""

_numbers = itertools.count(1)
_decorated: dict[str, itertools.count[int]] = {}
"""By the text before the arguments in their keys, what counts the functions that were decorated."""


def _new_number() -> str:
    return str(next(_numbers))


def _own_parts(prefix: str) -> tuple[str, ...]:
    """
    What tells a function from others of one *prefix*: nothing for the first, a number for those that a factory makes,
    for lambdas, for the function of a module that is loaded again.
    """
    if prefix not in _decorated and len(_decorated) >= MOST_NAMES:
        return (_new_number(),)
    count = next(_decorated.setdefault(prefix, itertools.count(1)))  # two threads may decorate at once
    if count == AGAIN_AND_AGAIN:
        log.warning(
            "%s was decorated %d times: each of these functions has values of its own. Decorate one function, and give "
            "it what it needs as arguments.",
            prefix,
            count,
        )
    return () if count == 1 else (_new_number(),)


class Binder:
    """Names the arguments of a call: `inspect.Signature.bind` where it must, a dictionary where it can."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature = inspect.signature(function)
        self.parameters = tuple(self._signature.parameters)
        """Their names."""
        parameters = self._signature.parameters.values()
        self._names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        self._is_plain = len(self._names) == len(self._signature.parameters)
        self._defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
        if self._is_plain and not kwargs and len(args) + len(self._defaults) >= len(self._names) >= len(args):
            return {**self._defaults, **dict(zip(self._names, args, strict=False))}
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments


def tags_maker(
    tags: TagsSpec, bind: Binder, owner: str
) -> Callable[[tuple[Any, ...], dict[str, Any]], Iterable[str | Tag]]:
    """Return what makes the tags of a call of *owner* from its arguments. Raises InvalidName as `Template` does."""
    if callable(tags):
        return lambda args, kwargs: tags(*args, **kwargs)
    templates = tuple(str(tag) for tag in tags)
    if not any("{" in template for template in templates):
        return lambda args, kwargs: templates
    for template in templates:
        check_template(template, bind.parameters, owner)
    return lambda args, kwargs: [template.format_map(bind(args, kwargs)) for template in templates]


def plain_key(
    prefix: str, arguments: Mapping[str, Any], version: int | str = 1, describe: Describe = describe_nothing
) -> str:
    """
    Return the key of named *arguments*, such as "shop.pages.product@1(lang='en', pk=42)"; a long one is hashed.

    Raises:
        InvalidName: an argument has no text that is the same in every process; the message names it.
    """
    pairs = [f"{name}={_plain_text(value, prefix, name, describe)}" for name, value in sorted(arguments.items())]
    key = f"{prefix}@{version}({', '.join(pairs)})"
    if len(key if key.isascii() else key.encode()) <= _LONGEST_PLAIN_KEY:
        return key
    return f"{prefix[:_LONGEST_PLAIN_KEY]}@{version}#{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"


def _plain_text(value: Any, prefix: str, name: str, describe: Describe) -> str:
    if isinstance(value, tuple):
        return f"({', '.join([_plain_text(item, prefix, name, describe) for item in value])})"
    for plain in PLAIN:
        if isinstance(value, plain):
            text = cast(str, plain.__repr__(value))
            if plain is Enum:  # whose text lacks the module
                text = f"{type(value).__module__}.{type(value).__qualname__}{text}"
            # Which letters are escaped depends on the Unicode that a Python knows; so all are that are not ASCII.
            return text if text.isascii() else text.encode("ascii", "backslashreplace").decode()
    try:
        described = describe(value)
    except InvalidName as error:
        raise InvalidName(f"{prefix}: cannot make a key from {name}: {error}") from None
    if described is not None:
        return described
    raise InvalidName(
        f"{prefix}: cannot make a key from {name}={value!r}; give cached(key=…) a template such as "
        f'"{prefix.rpartition(".")[2]}:{{{name}.pk}}" or a function of the arguments'
    )
