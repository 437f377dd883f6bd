"""
`@cached`: from a function and its arguments to a key, tags and a call of `get_or_set`.

Rule 1: a key is built from values whose text is the same in every process. Anything else (an object whose repr holds
an address) is refused, with a repair in the message, because no other server could invalidate it.
Rule 2: arguments are bound as the function itself would bind them, so that f(1), f(id=1) and a default of 1 are one
key.
Rule 3: the key of a call is kept only for arguments of which equal ones of one type have one text (`_KEPT`): 0.0 and
-0.0, or two spellings of a Decimal, are equal and have two keys.
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
"""The default of a `get` whose caller is going to load the key. Such a miss is not remembered for a later `set`."""

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
_KEPT: frozenset[type] = frozenset({str, bytes, int, bool, type(None), UUID, date})
_KEYS_KEPT = 10_000
"""For each function and kind of call; with one more, all are forgotten. Some 2 MB at the most."""
_LONGEST_KEPT = 200
"""Characters of an argument that is kept with its key."""

_LONGEST_PLAIN_KEY = 200
"""Bytes. Longer ones are replaced by their hash, with room left for prefixes."""


def _is_kept(argument: object) -> bool:
    kind = type(argument)
    return kind in _KEPT and not (kind in (str, bytes) and len(cast(str, argument)) > _LONGEST_KEPT)


class Cache(Protocol):
    """What a decorated function needs of a cache."""

    def get(self, key: str, default: Any, /) -> Any: ...
    def load_entry(self, key: str, loader: Callable[[], Any], *, ttl: Any, tags: Iterable[str | Tag]) -> Any: ...
    async def aload_entry(self, key: str, loader: Callable[[], Any], *, ttl: Any, tags: Iterable[str | Tag]) -> Any: ...
    def invalidate(self, *keys: str) -> Receipt: ...


class Front:
    """
    Where a decorated function finds the cache: a hit need not ask whether there is one.

    Attributes:
        cache: the cache in force, set by whatever makes it; while there is none, this object, which asks for one.
    """

    __slots__ = ("_ask", "cache")

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self.cache: Any = self

    def get(self, key: str, default: Any) -> Any:
        """In place of a cache that is not made yet: make it, and read from it."""
        return self._ask().get(key, default)

    def forget(self) -> None:
        """There is no cache any more: ask again."""
        self.cache = self


Describe = Callable[[Any], "str | None"]
"""Gives a value that is not plain a text that is the same in every process, or None if it knows none."""


def _describe_nothing(value: object) -> None:
    return None


class CachedFunction(Generic[P, R]):
    """
    A function whose results are cached. Call it as before.

    Attributes:
        __wrapped__: the function itself, which always loads.
    """

    # What a hit reads has slots: the dictionary is a copy of the function's, and a look into it is slow.
    __slots__ = ("__dict__", "__weakref__", "_front", "_keys", "_keys_by_kind")

    __wrapped__: Callable[P, R]

    def __init__(
        self,
        function: Callable[P, R],
        cache: Callable[[], Any],
        ttl: Any,
        tags: TagsSpec,
        key: KeySpec | None,
        version: int | str = 1,
        describe: Describe = _describe_nothing,
        front: Front | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self._cache = cache
        self._front = Front(cache) if front is None else front
        self._ttl = ttl
        self._bind = Binder(function)
        self._make_key = _key_maker(function, key, self._bind, version, describe)
        self._make_tags = tags_maker(tags, self._bind)
        self._is_async = inspect.iscoroutinefunction(function)
        self._keeps = not callable(key) and not self._is_async
        # Keys of calls by positional arguments and their types, since 1 and True are equal.
        self._keys_by_kind: dict[type, dict[Any, str]] = {kind: {} for kind in _KEPT}  # of calls with one argument
        self._keys: dict[tuple[tuple[Any, ...], tuple[type, ...]], str] = {}  # of others
        if self._is_async:
            inspect.markcoroutinefunction(self) if hasattr(inspect, "markcoroutinefunction") else None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        # Half the time of a hit is spent here, so the usual call does nothing that it does not need.
        try:
            if len(args) == 1:
                key = self._keys_by_kind[type(args[0])][args[0]]
            else:
                key = self._keys[args, tuple(map(type, args))]
        except (KeyError, TypeError):  # a key that is not kept, or an argument that cannot be hashed
            if self._is_async:
                return cast("R", self._acall(args, kwargs))
            key = self._key(args, kwargs)
        else:
            if kwargs:
                key = self._key(args, kwargs)
        value = self._front.cache.get(key, ABOUT_TO_LOAD)
        if value is ABOUT_TO_LOAD:
            value = self._load(self._cache(), key, args, kwargs)
        return value  # type: ignore[no-any-return]

    async def _acall(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = self._key(args, kwargs)
        value = self._front.cache.get(key, ABOUT_TO_LOAD)
        return value if value is not ABOUT_TO_LOAD else await self._aload(self._cache(), key, args, kwargs)

    def _load(self, cache: Any, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tags = self._make_tags(args, kwargs)
        return cache.load_entry(key, lambda: self.__wrapped__(*args, **kwargs), ttl=self._ttl, tags=tags).value

    async def _aload(self, cache: Any, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tags = self._make_tags(args, kwargs)
        entry = await cache.aload_entry(key, lambda: self.__wrapped__(*args, **kwargs), ttl=self._ttl, tags=tags)
        return entry.value

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The key of a call, kept if it may be."""
        key = self._make_key(args, kwargs)
        if not kwargs and self._keeps and all(map(_is_kept, args)):
            self._keep(args, key)
        return key

    def _keep(self, args: tuple[Any, ...], key: str) -> None:
        if len(args) == 1:
            kept, call = self._keys_by_kind[type(args[0])], args[0]
        else:
            kept, call = self._keys, (args, tuple(map(type, args)))
        if len(kept) >= _KEYS_KEPT:
            kept.clear()
        kept[call] = key

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key under which the result for these arguments is cached."""
        return self._key(args, kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        """Invalidate the result for these arguments everywhere."""
        return cast(Receipt, self._cache().invalidate(self._key(args, kwargs)))

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> BoundCachedFunction[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Methods work, too; they need a *key*, because `self` has no text that is the same everywhere."""
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
    cache: Callable[[], Any],
    *,
    ttl: Any,
    tags: TagsSpec,
    key: KeySpec | None,
    version: int | str = 1,
    front: Front | None = None,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """Return a decorator. *cache* returns the cache; it is called at each miss, so that decorating starts nothing."""
    check_tags_spec(tags)
    return lambda function: CachedFunction(function, cache, ttl, tags, key, version, front=front)


def check_tags_spec(tags: TagsSpec) -> None:
    """Raise InvalidName for a lone tag: it would be read as one tag per letter."""
    if isinstance(tags, str):
        raise InvalidName(
            f"tags must be a list, tuple or set of templates, or a function; for one tag write tags=[{tags!r}]"
        )


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
    function: Callable[..., Any], key: KeySpec | None, bind: Binder, version: int | str, describe: Describe
) -> Callable[[tuple[Any, ...], dict[str, Any]], str]:
    if callable(key):
        return lambda args, kwargs: key(*args, **kwargs)
    if key is not None:
        template = key
        return lambda args, kwargs: template.format_map(bind(args, kwargs))
    prefix = f"{function.__module__}.{function.__qualname__}"
    return lambda args, kwargs: plain_key(prefix, bind(args, kwargs), version, describe)


def tags_maker(tags: TagsSpec, bind: Binder) -> Callable[[tuple[Any, ...], dict[str, Any]], Iterable[str | Tag]]:
    """Return what makes the tags of a call from its arguments."""
    if callable(tags):
        return lambda args, kwargs: tags(*args, **kwargs)
    templates = tuple(str(tag) for tag in tags)
    if not any("{" in template for template in templates):
        return lambda args, kwargs: templates
    return lambda args, kwargs: [template.format_map(bind(args, kwargs)) for template in templates]


def plain_key(
    prefix: str, arguments: Mapping[str, Any], version: int | str = 1, describe: Describe = _describe_nothing
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
    for plain in _PLAIN:
        if isinstance(value, plain):
            text = cast(str, plain.__repr__(value))
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
