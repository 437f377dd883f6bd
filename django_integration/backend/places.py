"""One LOCATION of the cache backend in this process: its near cache, its tag, and the names of its keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from invalidator import InvalidName, NearCache
from invalidator.extending import FreshLock, check_tag

from .. import observing, runtime
from ..transactions.view import TransactionView
from .keys import digest


class Place:
    """
    One LOCATION in this process: a near cache, made on first use and anew when the setting INVALIDATOR has changed.

    Attributes:
        tag: what a `clear` invalidates; every entry carries it.
        read, read_many: those of the near cache.
        made: the full names of keys, by prefix and version.
    """

    def __init__(self, location: str) -> None:
        self.tag = place_tag(location)
        self.tags = (self.tag,)
        self.made: dict[tuple[str, object], dict[str, str]] = {}
        self._lock = FreshLock()
        self._near: NearCache | None = None
        self.forget()

    def forget(self) -> None:
        """Make a new near cache next time."""
        self._near = None
        self.read: Callable[[str, Any], Any] = self._open_and_read
        self.read_many: Callable[[Iterable[str]], dict[str, Any]] = self._open_and_read_many

    def bind(self) -> None:
        """Read as the near cache does now: its class changes while somebody looks, see `observing.py`."""
        if (near := self._near) is not None:
            self.read, self.read_many = near.get, near.get_many

    def _open_and_read(self, name: str, default: Any) -> Any:
        return self.near.get(name, default)

    def _open_and_read_many(self, names: Iterable[str]) -> dict[str, Any]:
        return self.near.get_many(names)

    @property
    def is_open(self) -> bool:
        """Whether there is a near cache."""
        return self._near is not None

    @property
    def near(self) -> NearCache:
        """The near cache. How much it may hold is for each alias to say, so it has no bound of its own."""
        if (near := self._near) is not None:
            return near
        with self._lock:
            if self._near is None:
                near = NearCache(runtime.bus(), maxsize=math.inf, source=TransactionView(tags_tell=False))
                near.bus.start()  # the sooner there is a lease, the fewer first fills are void
                self._near = observing.made(near, f"CACHES: {self.tag}", has_loaders_only=False)
                self.bind()
            return self._near


places: dict[str, Place] = {}


def _forget_all() -> None:
    for place in list(places.values()):
        place.forget()


def _bind_all() -> None:
    for place in list(places.values()):
        place.bind()


runtime.on_reset(_forget_all)
observing.on_change(_bind_all)


def near_caches() -> dict[str, NearCache]:
    """Return the near caches that this process has opened, by LOCATION. Opens none."""
    return {location: place.near for location, place in list(places.items()) if place.is_open}


def place_tag(location: str) -> str:
    """Return the tag that every entry of a LOCATION carries, such as "django.cache:" for the default one."""
    try:
        return check_tag(f"django.cache:{location}")
    except InvalidName:
        return f"django.cache:~{digest(location)}"
