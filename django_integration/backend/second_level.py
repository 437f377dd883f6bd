"""
A second level: another Django cache, shared by all servers, in which the values live of which the backend keeps near
copies.

Two kinds of names are published for a value: its key, when the source changed (`delete`, `invalidate`): nothing that
was read before may be used; and the tag of its copies (`copies_tag`), when a new value was written into the second
level (`set`, `incr`, `touch`): the near copies are old, the second level is right.

Rule 1: a near copy counts from before the second level was read.
Rule 2: commit, then the second level, then tell. Who hears of it reads the second level after the change.
Rule 3: a fill adds, and never overwrites: what was computed from an old source cannot replace what was written since.
Rule 4: a fill that read the source before an invalidation and arrives after its delete is taken back, by who filled:
a lease proof that began GRACE_NS after the fill shows every invalidation that was accepted up to then. If there is one,
the value is deleted and its name told again; unless what lies there now is surely another value: what was written
meanwhile must not be lost.
Rule 5: who needed longer than GRACE_NS from the delete until the invalidation was accepted looks again, and deletes and
tells again whatever came in between.
Rule 6: an outage of the second level makes reads miss and fills stay near; a write raises, after everybody was told,
and the delete that it owes is made up for as soon as possible. Nothing fails that does not write.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from invalidator import Invalidator, Receipt

from .. import runtime
from ..transactions.view import has_changed, has_written
from .settling import GRACE_NS, MOST_PENDING, Fill, Look, Owed, settler

logger = logging.getLogger(__name__)

NEAR_TIMEOUT_S = 10.0
"""Only the second level knows when a value expires that another server has stored: so long it may be served beyond."""

_MISSING: Any = object()
_REFUSALS = (ValueError, TypeError, AttributeError, pickle.PickleError)
"""What a cache raises for a key or value that it cannot take; nothing was written."""


@dataclass(frozen=True, slots=True)
class L2Status:
    """
    How a second level is doing, as far as this process knows.

    Attributes:
        alias: of the cache.
        reachable: whether the last operation worked.
        errors: how many did not.
        last_error: the last of them.
        unproven: fills that may still be taken back, looks and deletes that are still to be made.
        taken_back: fills that came too late and were deleted.
    """

    alias: str
    reachable: bool
    errors: int
    last_error: str | None
    unproven: int
    taken_back: int


class SecondLevel:
    """
    The cache *alias* below one LOCATION, in this process.

    Args:
        alias: in CACHES.
        place_tag: the tag of everything in the LOCATION.
        near_timeout: seconds, see NEAR_TIMEOUT_S.
    """

    def __init__(self, alias: str, place_tag: str, near_timeout: float) -> None:
        self.alias = alias
        self.place_tag = place_tag
        self.near_timeout = near_timeout
        self.errors = 0
        self.taken_back = 0
        self.last_error: str | None = None
        self._is_down = False
        self._expires_at: dict[str, int] = {}  # of what this process has stored last, so that it need not guess

    @staticmethod
    def of(options: Mapping[str, Any], place_tag: str) -> SecondLevel:
        """The one for these OPTIONS. Raises ImproperlyConfigured if there is no such alias."""
        alias, near_timeout = options["L2"], options.get("NEAR_TIMEOUT", NEAR_TIMEOUT_S)
        if alias not in settings.CACHES:
            raise ImproperlyConfigured(f"OPTIONS['L2'] must be an alias in CACHES; there is no {alias!r}")
        if not isinstance(near_timeout, int | float) or not near_timeout > 0:
            raise ImproperlyConfigured(f"OPTIONS['NEAR_TIMEOUT'] must be seconds above 0, not {near_timeout!r}")
        key = (alias, place_tag, float(near_timeout))
        level = _levels.get(key)
        return level if level is not None else _levels.setdefault(key, SecondLevel(*key))

    @property
    def cache(self) -> BaseCache:
        """The cache itself, that of this thread or task."""
        return caches[self.alias]

    @property
    def bus(self) -> Invalidator:
        """Who is told."""
        return runtime.bus()

    @staticmethod
    def copies_tag(name: str) -> str:
        """The tag of the near copies of a value."""
        return f"copy:{name}"

    def status(self) -> L2Status:
        """How it is doing. Cheap: no I/O."""
        return L2Status(
            self.alias,
            reachable=not self._is_down,
            errors=self.errors,
            last_error=self.last_error,
            unproven=settler.waiting(self),
            taken_back=self.taken_back,
        )

    def near_ttl(self, name: str) -> float:
        """How long a near copy may be served of a value that was just read."""
        expires_at = self._expires_at.get(name)
        if expires_at is None:
            return self.near_timeout
        return min(self.near_timeout, max(0.0, (expires_at - self.bus.clock()) / 1e9))

    def _will_expire(self, names: Iterable[str], ttl: float | None) -> None:
        """This process has stored *names*."""
        for name in names:
            self._expires_at.pop(name, None)
            if ttl is not None:
                self._expires_at[name] = self.bus.clock() + int(ttl * 1e9)
        while len(self._expires_at) > MOST_PENDING:
            with contextlib.suppress(KeyError, StopIteration, RuntimeError):  # another thread was quicker
                del self._expires_at[next(iter(self._expires_at))]

    # Reading.

    def get(self, name: str, default: Any) -> Any:
        """Return the value, or *default* if there is none, it cannot be read, or it is past for the caller."""
        if self._is_changed(name):
            return default
        return self._try(lambda: self.cache.get(name, default), default)

    def get_many(self, names: list[str]) -> dict[str, Any]:
        """Return those values that are there, can be read, and are not past for the caller."""
        names = [name for name in names if not self._is_changed(name)]
        found: dict[str, Any] = self._try(lambda: self.cache.get_many(names), {})
        return found

    def _is_changed(self, name: str) -> bool:
        return has_changed(name, (self.place_tag, self.copies_tag(name)))

    # Filling.

    def fill(self, name: str, value: Any, kept: Any, ttl: float | None, since: int) -> Any:
        """
        Add *value*, computed from the source after *since*; *kept* is what is kept of it. Returns the value to go on
        with: another, if somebody was quicker.
        """
        if self.add_fill(name, value, kept, ttl, since) is not False or ttl == 0:
            return value
        return self.get(name, value)

    def add_fill(self, name: str, value: Any, kept: Any, ttl: float | None, since: int) -> bool | None:
        """Add *value*. Returns whether it was added; None if nobody knows, or it may not be."""
        if has_written():  # in a transaction, of which it may tell
            return None
        if ttl == 0 or settler.is_full() or self.bus.was_invalidated((name,), (self.place_tag,), since=since):
            return None
        added: bool | None = self._try(lambda: self.cache.add(name, value, _seconds(ttl)), None)
        if added is not False:  # with an error in between, it may be there
            settler.watch(Fill(self, name, kept, since, self.bus.clock()))
            self._will_expire([name], ttl)
        return added

    # Writing.

    def set_many(self, values: Mapping[str, Any], ttl: float | None) -> None:
        """Write new values."""

        def write() -> None:
            if len(values) == 1:
                for name, value in values.items():
                    self.cache.set(name, value, _seconds(ttl))
            elif ttl == 0:
                self.cache.delete_many(list(values))  # some of Django's own cannot set many for no time
            elif failed := self.cache.set_many(dict(values), _seconds(ttl)):
                raise ConnectionError(f"{self.alias} did not store {len(failed)} of {len(values)} values")

        names = list(values)
        try:
            self._call(write)
        except _REFUSALS:
            raise
        except Exception:
            self._owe(names)
            self.bus.announce(*names)()
            raise
        self._will_expire(names, ttl)
        self._tell_copies(names)

    def add(self, name: str, value: Any, ttl: float | None) -> bool:
        """Add a new value."""
        added: bool = self._call(lambda: self.cache.add(name, value, _seconds(ttl)))
        if added:
            self._will_expire([name], ttl)
            self._tell_copies([name])
        return added

    def touch(self, name: str, ttl: float | None) -> bool:
        """Change when a value expires."""
        touched: bool = self._call(lambda: self.cache.touch(name, _seconds(ttl)))
        if touched:
            self._will_expire([name], ttl)
            self._tell_copies([name])
        return touched

    def incr(self, name: str, delta: int) -> int:
        """Add to a number. Raises ValueError if there is none."""
        try:
            value: int = self._call(lambda: self.cache.incr(name, delta))
        except _REFUSALS:
            raise
        except Exception:
            self._tell_copies([name])  # it may have been added
            raise
        self._tell_copies([name])
        return value

    def delete(self, name: str) -> bool:
        """Delete a value."""
        begun = self.bus.clock()
        try:
            was_there: bool = self._call(lambda: self.cache.delete(name))
        except Exception:
            self._owe([name])
            self.bus.announce(name)()
            raise
        self.look_again([name], self.bus.announce(name)(), begun)
        return was_there

    def delete_many(self, names: list[str]) -> None:
        """Delete values."""
        begun = self.bus.clock()
        try:
            self._call(lambda: self.cache.delete_many(names))
        except Exception:
            self._owe(names)
            self.bus.announce(*names)()
            raise
        self.look_again(names, self.bus.announce(*names)(), begun)

    def clear(self) -> None:
        """Empty it: as ever in Django, all of the cache, whoever uses it."""
        self._call(self.cache.clear)
        self.bus.announce(tags=(self.place_tag,))()
        # With the bus in the same Redis database, its journal is gone as well: this was its first entry again.

    def forget(self, names: list[str]) -> None:
        """Delete values, before others are told by the caller. Never raises: what cannot be deleted now is owed."""
        try:
            self._call(lambda: self.cache.delete_many(names))
        except Exception:  # noqa: BLE001 - reported by _call
            self._owe(names)

    def forget_everything(self) -> None:
        """Empty it, before others are told by the caller. Never raises."""
        try:
            self._call(self.cache.clear)
        except Exception:  # noqa: BLE001 - reported by _call
            settler.watch(Owed(self, ()))

    def look_again(self, names: list[str], receipt: Receipt, begun: int) -> None:
        """*names* were deleted after *begun*. If telling took long, see, once it is done, what came in between."""
        if not receipt.accepted or self.bus.clock() - begun >= GRACE_NS:
            settler.watch(Look(self, tuple(names), receipt))

    def take_back(self, names: Iterable[str]) -> None:
        """Delete what came too late, and tell everybody: somebody may have read it."""
        names = list(names)
        self._call(lambda: self.cache.delete_many(names))
        self.taken_back += len(names)
        self.bus.announce(*names)()

    def empty(self) -> None:
        """Make up for a `clear` that failed."""
        self._call(self.cache.clear)
        self.bus.announce(tags=(self.place_tag,))()

    def _owe(self, names: list[str]) -> None:
        settler.watch(Owed(self, tuple(names)))

    def _tell_copies(self, names: Iterable[str]) -> None:
        self.bus.announce(tags=[self.copies_tag(name) for name in names])()

    def _try(self, call: Callable[[], Any], default: Any) -> Any:
        try:
            return self._call(call)
        except Exception:  # noqa: BLE001 - a cache that is away is a cache without the value; reported by _call
            return default

    def _call(self, call: Callable[[], Any]) -> Any:
        """Call, and report when an outage begins and ends."""
        try:
            result = call()
        except _REFUSALS:
            raise
        except Exception as error:
            self.errors += 1
            self.last_error = f"{type(error).__name__}: {error}"
            if not self._is_down:
                self._is_down = True
                logger.error("second_level_down alias=%s error=%s", self.alias, self.last_error)  # noqa: TRY400
            raise
        if self._is_down:
            self._is_down = False
            logger.warning("second_level_up alias=%s errors=%d", self.alias, self.errors)
        return result


_levels: dict[tuple[str, str, float], SecondLevel] = {}


def _seconds(ttl: float | None) -> float | None:
    return int(ttl) if ttl is not None and ttl == int(ttl) else ttl


def statuses() -> list[L2Status]:
    """How the second levels used by this process are doing."""
    return [level.status() for level in list(_levels.values())]


@functools.cache
def _configured() -> tuple[SecondLevel, ...]:
    """Every second level in CACHES, whether this process has used it or not."""
    # A backend with the option L2 may be anybody's; ours has this attribute.
    aliases = [alias for alias, params in settings.CACHES.items() if params.get("OPTIONS", {}).get("L2")]
    levels = [level for alias in aliases if (level := getattr(caches[alias], "second_level", None)) is not None]
    return tuple({level.alias: level for level in levels}.values())


class _AllSecondLevels:
    """The `SharedStore` of this process' bus."""

    def is_used(self) -> bool:
        """Whether there is any second level in CACHES."""
        return bool(_configured())

    def delete(self, keys: Sequence[str]) -> None:
        """Delete *keys*, which are about to be published, from every second level. Never raises."""
        for level in _configured():
            level.forget(list(keys))

    def check_again(self, keys: Sequence[str], receipt: Receipt, begun: int) -> None:
        """*keys* were published; that began then, a time of the bus' clock."""
        for level in _configured():
            level.look_again(list(keys), receipt, begun)

    def delete_all(self) -> None:
        """Empty every second level: a clear is about to be published. Never raises."""
        for level in _configured():
            level.forget_everything()


_all_second_levels = _AllSecondLevels()


def install() -> None:
    """Let the bus delete from second levels what it is about to publish."""
    runtime.add_shared_store(_all_second_levels)


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting == "CACHES":
        _configured.cache_clear()


setting_changed.connect(_on_setting_changed, dispatch_uid="invalidator.l2")
