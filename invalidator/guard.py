"""
A guard for values that are handed out live: was one changed by somebody who only had to read it?

Such a value is looked through when it is stored, and again at a share of its hits. One that has changed is evicted, so
that the caller loads it anew, and reported with the part that differs and the place in the code to which it was handed
out last: whoever changed it had it from there, or from before.

Rule 1: only what is handed out live and can be changed is watched. Its hits take the slow path; those of all others
cost what they cost without a guard.
Rule 2: what an object computes once and keeps (a cached property, a deferred column) is no change.
Rule 3: an error of the guard never reaches a reader.
"""

from __future__ import annotations

import logging
import pickle
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from .config import GUARD
from .copying import Kept, is_unchanging, may_appear, parts_of
from .entry import NOT_LOOKED_AT, AnyEntry, Entry
from .ledger import NEVER
from .variants import is_variant, name_of

log = logging.getLogger("invalidator.guard")

MOST_PARTS = 10_000
"""In one value; a larger one is not watched."""


@dataclass(frozen=True, slots=True)
class Changed:
    """
    A value that was handed out live, and changed.

    Attributes:
        key: of its entry.
        where: the first part that differs, such as `['rows'][3].price`; "" for the value itself.
        handed_out_at: where in the code it was handed out last: "file:line".
        type: its class.
    """

    key: str
    where: str
    handed_out_at: str
    type: str


class Guard:
    """
    Args:
        share: of the hits at which a value is looked at again: from 0 to 1, or True.
        on_change: called with each `Changed`, in the thread or task of the reader. What it raises is logged.
        packages: top-level packages in which no place in the code is looked for.

    Raises:
        InvalidSetting: *share* cannot work.

    Attributes:
        changes: how many were found.
    """

    def __init__(
        self,
        share: float = 1.0,
        on_change: Callable[[Changed], object] | None = None,
        *,
        packages: Iterable[str] = (),
    ) -> None:
        GUARD.validate("guard", share)
        self.share = share
        self.changes = 0
        self._on_change = on_change
        self._packages = frozenset((__name__.partition(".")[0], *packages))

    def watch(self, entry: AnyEntry) -> AnyEntry:
        """Return what to store for *entry*: itself, if there is nothing to watch."""
        if not _is_live(entry):
            return entry
        try:
            seen = look_through(entry.value)
            if seen is None or seen != look_through(entry.value):
                return entry  # too much of it, or another text each time
        except Exception:
            log.exception("guard_failed type=%s", _name(entry.value))
            return entry
        return GuardedEntry(entry, seen, self._place())

    def holds(self, key: str, entry: AnyEntry) -> bool:
        """Whether *entry*, which its caller is about to be given, is not known to have changed."""
        if type(entry) is not GuardedEntry:
            return True
        if random.random() < self.share:
            try:
                where = difference(entry.seen, entry.value)
            except Exception:
                log.exception("guard_failed key=%r", key)
                return True
            if where is not None:
                name = name_of(key) if is_variant(key) else key
                self._report(Changed(name, where, entry.handed_out_at, _name(entry.value)))
                return False
        entry.handed_out_at = self._place()
        return True

    def _report(self, changed: Changed) -> None:
        self.changes += 1
        log.warning(
            "value_changed key=%r where=%r handed_out_at=%r type=%s remedy=%r",
            *(changed.key, changed.where, changed.handed_out_at, changed.type),
            'do not change what is handed out live, or cache it with copy="clone"',
        )
        if self._on_change is not None:
            try:
                self._on_change(changed)
            except Exception:
                log.exception("on_change callback failed key=%r", changed.key)

    def _place(self) -> str:
        """The code that called the cache."""
        frame = sys._getframe(1)  # noqa: SLF001 - `inspect.stack` reads the sources
        while frame.f_back is not None and self._is_own(frame.f_globals.get("__name__", "")):
            frame = frame.f_back
        return f"{frame.f_code.co_filename}:{frame.f_lineno}"

    def _is_own(self, module: str) -> bool:
        return module.partition(".")[0] in self._packages


def guard_of(guard: Guard | float) -> Guard | None:
    """Return the guard that an option stands for: a share, True for all hits, 0 for none."""
    if isinstance(guard, Guard):
        return guard
    return Guard(guard) if guard else None


class GuardedEntry(Entry[Any]):
    """
    Stands in for an entry that is watched. The quick check never finds it valid, so that every hit comes by the guard.

    Attributes:
        seen: what was in its value when it was stored.
        handed_out_at: where in the code it was handed out last.
    """

    __slots__ = ("handed_out_at", "seen")

    def __init__(self, entry: AnyEntry, seen: Seen, place: str) -> None:
        self.value = entry.value
        self.seen = seen
        self.handed_out_at = place
        self._stand_in(entry)

    @property
    def changes(self) -> int:
        """None that a ledger has."""
        return NOT_LOOKED_AT

    @changes.setter
    def changes(self, value: int) -> None: ...

    @property
    def floor(self) -> int:
        """None that lets stamps pass."""
        return NEVER

    @floor.setter
    def floor(self, value: int) -> None: ...


def _is_live(entry: AnyEntry) -> bool:
    """Whether a reader is handed out what others are, and could change it."""
    return type(entry) is Entry and type(entry.value) is not Kept and not is_unchanging(entry.value)


# Looking through a value.

Path: TypeAlias = "tuple[Any, ...]"
"""() for the value itself, else the path of what a part is in, its name there, and whether that is an attribute."""
Seen: TypeAlias = "dict[Path, int]"


def look_through(value: Any) -> Seen | None:
    """Return a number for each part of *value*, which is another one if the part has changed; None if it is too big."""
    seen: Seen = {}
    met: set[int] = set()
    ahead: list[tuple[Path, Any]] = [((), value)]
    while ahead:
        path, at = ahead.pop()
        found = parts_of(at)
        if found is None or issubclass(type(at), set | frozenset):
            seen[path] = _number(at)
        else:
            seen[path] = hash(type(at))
            if id(at) not in met:
                met.add(id(at))
                ahead += reversed([((path, name, found[1]), part) for name, part in found[0]])
        if len(seen) + len(ahead) > MOST_PARTS:
            return None
    return seen


def difference(seen: Seen, value: Any) -> str | None:
    """Return where *value* differs from what was *seen* in it; None if it does not, or if nobody can tell."""
    now = look_through(value)
    if now is None:
        return ""
    for path, number in seen.items():
        if now.get(path) != number:
            return _text(path)
    for path in now:
        if path not in seen and not may_appear(_at(value, path[0]), path[1]):
            return _text(path)
    return None


def _number(value: Any) -> int:
    try:
        if issubclass(type(value), set):
            return hash(frozenset(value))
        if is_unchanging(value):
            return hash((type(value), value))
    except TypeError:  # it has no hash
        return id(value)
    try:
        return hash(pickle.dumps(value))
    except Exception:  # noqa: BLE001 - nobody can look into it
        return id(value)


def _at(value: Any, path: Path) -> Any:
    """The part of *value* at *path*."""
    if not path:
        return value
    outer = _at(value, path[0])
    found = parts_of(outer)
    return None if found is None else next((part for name, part in found[0] if name == path[1]), None)


def _text(path: Path) -> str:
    if not path:
        return ""
    before, name, is_attribute = path
    return f"{_text(before)}.{name}" if is_attribute else f"{_text(before)}[{name!r}]"


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
