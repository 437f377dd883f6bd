"""
Loading with a recorder: what a loader has read becomes the tags of its value.

Rule 1: what a result would read later is evaluated while reads are recorded, or refused (`results.py`).
Rule 2: an error in recording is ours: the load's own result is returned, and is not kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async

from invalidator import Loaded, NearCache
from invalidator.extending import Copy, Ttl

from .recorder import Recorder, current, recording
from .results import ReadLater, unread


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
            outer.fenced(outer.caught, error)
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
            outer.fenced(outer.caught, error)
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
    recorder = Recorder()
    with recording(recorder if track else None):
        value = loader()
        for evaluate in _unread(value, recorder):
            evaluate()
        return recorder.loaded(value) if track or not recorder.is_kept else value


async def _arun(loader: Callable[[], Awaitable[Any]], *, track: bool) -> Any:
    recorder = Recorder()
    with recording(recorder if track else None):
        value = await loader()
        for evaluate in _unread(value, recorder):
            await sync_to_async(evaluate)()
        return recorder.loaded(value) if track or not recorder.is_kept else value


def _unread(value: Any, recorder: Recorder) -> Iterator[Callable[[], object]]:
    """`unread`, by rule 2."""
    try:
        yield from unread(value)
    except ReadLater:
        raise
    except Exception as error:  # noqa: BLE001 - what `evaluate` raises does not pass here
        recorder.lost(error)
