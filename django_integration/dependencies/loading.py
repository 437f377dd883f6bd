"""
Loading with a recorder: what a loader has read becomes the tags of its value.

Rule 1: a query set that a loader returns, alone or in lists and dictionaries, is evaluated while reads are recorded.
Left for later, its first reader would fill it for all others, with rows that are not recorded.
Rule 2: what can be read only once (a generator, an open file) is refused: the second reader would find nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

from asgiref.sync import sync_to_async
from django.db.models import Model, QuerySet
from django.db.models.query import RawQuerySet

from invalidator import Loaded, NearCache
from invalidator.extending import Copy, Ttl

from .recorder import Recorder, current, recording


def load(
    near: NearCache,
    key: str,
    loader: Callable[[], Any],
    *,
    ttl: Ttl,
    tags: Any,
    track: bool,
    copy: Copy | None = None,
) -> Any:
    """
    Load *key* after a miss, and record what *loader* reads if *track*. What readers are handed out, *copy* says.

    Inside of another loader, that one depends on the value, and on what led to an error.
    """
    outer = current()
    try:
        entry = near.load_entry(key, lambda: _copied(_run(loader, track=track), copy), ttl=ttl, tags=tags)
    except Exception as error:
        if outer is not None:
            outer.caught(error)
        raise
    return entry.value


async def aload(
    near: NearCache,
    key: str,
    loader: Callable[[], Awaitable[Any]],
    *,
    ttl: Ttl,
    tags: Any,
    track: bool,
    copy: Copy | None = None,
) -> Any:
    """`load` with an async *loader*."""

    async def run() -> Any:
        return _copied(await _arun(loader, track=track), copy)

    outer = current()
    try:
        entry = await near.aload_entry(key, run, ttl=ttl, tags=tags)
    except Exception as error:
        if outer is not None:
            outer.caught(error)
        raise
    return entry.value


def _copied(loaded: Any, copy: Copy | None) -> Any:
    """*loaded*, with what its caller says of copies, unless the loader says it itself."""
    if copy is None:
        return loaded
    if not issubclass(type(loaded), Loaded):
        return Loaded(loaded, copy=copy)
    return loaded if loaded.copy is not None else dataclasses.replace(loaded, copy=copy)


def _run(loader: Callable[[], Any], *, track: bool) -> Any:
    if not track:
        with recording(None):
            return loader()
    recorder = Recorder()
    with recording(recorder):
        value = loader()
        for rows in _unevaluated(value):
            len(rows)
        return recorder.loaded(value)


async def _arun(loader: Callable[[], Awaitable[Any]], *, track: bool) -> Any:
    if not track:
        with recording(None):
            return await loader()
    recorder = Recorder()
    with recording(recorder):
        value = await loader()
        for rows in _unevaluated(value):
            await sync_to_async(len)(rows)
        return recorder.loaded(value)


Lazy: TypeAlias = "QuerySet[Any, Any] | RawQuerySet[Any]"
_LAZY = (QuerySet, RawQuerySet)
_CONTAINERS = (dict, list, tuple, set, frozenset)
_LOOKED_INTO = (*_LAZY, *_CONTAINERS)


def _unevaluated(value: Any) -> list[Lazy]:
    """Return the query sets in *value* that are not evaluated. Raises TypeError for what can be read only once."""
    if isinstance(value, Model):  # the usual case, in which there is nothing to look for
        return []
    if isinstance(value, Loaded):
        value = value.value
    if not isinstance(value, _LOOKED_INTO):  # first, because the next check takes longer
        if not isinstance(value, Iterator | AsyncIterator):
            return []
        raise TypeError(
            f"a cached function must not return {type(value).__name__}: it can be read only once; return a list of it"
        )
    found: list[Lazy] = []
    seen: set[int] = set()
    ahead: list[Any] = [value]
    while ahead:
        at: Any = ahead.pop()
        if isinstance(at, _LAZY):
            # There is no other way to find out without a query.
            if getattr(at, "_result_cache", None) is None:
                found.append(at)
        elif isinstance(at, _CONTAINERS) and id(at) not in seen:
            seen.add(id(at))
            inside = list(at.values() if isinstance(at, dict) else at)
            # By type, of which a list of a thousand rows has one.
            if any(issubclass(kind, _LOOKED_INTO) for kind in set(map(type, inside))):
                ahead += inside
    return found
