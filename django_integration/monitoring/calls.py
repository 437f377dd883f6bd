"""
Calls of cached functions, as people write them and as keys spell them.

    shop.pages.product(42, lang="en")       a call
    shop.pages.product@1(lang='en', pk=42)  the key that such a call has
    shop.pages.product 42 lang=en           words of a command line

Rule 1: arguments are literals, or dates, times, decimals and UUIDs as their `repr` writes them. No other code than the
function itself is run.
"""

from __future__ import annotations

import ast
import asyncio
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from invalidator import CachedFunction, InvalidName

_CALL = re.compile(r"(?P<path>[^\W\d]\w*(?:\.[^\W\d]\w*)+)(?:@[^()]*)?\((?P<arguments>.*)\)", re.DOTALL)
_PATH = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
_WORD = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)

_MAKERS: Mapping[str, Callable[..., Any]] = {
    **{f"datetime.{made.__name__}": made for made in (date, datetime, time, timedelta)},
    "Decimal": Decimal,
    "UUID": UUID,
}


@dataclass(frozen=True, slots=True)
class Call:
    """A cached function with arguments."""

    text: str
    function: CachedFunction[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Under which its result is cached. Raises InvalidName, or TypeError for arguments that do not fit."""
        return self.function.key(*self.args, **self.kwargs)

    def __call__(self) -> Any:
        """Call it, and wait for it if it is a coroutine function."""
        result: Any = self.function(*self.args, **self.kwargs)
        return asyncio.run(_wait(result)) if asyncio.iscoroutine(result) else result


def read(text: str, words: Sequence[str] = ()) -> Call:
    """
    Return the call that *text*, with *words* as arguments, means.

    Raises:
        InvalidName: *text* is no such call; the message says why.
    """
    if match := _CALL.fullmatch(text):
        if words:
            raise InvalidName(f"{text} has its arguments already: leave out {' '.join(words)}")
        args, kwargs = _arguments(text, match["arguments"])
        return Call(text, _function(match["path"]), args, kwargs)
    if not _PATH.fullmatch(text):
        raise InvalidName(f"{text} is no call of a cached function: write shop.pages.product 42")
    args, kwargs = _words(words)
    return Call(" ".join([text, *words]), _function(text), args, kwargs)


def of_key(key: str) -> Call | None:
    """Return the call whose key is *key*, or None: many keys do not name a function and its arguments."""
    try:
        call = read(key)
        return call if call.key == key else None
    except (InvalidName, TypeError):
        return None


async def _wait(result: Any) -> Any:
    return await result


def _function(path: str) -> CachedFunction[..., Any]:
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidName(f"{path} cannot be imported: {error}") from None
    if not isinstance(found, CachedFunction):
        raise InvalidName(f"{path} is {type(found).__name__}, and not a function decorated with cached")
    return found


def _words(words: Sequence[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = [], {}
    for word in words:
        if match := _WORD.fullmatch(word):
            kwargs[match[1]] = _word(match[2])
        else:
            args.append(_word(word))
    return tuple(args), kwargs


def _word(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text  # a word without quotes is a string


def _arguments(text: str, inside: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        return _literals(ast.parse(f"f({inside})", mode="eval").body)
    except (ValueError, SyntaxError, TypeError, ArithmeticError, MemoryError, RecursionError) as error:
        raise InvalidName(f"the arguments of {text} cannot be read: {error}") from None


def _literals(call: ast.expr) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not isinstance(call, ast.Call) or any(word.arg is None for word in call.keywords):
        raise ValueError(f"{ast.unparse(call)} is no call with literals")
    return tuple(map(_literal, call.args)), {str(word.arg): _literal(word.value) for word in call.keywords}


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(map(_literal, node.elts))
    if isinstance(node, ast.Call):
        maker = _MAKERS.get(ast.unparse(node.func))
        if maker is None:
            raise ValueError(f"{ast.unparse(node)} is no literal")
        args, kwargs = _literals(node)
        return maker(*args, **kwargs)
    if ast.unparse(node) == "datetime.timezone.utc":
        return UTC
    return ast.literal_eval(node)
