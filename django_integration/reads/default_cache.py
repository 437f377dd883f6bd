"""
The default near cache of this process: what `cache` and `cached` read.

It is made on first use, on the bus of that moment, and made again after the setting INVALIDATOR has changed.

Rule 1: nobody keeps what `default_cache()` returned beyond one call. A cached function finds its hits through `front`,
which always points at the cache of this moment.
"""

from __future__ import annotations

from invalidator import NearCache
from invalidator.extending import FreshLock, Front

from .. import near_caches, runtime
from ..conf import conf
from ..copies import guards
from ..near_caches import Opened
from ..transactions.view import TransactionView

_lock = FreshLock()
_cache: NearCache | None = None


def default_cache() -> NearCache:
    """Return this process' default near cache. Raises ImproperlyConfigured when the setting cannot work."""
    global _cache  # noqa: PLW0603 - one for each process
    # Read without the lock: a name is bound whole or not at all.
    if (made := _cache) is not None:
        return made
    with _lock:
        if _cache is None:
            near = NearCache(
                runtime.bus(),
                maxsize=conf.maxsize,
                ttl=conf.ttl,
                copy=conf.copy,
                guard=guards.guard(),
                source=TransactionView(),
            )
            near_caches.register(Opened(near))
            _cache = front.cache = near
        return _cache


front = Front(default_cache)
"""Where hits of cached functions find the default near cache."""


def _forget() -> None:
    """Make a new one next time: this one is on a bus that is about to be closed."""
    global _cache  # noqa: PLW0603
    with _lock:
        if _cache is not None:
            near_caches.forget(_cache)
        _cache = None
        front.forget()


runtime.on_reset(_forget)
