"""
The default near cache of this process: what `cache` and `cached` read.

It is made on first use, on the bus of that moment, and made again after the setting INVALIDATOR has changed.

Rule 1: nobody keeps what `default_cache()` returned beyond one call. A cached function finds its hits through `front`,
which always points at the cache of this moment.
"""

from __future__ import annotations

from typing import Any

from invalidator import NearCache
from invalidator.extending import FreshLock, Front

from .. import near_caches, runtime
from ..conf import conf
from ..copies import guards
from ..near_caches import Opened
from ..transactions.schemas import schemas
from ..transactions.view import TransactionView
from .context import context, in_context

_lock = FreshLock()
_cache: NearCache | None = None


def default_cache() -> NearCache:
    """Return this process' default near cache. Raises ImproperlyConfigured when the setting cannot work."""
    global _cache  # noqa: PLW0603 - one for each process
    # Read without the lock: a name is bound whole or not at all.
    if (made := _cache) is not None:
        return made
    with _lock.lock:
        if _cache is None:
            near = NearCache(
                runtime.bus(),
                maxsize=conf.maxsize,
                join_timeout=conf.join_timeout,
                ttl=conf.ttl,
                copy=conf.copy,
                guard=guards.guard(),
                source=TransactionView(),
            )
            near_caches.register(Opened(near))
            _cache = near
            _face(near)
        return _cache


def _face(near: NearCache) -> None:
    """Let cached functions find their hits in *near*, by the context if there is one."""
    front.cache = near if context.part is None else _InContext(near)


class _InContext:
    """What finds the hits of cached functions while keys have a context."""

    def __init__(self, near: NearCache) -> None:
        self._near = near

    def get(self, key: str, default: Any) -> Any:
        """The value of *key* in the context of the caller."""
        return self._near.get(in_context(key), default)


def _made() -> Any:
    default_cache()
    return front.cache


front = Front(_made)
"""Where hits of cached functions find the default near cache."""


def _forget() -> None:
    """Make a new one next time: this one is on a bus that is about to be closed."""
    global _cache  # noqa: PLW0603
    with _lock.lock:
        if _cache is not None:
            near_caches.forget(_cache)
        _cache = None
        front.forget()


def _face_again() -> None:
    """There is a context now."""
    with _lock.lock:
        if _cache is not None:
            _face(_cache)


runtime.on_reset(_forget)
schemas.on_first.append(_face_again)
