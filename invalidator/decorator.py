"""
`@cached`: from a function and its arguments to a key, tags and a call of `get_or_set`.

Rule 1: a key is built from values whose text is the same in every process. Anything else (an object whose repr holds
an address) is refused with the repair, because it would never be invalidated by another server.
Rule 2: arguments are bound as the function itself would bind them, so that f(1), f(id=1) and a default of 1 are one
key.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload
from uuid import UUID

from .errors import InvalidName
from .names import Tag
from .receipt import Receipt

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
KeySpec = str | Callable[..., str]
TagsSpec = Iterable[str | Tag] | Callable[..., Iterable[str | Tag]]

ABOUT_TO_LOAD = object()
"""As the default of `get`: nothing is there, and what is loaded now has nothing to do with a later `set`."""

# Subclasses before their bases; each with the text of the type itself, since a subclass may show two values as one.
_PLAIN: tuple[Any, ...] = (
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


class Cache(Protocol):
    """What a decorated function needs of a cache."""

    def get_or_set(self, key: str, loader: Callable[[], Any], *, ttl: Any, tags: Iterable[str | Tag]) -> Any: ...
    async def aget_or_set(
        self, key: str, async_loader: Callable[[], Any], *, ttl: Any, tags: Iterable[str | Tag]
    ) -> Any: ...
    def invalidate(self, *keys: str) -> Receipt: ...


class CachedFunction(Generic[P, R]):
    """
    A function whose results are cached. Call it as before.

    Attributes:
        __wrapped__: the function itself, which always loads.
    """

    __wrapped__: Callable[P, R]

    def __init__(
        self, function: Callable[P, R], cache: Callable[[], Any], ttl: Any, tags: TagsSpec, key: KeySpec | None
    ) -> None:
        functools.update_wrapper(self, function)
        self._cache = cache
        self._ttl = ttl
        self._bind = Binder(function)
        self._make_key = _key_maker(function, key, self._bind)
        self._make_tags = tags_maker(tags, self._bind)
        self._call: Callable[..., Any] = self._acall if inspect.iscoroutinefunction(function) else self._scall
        if inspect.iscoroutinefunction(function):
            inspect.markcoroutinefunction(self) if hasattr(inspect, "markcoroutinefunction") else None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast("R", self._call(args, kwargs))

    def _scall(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._cache().get_or_set(
            self._make_key(args, kwargs),
            lambda: self.__wrapped__(*args, **kwargs),
            ttl=self._ttl,
            tags=self._make_tags(args, kwargs),
        )

    async def _acall(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await self._cache().aget_or_set(
            self._make_key(args, kwargs),
            lambda: self.__wrapped__(*args, **kwargs),
            ttl=self._ttl,
            tags=self._make_tags(args, kwargs),
        )

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key under which the result for these arguments is cached."""
        return self._make_key(args, kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        """Tell everybody that the result for these arguments became stale."""
        return cast(Receipt, self._cache().invalidate(self._make_key(args, kwargs)))

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> BoundCachedFunction[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Methods work too; their key must be given, because `self` has no text that is the same everywhere."""
        return self if instance is None else BoundCachedFunction(cast(Any, self), instance)


class BoundCachedFunction(Generic[Q, R]):
    """A cached method of one instance."""

    def __init__(self, function: CachedFunction[Concatenate[Any, Q], R], instance: object) -> None:
        self._function = function
        self._instance = instance
        self.__wrapped__: Callable[Q, R] = functools.partial(function.__wrapped__, instance)

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        return self._function(self._instance, *args, **kwargs)

    def key(self, *args: Q.args, **kwargs: Q.kwargs) -> str:
        return self._function.key(self._instance, *args, **kwargs)

    def invalidate(self, *args: Q.args, **kwargs: Q.kwargs) -> Receipt:
        return self._function.invalidate(self._instance, *args, **kwargs)


def cached_function(
    cache: Callable[[], Any], *, ttl: Any, tags: TagsSpec, key: KeySpec | None
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """Return a decorator. *cache* is asked for the cache at each call, so that decorating starts nothing."""
    if isinstance(tags, str):
        raise InvalidName(
            f"tags must be a list, tuple or set of templates, or a function; for one tag write tags=[{tags!r}]"
        )
    return lambda function: CachedFunction(function, cache, ttl, tags, key)


class Binder:
    """Names the arguments of a call: `inspect.Signature.bind` where it must, a dictionary where it can."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature = inspect.signature(function)
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


def _key_maker(
    function: Callable[..., Any], key: KeySpec | None, bind: Binder
) -> Callable[[tuple[Any, ...], dict[str, Any]], str]:
    if callable(key):
        return lambda args, kwargs: key(*args, **kwargs)
    if key is not None:
        template = key
        return lambda args, kwargs: template.format_map(bind(args, kwargs))
    prefix = f"{function.__module__}.{function.__qualname__}"
    return lambda args, kwargs: _plain_key(prefix, bind(args, kwargs))


def tags_maker(tags: TagsSpec, bind: Binder) -> Callable[[tuple[Any, ...], dict[str, Any]], Iterable[str | Tag]]:
    """Return what makes the tags of a call from its arguments."""
    if callable(tags):
        return lambda args, kwargs: tags(*args, **kwargs)
    templates = tuple(str(tag) for tag in tags)
    if not any("{" in template for template in templates):
        return lambda args, kwargs: templates
    return lambda args, kwargs: [template.format_map(bind(args, kwargs)) for template in templates]


def _plain_key(prefix: str, arguments: Mapping[str, Any]) -> str:
    pairs = [f"{name}={_plain_text(value, prefix, name)}" for name, value in sorted(arguments.items())]
    key = f"{prefix}({', '.join(pairs)})"
    if len(key if key.isascii() else key.encode()) <= _LONGEST_PLAIN_KEY:
        return key
    return f"{prefix[:_LONGEST_PLAIN_KEY]}#{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"


def _plain_text(value: Any, prefix: str, name: str) -> str:
    if isinstance(value, tuple):
        return f"({', '.join([_plain_text(item, prefix, name) for item in value])})"
    for plain in _PLAIN:
        if isinstance(value, plain):
            return cast(str, plain.__repr__(value))
    raise InvalidName(
        f"{prefix}: cannot make a key from {name}={value!r}; give cached(key=…) a template such as "
        f'"{prefix.rpartition(".")[2]}:{{{name}.pk}}" or a function of the arguments'
    )
