"""
A second level: another Django cache, shared by all servers. The values live there, and the backend keeps near copies.

Two kinds of names are published for a value. Its key, when the source has changed (`delete`, `invalidate`): nothing
that was read before may be used. And the tag of its near copies (`copies_tag`), when a new value was written into the
second level (`set`, `incr`, `touch`): the near copies are stale, and the second level has the value.

Rule 1: a near copy is treated as loaded before the second level was read.
Rule 2: the order is commit, second level, publish. A process that receives the message finds the change in the second
level.
Rule 3: a fill adds, and never overwrites: what was computed from an old source cannot replace what was written since.
Rule 4: a fill that read the source before an invalidation, and arrives after the invalidation's delete, is taken back
by the process that filled. A lease proof that began GRACE_NS after the fill shows it every invalidation that was
accepted up to then. If one of them has the name, the process deletes the value and publishes the name again; unless
what lies there now is surely another value, written meanwhile, which must not be lost.
Rule 5: if an invalidation is accepted later than GRACE_NS after its delete, its process checks the second level again,
deletes what was stored in between, and publishes again.
Rule 6: while the second level is away, reads miss and fills stay near. A write publishes, and then raises; the delete
that it could not make is made as soon as possible. Nothing but a write raises.
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
from ..transactions import in_tests
from ..transactions.view import has_changed, has_written
from .settling import GRACE_NS, MOST_PENDING, OwedDelete, Recheck, UnprovenFill, settler

logger = logging.getLogger(__name__)

NEAR_TIMEOUT_S = 10.0
"""
How long a near copy is served of a value that another process has stored: only the second level knows when it expires.
"""

_MISSING: Any = object()
_REFUSALS = (ValueError, TypeError, AttributeError, pickle.PickleError)
"""What a cache raises for a key or value that it cannot store; nothing was written."""


@dataclass(frozen=True, slots=True)
class L2Status:
    """
    How a second level is doing, as far as this process knows.

    Attributes:
        alias: of the cache.
        reachable: whether the last operation worked.
        errors: how many did not.
        last_error: the last of them.
        unproven: fills that may still be taken back, and deletes that are still to be made or checked.
        taken_back: values that were deleted later than their invalidation: fills that came too late, and values that
            could not be deleted at once.
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
        self._expires_at: dict[str, int] = {}  # of the values that this process has stored last

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
        """The bus on which its names are published."""
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
        """How many seconds a near copy may be served of a value that was just read."""
        expires_at = self._expires_at.get(name)
        if expires_at is None:
            return self.near_timeout
        return min(self.near_timeout, max(0.0, (expires_at - self.bus.clock()) / 1e9))

    def _note_expiry(self, names: Iterable[str], ttl: float | None) -> None:
        """This process has stored *names*, for *ttl* seconds."""
        for name in names:
            self._expires_at.pop(name, None)
            if ttl is not None:
                self._expires_at[name] = self.bus.clock() + int(ttl * 1e9)
        while len(self._expires_at) > MOST_PENDING:
            with contextlib.suppress(KeyError, StopIteration, RuntimeError):  # another thread was quicker
                del self._expires_at[next(iter(self._expires_at))]

    # Reading.

    def get(self, name: str, default: Any) -> Any:
        """
        Return the value, or *default* if there is none, it cannot be read, or the caller's transaction has changed it.
        """
        if self._is_changed(name):
            return default
        return self._try(lambda: self.cache.get(name, default), default)

    def get_many(self, names: list[str]) -> dict[str, Any]:
        """Return the values of those *names* for which `get` would find one."""
        names = [name for name in names if not self._is_changed(name)]
        found: dict[str, Any] = self._try(lambda: self.cache.get_many(names), {})
        return found

    def find(self, names: list[str]) -> dict[str, Any]:
        """Return what lies there under *names*, whoever may read it. Raises what the cache raises."""
        found: dict[str, Any] = self._call(lambda: self.cache.get_many(names)) if names else {}
        return found

    def _is_changed(self, name: str) -> bool:
        return has_changed(name, (self.place_tag, self.copies_tag(name)))

    # Filling.

    def fill(self, name: str, value: Any, kept: Any, ttl: float | None, since: int) -> Any:
        """
        Add *value*, which was computed from the source after *since*; *kept* is what the near cache keeps of it.

        Returns:
            the value to go on with: another one, if another process was quicker.
        """
        if self.add_fill(name, value, kept, ttl, since) is not False or ttl == 0:
            return value
        return self.get(name, value)

    def add_fill(self, name: str, value: Any, kept: Any, ttl: float | None, since: int) -> bool | None:
        """Add *value*. Returns whether it was added; None if that is not known, or if it may not be added."""
        if has_written():  # the value may hold what this thread's transaction has not committed
            return None
        if ttl == 0 or settler.is_full() or self.bus.was_invalidated((name,), (self.place_tag,), since=since):
            return None
        added: bool | None = self._try(lambda: self.cache.add(name, value, _seconds(ttl)), None)
        if added is not False:  # None: the call has failed, and the value may be there all the same
            settler.add(UnprovenFill(self, name, kept, since, self.bus.clock()))
            self._note_expiry([name], ttl)
        return added

    # Writing.

    def set_many(self, values: Mapping[str, Any], ttl: float | None) -> None:
        """Write new values."""

        def write() -> None:
            if len(values) == 1:
                for name, value in values.items():
                    self.cache.set(name, value, _seconds(ttl))
            elif ttl == 0:
                self.cache.delete_many(list(values))  # some of Django's own caches cannot set many with a timeout of 0
            elif failed := self.cache.set_many(dict(values), _seconds(ttl)):
                raise ConnectionError(f"{self.alias} did not store {len(failed)} of {len(values)} values")

        names = list(values)
        try:
            self._call(write)
        except _REFUSALS:
            raise
        except Exception:
            self._owe_delete(names)
            self.bus.announce(*names)()
            raise
        self._note_expiry(names, ttl)
        self._invalidate_copies(names)

    def add(self, name: str, value: Any, ttl: float | None) -> bool:
        """Write a new value, unless there is one. Returns whether it was written."""
        added: bool = self._call(lambda: self.cache.add(name, value, _seconds(ttl)))
        if added:
            self._note_expiry([name], ttl)
            self._invalidate_copies([name])
        return added

    def touch(self, name: str, ttl: float | None) -> bool:
        """Change when a value expires. Returns whether there is one."""
        touched: bool = self._call(lambda: self.cache.touch(name, _seconds(ttl)))
        if touched:
            self._note_expiry([name], ttl)
            self._invalidate_copies([name])
        return touched

    def incr(self, name: str, delta: int) -> int:
        """Add to a number. Raises ValueError if there is none."""
        try:
            value: int = self._call(lambda: self.cache.incr(name, delta))
        except _REFUSALS:
            raise
        except Exception:
            self._invalidate_copies([name])  # the second level may have done it all the same
            raise
        self._invalidate_copies([name])
        return value

    def delete(self, name: str) -> bool:
        """Delete a value. Returns whether there was one."""
        begun = self.bus.clock()
        try:
            was_there: bool = self._call(lambda: self.cache.delete(name))
        except Exception:
            self._owe_delete([name])
            self.bus.announce(name)()
            raise
        self.check_again([name], self.bus.announce(name)(), begun)
        return was_there

    def delete_many(self, names: list[str]) -> None:
        """Delete values."""
        begun = self.bus.clock()
        try:
            self._call(lambda: self.cache.delete_many(names))
        except Exception:
            self._owe_delete(names)
            self.bus.announce(*names)()
            raise
        self.check_again(names, self.bus.announce(*names)(), begun)

    def clear(self) -> None:
        """Delete everything: as ever in Django, all of the cache, whoever else uses it."""
        self._call(self.cache.clear)
        # If the bus is in the same Redis database, its journal was deleted, too, and this becomes its first entry.
        self.bus.announce(tags=(self.place_tag,))()

    def delete_or_owe(self, names: list[str]) -> None:
        """Delete values whose names the caller is about to publish. Never raises: a delete that fails is made later."""
        try:
            self._call(lambda: self.cache.delete_many(names))
        except Exception:  # noqa: BLE001 - reported by _call
            self._owe_delete(names)

    def clear_or_owe(self) -> None:
        """Delete everything, for a clear that the caller is about to publish. Never raises."""
        try:
            self._call(self.cache.clear)
        except Exception:  # noqa: BLE001 - reported by _call
            self._owe_delete(())

    def check_again(self, names: list[str], receipt: Receipt, begun: int) -> None:
        """*names* were deleted after *begun*, and published. Check them again (rule 5) if that took long."""
        if not receipt.accepted or self.bus.clock() - begun >= GRACE_NS:
            settler.add(Recheck(self, tuple(names), receipt))

    def take_back(self, names: Iterable[str]) -> None:
        """Delete values that came too late, and publish their names: other processes may have read them."""
        names = list(names)
        self._call(lambda: self.cache.delete_many(names))
        self.taken_back += len(names)
        self.bus.announce(*names)()

    def _owe_delete(self, names: Iterable[str]) -> None:
        settler.add(OwedDelete(self, tuple(names)))

    def _invalidate_copies(self, names: Iterable[str]) -> None:
        self.bus.announce(tags=[self.copies_tag(name) for name in names])()

    def _try(self, call: Callable[[], Any], default: Any) -> Any:
        try:
            return self._call(call)
        except Exception:  # noqa: BLE001 - reported by _call; a cache that is away has no value
            return default

    def _call(self, call: Callable[[], Any]) -> Any:
        """Call, and log when an outage begins and ends."""
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
    # Other backends, too, may have an option named L2; ours has this attribute.
    aliases = [alias for alias, params in settings.CACHES.items() if params.get("OPTIONS", {}).get("L2")]
    levels = [level for alias in aliases if (level := getattr(caches[alias], "second_level", None)) is not None]
    return tuple({level.alias: level for level in levels}.values())


def _used() -> tuple[SecondLevel, ...]:
    """Those of `_configured` that hold values of this process now: none, inside a TestCase (`backend.py`)."""
    return () if in_tests.is_open() else _configured()


class _AllSecondLevels:
    """The `SharedStore` of this process' bus."""

    def is_used(self) -> bool:
        """Whether there is any second level in CACHES."""
        return bool(_used())

    def delete(self, keys: Sequence[str]) -> None:
        """Delete *keys*, which are about to be published, from every second level. Never raises."""
        for level in _used():
            level.delete_or_owe(list(keys))

    def check_again(self, keys: Sequence[str], receipt: Receipt, begun: int) -> None:
        """*keys* were deleted after *begun*, a time of the bus' clock, and published."""
        for level in _used():
            level.check_again(list(keys), receipt, begun)

    def delete_all(self) -> None:
        """Delete everything from every second level: a clear is about to be published. Never raises."""
        for level in _used():
            level.clear_or_owe()


_all_second_levels = _AllSecondLevels()


def install() -> None:
    """Let the bus delete from second levels what it is about to publish."""
    runtime.add_shared_store(_all_second_levels)


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting == "CACHES":
        _configured.cache_clear()


setting_changed.connect(_on_setting_changed, dispatch_uid="invalidator.l2")
