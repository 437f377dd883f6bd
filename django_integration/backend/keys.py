"""
The name under which a key of Django's cache is invalidated.

It is the full key, as `make_key` makes it, such as ":1:product:42"; or a hash of the full key, if that is empty, is no
valid Unicode, or is longer than MOST_NAME_BYTES.

Rule 1: the names of plain keys are remembered, so that a hit costs one look into a dictionary. They are not where the
project makes full keys itself: its function may return another one each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from django.core.cache.backends.base import BaseCache, default_key_func, memcache_key_warnings

from invalidator import InvalidName
from invalidator.extending import check_key

MOST_NAME_BYTES = 500
"""Of a key; the tag of its near copies is a little longer, and no name may have more than 512."""
MOST_REMEMBERED = 20_000
"""Keys whose names are remembered, for each prefix and version."""

Remembered = dict[tuple[str, object], dict[str, str]]
"""By prefix and version: the names of keys."""

_KEY_SETTINGS = frozenset({"key_prefix", "version", "key_func"})
_NOT_REMEMBERED: dict[str, str] = {}


def name_of(full_key: str) -> str:
    """Return the name under which a key, as `make_key` makes it, is invalidated."""
    # A string of n characters has between n and 4n bytes.
    if full_key and len(full_key) * 4 <= MOST_NAME_BYTES and full_key.isascii():
        return full_key
    try:
        if len(check_key(full_key).encode()) <= MOST_NAME_BYTES:
            return full_key
    except InvalidName:
        pass
    return f"~{digest(full_key)}"


def digest(text: str) -> str:
    """Return a hash of *text*, which need not be valid Unicode."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


class CacheWithNames(BaseCache):
    """
    A cache of Django that knows the names of its keys.

    Args:
        params: of the alias in CACHES.
        remembered: where to keep names; several caches may share it.
    """

    def __init__(self, params: dict[str, Any], remembered: Remembered) -> None:
        super().__init__(params)
        self._remembered = remembered
        self._names_by_key = self._find_names()

    def __setattr__(self, attribute: str, value: object) -> None:
        super().__setattr__(attribute, value)
        if attribute in _KEY_SETTINGS and "_names_by_key" in self.__dict__:
            self._names_by_key = self._find_names()

    def key_name(self, key: str, version: int | None = None) -> str:
        """Return the name by which to `invalidate` *key* of this cache."""
        return name_of(self.make_key(key, version))

    def _find_names(self) -> dict[str, str]:
        """Return what is remembered for the present prefix and version."""
        kind = type(self)
        if (
            self.key_func is not default_key_func
            or kind.make_key is not BaseCache.make_key
            or kind.validate_key is not BaseCache.validate_key
            or kind.make_and_validate_key is not BaseCache.make_and_validate_key
        ):
            return _NOT_REMEMBERED
        return self._remembered.setdefault((self.key_prefix, self.version), {})

    def _name(self, key: Any, version: int | None = None) -> str:
        """Return the name of *key*. Warns, and raises, as Django's own caches do about a key that cannot work."""
        if version is None:
            try:
                return self._names_by_key[key]
            except (KeyError, TypeError):
                pass
        full_key = self.make_and_validate_key(key, version=version)
        name = name_of(full_key)
        names = self._names_by_key
        # Only text: 1, 1.0 and True are one key of a dict, and three of a cache. A key that Django warns of is not
        # remembered, so that the next use warns again.
        if (
            version is None
            and type(key) is str
            and names is not _NOT_REMEMBERED
            and not any(memcache_key_warnings(full_key))
        ):
            if len(names) >= MOST_REMEMBERED:
                names.clear()
            names[key] = name
        return name

    def _names(self, keys: Iterable[Any], version: int | None) -> dict[str, Any]:
        """Return the *keys* by their names."""
        keys = tuple(keys)
        if version is None:
            names = self._names_by_key
            try:
                return {names[key]: key for key in keys}
            except (KeyError, TypeError):
                pass
        return {self._name(key, version): key for key in keys}
