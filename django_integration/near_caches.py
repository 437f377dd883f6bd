"""
The near caches that this app has opened in this process, in one list: for observers, the status page, and explanations.

Whoever makes a near cache registers it, and forgets it when its bus is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from invalidator import NearCache

DEFAULT_NAME = "cache, cached"


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """
    One near cache.

    Attributes:
        name: what people call it.
        location: the LOCATION in CACHES whose values it holds; None for the default near cache.
        only_loads: whether each of its values was returned by a loader; if not, values may be set as well.
    """

    near: NearCache
    name: str = DEFAULT_NAME
    location: str | None = None
    only_loads: bool = True


_opened: dict[int, Opened] = {}
_on_register: list[Callable[[Opened], object]] = []


def register(opened: Opened) -> None:
    """A near cache was made."""
    _opened[id(opened.near)] = opened
    for callback in _on_register:
        callback(opened)


def forget(near: NearCache) -> None:
    """A near cache is used no more: its bus is about to be closed."""
    _opened.pop(id(near), None)


def on_register(callback: Callable[[Opened], object]) -> None:
    """Call *callback* with each near cache that is registered from now on."""
    _on_register.append(callback)


def opened() -> list[Opened]:
    """Return those that are in use, in the order in which they were made."""
    return list(_opened.copy().values())


def at(location: str | None) -> NearCache | None:
    """Return the near cache of a LOCATION, or with None the default one, if it is in use."""
    return next((each.near for each in opened() if each.location == location), None)


def name_of(near: NearCache) -> str:
    """What people call *near*; "" if it is not in use any more."""
    found = _opened.get(id(near))
    return found.name if found is not None else ""
