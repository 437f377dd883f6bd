"""
`get_or_set` of Django's cache API, depending on what its callable reads: OPTIONS = {"DEPENDENCIES": True}.

    cache.get_or_set("products", lambda: list(Product.objects.filter(price__gt=5)))  # void when such a product changes

Rule 1: only what a callable makes is recorded. A `set` may have been computed from anything, with or without a miss.
Rule 2: a recorded value carries RECORDED. In a transaction that has written it may be stored, as one of `cached` may,
if the transaction has changed nothing that the callable has read; if it has read nothing, nobody knows what the value
was computed from, as with all others of this backend.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from invalidator import Loaded
from invalidator.extending import ABOUT_TO_LOAD

from ..dependencies import loading, recorder
from .one_level import OneLevel
from .places import RECORDED


class Recorded(OneLevel):
    """The near cache of a LOCATION, alone, whose loads are recorded."""

    def load(self, name: str, loader: Callable[[], Any], ttl: float | None) -> Any:
        """See `Levels`."""
        kept = self.near.get(name, ABOUT_TO_LOAD)
        if kept is not ABOUT_TO_LOAD:
            return kept
        return loading.load(self.near, name, lambda: _marked(loader()), ttl=ttl, tags=self.tags, track=True)

    async def aload(self, name: str, loader: Callable[[], Awaitable[Any]], ttl: float | None) -> Any:
        """See `Levels`."""
        kept = self.near.get(name, ABOUT_TO_LOAD)
        if kept is not ABOUT_TO_LOAD:
            return kept

        async def load() -> Any:
            return _marked(await loader())

        return await loading.aload(self.near, name, load, ttl=ttl, tags=self.tags, track=True)


def _marked(kept: Any) -> Any:
    """Mark what a loader has returned, at its end, if anything was recorded."""
    recording = recorder.current()
    has_read = recording is not None and (recording.models() or recording.made_from)
    return Loaded(kept, tags=(RECORDED,)) if has_read else kept
