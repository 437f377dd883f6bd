"""
`@cached`: from a function and its arguments to a key, tags and a call of `get_or_set`.

What a key is made of is in `keys.py`; here is what a call does with it.

Rule 1: the key of a call is kept only for arguments of which equal ones of one type have one text (`_KEPT`): 0.0 and
-0.0, or two spellings of a Decimal, are equal and have two keys.
Rule 2: an option that cannot work is refused where the function is decorated.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload
from uuid import UUID

from .config import COPY
from .errors import InvalidName, InvalidSetting
from .keys import (
    Binder,
    Describe,
    KeySpec,
    TagsSpec,
    describe_nothing,
    key_maker,
    name_of_function,
    tags_maker,
)
from .loaded import Ttl, check_ttl
from .names import Tag, check_tag
from .receipt import Receipt
from .variants import name_of

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")

ABOUT_TO_LOAD = object()
"""The default of a `get` whose caller is going to load the key. Such a miss is not remembered for a later `set`."""

_KEPT: frozenset[type] = frozenset({str, bytes, int, bool, type(None), UUID, date})
_KEYS_KEPT = 10_000
"""For each function and kind of call; with one more, all are forgotten. Some 2 MB at the most."""
_LONGEST_KEPT = 200
"""Characters of an argument that is kept with its key."""


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


class CachedFunction(Generic[P, R]):
    """
    A function whose results are cached. Call it as before.

    Attributes:
        __wrapped__: the function itself, which always loads.

    Raises:
        InvalidName, InvalidSetting, TypeError: an option cannot work, or *function* cannot be called.
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
        describe: Describe = describe_nothing,
        front: Front | None = None,
    ) -> None:
        check_options(ttl=ttl, key=key, version=version)
        tags = check_tags_spec(tags)
        self._kind, function = _unwrap(function)
        functools.update_wrapper(self, function)
        self.__wrapped__ = function  # which a partial has not
        self._cache = cache
        self._front = Front(cache) if front is None else front
        self._ttl = ttl
        self._bind = Binder(function)
        self._make_key = key_maker(function, key, self._bind, version, describe)
        self._make_tags = tags_maker(tags, self._bind, name_of_function(function))
        self._is_async = _is_async(function)
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
        """The key of a call, or its variant; kept if it may be."""
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
        """The key of the result for these arguments: the name by which it is invalidated, everywhere."""
        return name_of(self._key(args, kwargs))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        """Invalidate the result for these arguments everywhere."""
        return cast(Receipt, self._cache().invalidate(self.key(*args, **kwargs)))

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> BoundCachedFunction[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Methods work, too; they need a *key*, because `self` has no text that is the same everywhere."""
        if self._kind is staticmethod or (instance is None and self._kind is None):
            return self
        if self._kind is classmethod:
            instance = type(instance) if owner is None else owner
        return BoundCachedFunction(cast(Any, self), instance)


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
    function: Any,
    cache: Callable[[], Any],
    *,
    ttl: Ttl,
    tags: TagsSpec,
    key: KeySpec | None,
    version: int | str = 1,
    front: Front | None = None,
) -> Any:
    """
    Return *function* decorated; a decorator, if it is None.

    Args:
        cache: returns the cache; it is called at each miss, so that decorating starts nothing.
    """
    check_options(ttl=ttl, key=key, version=version)
    tags = check_tags_spec(tags)
    return decorate(function, lambda function: CachedFunction(function, cache, ttl, tags, key, version, front=front))


def decorate(function: Any, decorator: Callable[[Callable[P, R]], CachedFunction[P, R]]) -> Any:
    """
    Return *function* decorated, as it is for `@cached`; if it is None, *decorator*, as it is for `@cached(…)`.

    Raises:
        TypeError: *function* is an option that was not given by its name.
    """
    if function is None:
        return decorator
    if not callable(function) and not isinstance(function, classmethod | property):
        names = {str: "key", int: "ttl", float: "ttl", list: "tags", tuple: "tags", set: "tags"}
        name = names.get(type(function), "ttl")
        raise TypeError(f"cached takes its options by name: did you mean cached({name}={function!r})?")
    return decorator(function)


def refuse_unknown(unknown: Iterable[str], known: Iterable[str], of: str = "cached") -> None:
    """Raise TypeError, with a suggestion, if there are *unknown* options *of* a decorator."""
    known = tuple(known)
    for name in unknown:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"its options are {', '.join(known)}"
        raise TypeError(f"{of} has no option {name!r}: {hint}")


def check_options(*, ttl: Any, key: Any, version: Any, copy: Any = None) -> None:
    """Raise InvalidSetting, with a suggestion, for an option that cannot work."""
    check_ttl(ttl)
    if copy is not None:
        COPY.validate("copy", copy)
    if not (key is None or callable(key) or (isinstance(key, str) and key)):
        raise InvalidSetting(
            f'key must be a template such as "product:{{pk}}", or a function of the same arguments, not {key!r}'
        )
    if not isinstance(version, int | str):
        raise InvalidSetting(f"version must be a whole number or a string, not {version!r}")


def check_tags_spec(tags: TagsSpec) -> TagsSpec:
    """
    Return *tags*, templates of them as a tuple.

    Raises:
        InvalidName: they cannot be tags. A lone string would be read as one tag per letter.
    """
    if isinstance(tags, str | Tag):
        raise InvalidName(
            f"tags must be a list, tuple or set of templates, or a function; for one tag write tags=[{str(tags)!r}]"
        )
    if callable(tags):
        return tags
    if not isinstance(tags, Iterable):
        raise InvalidName(f"tags must be a list, tuple or set of templates, or a function, not {tags!r}")
    return tuple(map(check_tag, tags))


def _unwrap(function: Any) -> tuple[type | None, Any]:
    """Return *function* without what makes it a static method or a method of its class, and which that was."""
    if isinstance(function, staticmethod | classmethod):
        return type(function), function.__func__
    if isinstance(function, property):
        raise TypeError("cached decorates the function of a property: write @property above it")
    if not callable(function):
        raise TypeError(f"cached decorates functions, not {type(function).__name__}: {function!r}")
    return None, function


def _is_async(function: Any) -> bool:
    called = function if inspect.isroutine(function) or isinstance(function, functools.partial) else None
    return inspect.iscoroutinefunction(called or type(function).__call__) or inspect.iscoroutinefunction(function)
