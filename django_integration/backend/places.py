"""
One LOCATION of the cache backend in this process: its near cache, its tag, and the names of its keys.

Backend objects come and go with threads and tasks. What outlives them belongs to the process, and to a LOCATION: all
aliases that have it share one store.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from invalidator import Entry, InvalidName
from invalidator.extending import FreshLock, WritableCache, check_tag

from .. import near_caches, runtime
from ..conf import conf
from ..copies import guards
from ..near_caches import Opened
from ..transactions.view import TransactionView
from .keys import Remembered, digest

OWN_TAGS = "django.cache:"
"""How the tags begin that the backend itself gives to its entries: they say nothing of what a value was made from."""
RECORDED = f"{OWN_TAGS}~recorded"
"""The tag of a value whose other tags say what it was made from (`recorded.py`)."""


class PlaceView(TransactionView):
    """How callers of the backend see the databases: only a recorded value says what it was computed from."""

    def knows_sources(self, entry: Entry[Any]) -> bool:
        """See `TransactionView`."""
        return RECORDED in entry.tags


class Place:
    """
    One LOCATION in this process: a near cache, made on first use and anew when the setting INVALIDATOR has changed.

    Attributes:
        location: as in CACHES.
        tag: what a `clear` invalidates; every entry carries it.
        read, read_many: `get` and `get_many` of the near cache, without a look whether it is open.
        remembered_names: of the keys of all aliases.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self.tag = place_tag(location)
        self.remembered_names: Remembered = {}
        self._lock = FreshLock()
        self._near: WritableCache | None = None
        self.forget()

    def forget(self) -> None:
        """Make a new near cache next time."""
        if self._near is not None:
            near_caches.forget(self._near)
        self._near = None
        self.read: Callable[[str, Any], Any] = self._open_and_read
        self.read_many: Callable[[Iterable[str]], dict[str, Any]] = self._open_and_read_many

    def _open_and_read(self, name: str, default: Any) -> Any:
        return self.near.get(name, default)

    def _open_and_read_many(self, names: Iterable[str]) -> dict[str, Any]:
        return self.near.get_many(names)

    @property
    def is_open(self) -> bool:
        """Whether there is a near cache."""
        return self._near is not None

    @property
    def near(self) -> WritableCache:
        """The near cache. Each alias bounds what it stores (`MAX_ENTRIES`), so the near cache itself has no bound."""
        if (near := self._near) is not None:
            return near
        with self._lock.lock:
            if self._near is None:
                near = WritableCache(
                    runtime.bus(),
                    maxsize=math.inf,
                    guard=guards.guard(),
                    join_timeout=conf.join_timeout,
                    source=PlaceView(),
                )
                near.bus.start()  # the sooner, the less the first miss has to wait
                name = f"CACHES, location {self.location or '(default)'}"
                near_caches.register(Opened(near, name, self.location, only_loads=False))
                self._near = near
                self.read, self.read_many = near.get, near.get_many
            return self._near


_places: dict[str, Place] = {}


def place_of(location: str) -> Place:
    """Return the place of a LOCATION: one for the whole process."""
    place = _places.get(location)
    return place if place is not None else _places.setdefault(location, Place(location))


def _forget_all() -> None:
    for place in list(_places.values()):
        place.forget()


runtime.on_reset(_forget_all)


def place_tag(location: str) -> str:
    """Return the tag that every entry of a LOCATION carries, such as "django.cache:" for the default one."""
    try:
        return check_tag(f"{OWN_TAGS}{location}")
    except InvalidName:
        return f"{OWN_TAGS}~{digest(location)}"
