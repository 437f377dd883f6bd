"""
Rows that are handed out live (`copy="none"`): what a reader follows is not kept on them.

Django keeps a relation that was followed in the row. A row that everybody is handed out would show it to all later
readers, although the entry does not depend on it, and its changes do not void the entry. So a live row has caches that
keep what its loader has loaded, and nothing else: whoever follows another relation asks the database, each time.

Rule 1: what was loaded before the row was stored stays: the entry depends on it.
Rule 2: since Django 6.1, whoever has fetched a related row looks for it in the cache: the thread that has missed it
finds it there, once.
Rule 3: a live row has no peers, and fetches for itself alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Any

from django.db.models import Model
from django.db.models.base import ModelState

from invalidator.extending import add_shared_kind

from .followed import OwnRelations, follow

PREFETCHED = "_prefetched_objects_cache"

READ_BACK_S = 0.5
"""Django does so at once. Later, nobody knows what it was."""

_NOTHING: tuple[Any, float] = (None, -math.inf)
"""What a thread has missed and not fetched yet."""

_READS_BACK = hasattr(ModelState, "fetch_mode")
"""Whether this Django looks into the cache for what it has just put there (6.1)."""


class LoadedRelations(OwnRelations):
    """
    The related rows that a loader has loaded. What is put in later is not kept.

    Args:
        model: of the row.
        is_read_back: whether rule 2 is for this cache.
    """

    def __init__(self, loaded: Mapping[str, Any], model: type[Model], *, is_read_back: bool) -> None:
        super().__init__(loaded)
        self._model = model
        self._is_read_back = is_read_back
        self._fetched = threading.local()

    def __missing__(self, name: str) -> Any:
        fetched = vars(self._fetched)
        value, at = fetched.pop(name, _NOTHING)
        if time.monotonic() - at < READ_BACK_S:
            return value
        fetched[name] = _NOTHING
        raise KeyError(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self:
            super().__setitem__(name, value)  # a change by the application, of which the guard tells
            return
        fetched = vars(self._fetched)
        if fetched.pop(name, None) is not None:  # this thread has missed it: else it was prefetched, or assigned
            if self._is_read_back:
                fetched[name] = (value, time.monotonic())
            follow(self._model, name, value)


def _prepare(row: Model) -> None:
    state = row._state
    if not isinstance(state.fields_cache, LoadedRelations):
        state.fields_cache = LoadedRelations(state.fields_cache, type(row), is_read_back=_READS_BACK)
        vars(row)[PREFETCHED] = LoadedRelations(vars(row).get(PREFETCHED, {}), type(row), is_read_back=False)
    vars(state).pop("peers", None)


def install() -> None:
    """Prepare every row that is about to be handed out live."""
    add_shared_kind(Model, _prepare)
