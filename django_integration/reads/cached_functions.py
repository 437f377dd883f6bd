"""
Reading through the default near cache: `cache` and `cached`, which can be imported before there is one.

What their loaders read through the ORM is recorded and becomes the tags of the value (`dependencies/`).

Rule 1: what is invalidated through them is published after the commit, like everything else in this app. Only `bus()`
is the bare library, which knows of no transaction.
Rule 2: a loader that is being recorded depends on the cached values that it reads. The near cache reports them itself
(`transactions/view.py`).
Rule 3: a row that is an argument of a cached function is read again before the function is called. The caller may have
read it long ago, or changed it since, and the result is for everybody.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from asgiref.sync import sync_to_async
from django.core.exceptions import ObjectDoesNotExist

from invalidator import CachedFunction, Entry, Loaded, NearCache, Receipt, Tag, tag
from invalidator.extending import (
    ABOUT_TO_LOAD,
    DEFAULT,
    Copy,
    KeySpec,
    TagsSpec,
    Ttl,
    check_options,
    check_tags_spec,
    decorate,
    refuse_unknown,
)

from ..dependencies.loading import aload, load
from ..transactions.outgoing import invalidate
from ..transactions.view import has_written
from . import arguments
from .context import in_context
from .default_cache import default_cache, front
from .uncommitted_fills import follow_fill

if TYPE_CHECKING:
    _NearCache = NearCache
else:
    _NearCache = object

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")


class DefaultCache(_NearCache):
    """The default near cache of this moment: a `NearCache` in all but that it is looked up at each use."""

    def __init__(self) -> None:
        """Nothing is made here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(default_cache(), name)

    def __contains__(self, key: str) -> bool:
        return in_context(key) in default_cache()

    def __len__(self) -> int:
        return len(default_cache())

    def __bool__(self) -> bool:
        return True  # an empty cache is a cache, as is one that was not made yet

    def __repr__(self) -> str:
        return "<the default near cache>"

    # In the context of the caller (KEY_CONTEXT), which is not known before the cache is made.

    def get(self, key: str, default: Any = None) -> Any:
        """See `NearCache.get`."""
        return front.cache.get(key, default)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """See `NearCache.get_many`."""
        cache, keys = default_cache(), tuple(keys)
        found = cache.get_many(map(in_context, keys))
        return {key: found[stored] for key in keys if (stored := in_context(key)) in found}

    def peek(self, key: str) -> Entry[Any] | None:
        """See `NearCache.peek`."""
        cache = default_cache()
        return cache.peek(in_context(key))

    def set(
        self, key: str, value: Any, *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = (), loaded_at: int | None = None
    ) -> bool:
        """See `NearCache.set`; what is stored after the first write of a transaction is void at its rollback."""
        cache, stored = default_cache(), in_context(key)
        if not cache.set(stored, value, ttl=ttl, tags=tags, loaded_at=loaded_at):
            return False
        return not has_written() or follow_fill(cache, key, stored)

    def set_many(self, mapping: Mapping[str, Any], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()) -> list[str]:
        """See `NearCache.set_many`, and `set`."""
        tags = tuple(tags)
        return [key for key, value in mapping.items() if not self.set(key, value, ttl=ttl, tags=tags)]

    def get_entry(self, key: str) -> Entry[Any] | None:
        """See `NearCache.get_entry`."""
        cache = default_cache()
        return cache.get_entry(in_context(key))

    def load_entry(
        self, key: str, loader: Callable[[], Any], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> Entry[Any]:
        """See `NearCache.load_entry`."""
        cache = default_cache()
        return cache.load_entry(in_context(key), loader, ttl=ttl, tags=tags)

    async def aload_entry(
        self, key: str, loader: Callable[[], Awaitable[Any]], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> Entry[Any]:
        """See `NearCache.aload_entry`."""
        cache = default_cache()
        return await cache.aload_entry(in_context(key), loader, ttl=ttl, tags=tags)

    def invalidate(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt | None:  # type: ignore[override]
        """Invalidate *keys* and *tags* on every server, after the commit: see `invalidate` of this app."""
        return invalidate(*keys, *(name if isinstance(name, Tag) else tag(name) for name in tags))

    @overload
    def get_or_set(
        self,
        key: str,
        loader: Callable[[], Loaded[V]],
        *,
        ttl: Ttl = DEFAULT,
        tags: Iterable[str | Tag] = (),
        track: bool = True,
        copy: Copy | None = None,
    ) -> V: ...
    @overload
    def get_or_set(
        self,
        key: str,
        loader: Callable[[], V],
        *,
        ttl: Ttl = DEFAULT,
        tags: Iterable[str | Tag] = (),
        track: bool = True,
        copy: Copy | None = None,
    ) -> V: ...
    def get_or_set(
        self,
        key: str,
        loader: Callable[[], Any],
        *,
        ttl: Ttl = DEFAULT,
        tags: Iterable[str | Tag] = (),
        track: bool = True,
        copy: Copy | None = None,
    ) -> Any:
        """
        See `NearCache.get_or_set`.

        Args:
            track: whether what *loader* reads through the ORM is recorded, and becomes tags of the value.
            copy: what a hit hands out of a value that can be changed: "clone", "deep" or "pickle", or "none", the live
                object; without it, as INVALIDATOR["COPY"] says. See docs/values.md.
        """
        value = self.get(key, ABOUT_TO_LOAD)
        if value is not ABOUT_TO_LOAD:
            return value
        return load(default_cache(), in_context(key), loader, ttl=ttl, tags=tags, track=track, copy=copy)

    @overload
    async def aget_or_set(
        self,
        key: str,
        loader: Callable[[], Awaitable[Loaded[V]]],
        *,
        ttl: Ttl = DEFAULT,
        tags: Iterable[str | Tag] = (),
        track: bool = True,
        copy: Copy | None = None,
    ) -> V: ...
    @overload
    async def aget_or_set(
        self,
        key: str,
        loader: Callable[[], Awaitable[V]],
        *,
        ttl: Ttl = DEFAULT,
        tags: Iterable[str | Tag] = (),
        track: bool = True,
        copy: Copy | None = None,
    ) -> V: ...
    async def aget_or_set(
        self,
        key: str,
        loader: Callable[[], Awaitable[Any]],
        *,
        ttl: Ttl = DEFAULT,
        tags: Iterable[str | Tag] = (),
        track: bool = True,
        copy: Copy | None = None,
    ) -> Any:
        """`get_or_set` with an async *loader*."""
        value = self.get(key, ABOUT_TO_LOAD)
        if value is not ABOUT_TO_LOAD:
            return value
        return await aload(default_cache(), in_context(key), loader, ttl=ttl, tags=tags, track=track, copy=copy)

    @overload
    def cached(self, function: Callable[P, R], /) -> CachedFunction[P, R]: ...
    @overload
    def cached(
        self,
        function: None = None,
        /,
        *,
        ttl: Ttl = DEFAULT,
        tags: TagsSpec = (),
        key: KeySpec | None = None,
        version: int | str = 1,
        track: bool = True,
        copy: Copy | None = None,
    ) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
    def cached(
        self,
        function: Any = None,
        /,
        *,
        ttl: Ttl = DEFAULT,
        tags: TagsSpec = (),
        key: KeySpec | None = None,
        version: int | str = 1,
        track: bool = True,
        copy: Copy | None = None,
        **unknown: Any,
    ) -> Any:
        """
        Decorate a function, sync or async, so that its results are cached: `@cached`, or with options, which are those
        of `NearCache.cached`, *track* and *copy*.

        Rows, query sets and model classes may be arguments, too.

        Args:
            track: whether what the function reads through the ORM is recorded, and becomes tags of its result.
            copy: as for `get_or_set`.

        Decorating starts nothing, so it is safe at import.

        Raises:
            InvalidName, InvalidSetting, TypeError: an option cannot work; the message says what would.
        """
        refuse_unknown(unknown, ("ttl", "tags", "key", "version", "track", "copy"))
        check_options(ttl=ttl, key=key, version=version, copy=copy)
        tags = check_tags_spec(tags)
        return decorate(
            function, lambda function: TrackedFunction(function, ttl, tags, key, version, track=track, copy=copy)
        )


class TrackedFunction(CachedFunction[P, R]):
    """A function whose results are cached, with what they depend on."""

    def __init__(
        self,
        function: Callable[P, R],
        ttl: Ttl,
        tags: TagsSpec,
        key: KeySpec | None,
        version: int | str,
        *,
        track: bool,
        copy: Copy | None = None,
    ) -> None:
        super().__init__(function, default_cache, ttl, tags, key, version, arguments.describe, front)
        self._track = track
        self._copy = copy

    def _load(self, cache: Any, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return load(
            default_cache(),
            in_context(key),
            lambda: self._fresh_call(args, kwargs),
            ttl=self._ttl,
            tags=self._make_tags(args, kwargs),
            track=self._track,
            copy=self._copy,
        )

    def _fresh_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._track and arguments.has_any_to_read((args, kwargs)):
            try:
                args, kwargs = arguments.read_anew((args, kwargs))
            except ObjectDoesNotExist:
                # What the function makes of a row that is gone is for its caller alone.
                return _unkept(self.__wrapped__(*args, **kwargs))
        return self.__wrapped__(*args, **kwargs)

    async def _aload(self, cache: Any, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await aload(
            default_cache(),
            in_context(key),
            lambda: self._afresh_call(args, kwargs),
            ttl=self._ttl,
            tags=self._make_tags(args, kwargs),
            track=self._track,
            copy=self._copy,
        )

    async def _afresh_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        function: Callable[..., Any] = self.__wrapped__
        if self._track and arguments.has_any_to_read((args, kwargs)):
            try:
                args, kwargs = await sync_to_async(arguments.read_anew)((args, kwargs))
            except ObjectDoesNotExist:
                return _unkept(await function(*args, **kwargs))
        return await function(*args, **kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Receipt | None:  # type: ignore[override]
        """Invalidate the result for these arguments on every server, after the commit."""
        return cache.invalidate(self.key(*args, **kwargs))


def _unkept(value: Any) -> Loaded[Any]:
    return dataclasses.replace(value, ttl=0) if isinstance(value, Loaded) else Loaded(value, ttl=0)


cache = DefaultCache()
cached = cache.cached
