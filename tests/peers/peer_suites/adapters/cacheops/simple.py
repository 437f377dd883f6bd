"""`cached`, by `cache.get_or_set`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django_integration import cache as ours

from .conf import settings
from .signals import cache_read
from .utils import cached_view_fab, get_cache_key  # type: ignore[import-not-found]

MISSING = object()


class CacheMiss(Exception):
    """There is no such key."""


class Key(str):
    """The key of one call."""

    __slots__ = ()

    def set(self, value: Any) -> None:
        """Fill it."""
        ours.set(self, value)

    def delete(self) -> None:
        """Invalidate it."""
        ours.invalidate(self)


class _Cache:
    def get(self, key: str) -> Any:
        """Raises CacheMiss if there is none."""
        value = ours.get(key, MISSING)
        if value is MISSING:
            raise CacheMiss
        return value

    def set(self, key: str, value: Any, timeout: float | None = None) -> None:
        """Fill it."""
        ours.set(key, value, ttl=timeout)

    def delete(self, key: str) -> None:
        """Invalidate it."""
        ours.invalidate(key)


cache = _Cache()


def cached(timeout: Any = None, extra: Any = None) -> Any:
    """Cache the results of a function."""
    if callable(timeout):
        return cached()(timeout)
    return by_get_or_set(timeout, extra, ())


def by_get_or_set(
    timeout: float | None, extra: Any, of: tuple[str, ...], before: Callable[[], object] = lambda: None
) -> Any:
    """
    Return a decorator.

    Args:
        extra: a part of the key, or a function that makes it from the arguments.
        of: another part.
        before: called inside each load.
    """

    def decorator(function: Callable[..., Any]) -> Any:
        def key(*args: Any, **kwargs: Any) -> Key:
            more = extra(*args, **kwargs) if callable(extra) else extra
            return Key("c:" + get_cache_key(function, args, kwargs, more, of))

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if not settings.CACHEOPS_ENABLED:
                return function(*args, **kwargs)
            loads = []

            def load() -> Any:
                loads.append(True)
                before()
                return function(*args, **kwargs)

            value = ours.get_or_set(key(*args, **kwargs), load, ttl=timeout)
            cache_read.send(sender=None, func=function, hit=not loads)
            return value

        def invalidate(*args: Any, **kwargs: Any) -> None:
            key(*args, **kwargs).delete()

        wrapper.key = key  # type: ignore[attr-defined]
        wrapper.invalidate = invalidate  # type: ignore[attr-defined]
        return wrapper

    return decorator


def cached_view(timeout: Any = None, extra: Any = None) -> Any:
    """Cache the responses of a view."""
    if callable(timeout):
        return cached_view()(timeout)
    return cached_view_fab(cached)(timeout=timeout, extra=extra)
