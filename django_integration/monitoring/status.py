"""
The state of this process as one JSON-ready dict: for the admin's page, for monitoring, for a shell.

Rule 1: looking changes nothing and connects to nothing. A process that has cached nothing yet does not listen; its
state is "idle". The first look at a process that listens makes it remember the invalidations that it receives from then
on.
Rule 2: it never raises. What cannot be found out (a setting that cannot work, a missing sidecar) stands in `problems`.
Rule 3: no password leaves this module.
"""

from __future__ import annotations

import os
import platform
import re
import socket
from collections import deque
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, TypedDict

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from invalidator import Invalidation, Invalidator, InvalidatorError, NearCache
from invalidator.extending import FreshLock

from .. import conf, near_caches, runtime
from ..backend import second_level
from ..backend.aliases import near_cache_aliases
from . import verifier

MOST_REMEMBERED = 50
"""Invalidations kept for the page."""
NAMES_REMEMBERED = 20
"""Of each kind and message; one may hold thousands."""

_PASSWORD = re.compile(r"(?<=:)[^:@/]*(?=@)|(?<=password=)[^&]*")
_LISTENING = frozenset({"connecting", "subscribing", "replaying", "live"})


class Process(TypedDict):
    """Which process answers: a server has several, and each has its own memory."""

    pid: int
    host: str
    at: str
    python: str
    django: str
    invalidator: str


class NearCacheStatus(TypedDict):
    """
    A near cache of this process.

    `aliases` and `location` are those of CACHES, and empty for the default near cache (`cache`, `cached`). `stats` is
    None while nothing was read or stored.
    """

    name: str
    aliases: list[str]
    location: str | None
    stats: dict[str, Any] | None


class Recent(TypedDict):
    """What was received since the first look, newest first; `since` is None where nothing is remembered."""

    since: str | None
    invalidations: list[dict[str, Any]]


class ProcessStatus(TypedDict):
    """See `look`."""

    process: Process
    problems: list[str]
    bus: dict[str, Any] | None
    near_caches: list[NearCacheStatus]
    second_levels: list[dict[str, Any]]
    recent: Recent
    verifier: dict[str, Any] | None
    settings: dict[str, Any]


def look() -> ProcessStatus:
    """Return the state of this process: plain values, ready for JSON."""
    problems: list[str] = []
    bus = _bus(problems)
    return {
        "process": {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "at": _now("seconds"),
            "python": platform.python_version(),
            "django": django.get_version(),
            "invalidator": version("invalidator"),
        },
        "problems": problems,
        "bus": _bus_status(bus),
        "near_caches": _near_caches(),
        "second_levels": [
            {field: getattr(level, field) for field in level.__dataclass_fields__} for level in second_level.statuses()
        ],
        "recent": _memory.recent(bus),
        "verifier": None if (report := verifier.report()) is None else report.as_dict(with_values=False),
        "settings": _settings(),
    }


def without_password(url: str) -> str:
    """Return *url* with `***` in the place of its password."""
    return _PASSWORD.sub("***", url)


def _bus(problems: list[str]) -> Invalidator | None:
    try:
        return runtime.bus()
    except (ImproperlyConfigured, InvalidatorError) as error:
        problems.append(without_password(str(error)))
        return None


def _bus_status(bus: Invalidator | None) -> dict[str, Any] | None:
    if bus is None:
        return None
    status = bus.status().as_dict()
    if status["last_error"]:
        status["last_error"] = without_password(status["last_error"])
    return status


def _near_caches() -> list[NearCacheStatus]:
    aliases: dict[str, list[str]] = {}
    for alias, params in near_cache_aliases().items():
        aliases.setdefault(params.get("LOCATION", ""), []).append(alias)
    return [
        _near_cache(near_caches.DEFAULT_NAME, [], None),
        *(_near_cache(f"CACHES: {', '.join(names)}", names, location) for location, names in aliases.items()),
    ]


def _near_cache(name: str, aliases: list[str], location: str | None) -> NearCacheStatus:
    return {"name": name, "aliases": aliases, "location": location, "stats": _stats(near_caches.at(location))}


def _stats(near: NearCache | None) -> dict[str, Any] | None:
    if near is None:
        return None
    stats = near.stats().as_dict()
    if stats["maxsize"] == float("inf"):
        stats["maxsize"] = None  # JSON has no infinity; each alias has its own MAX_ENTRIES
    return stats


def _settings() -> dict[str, Any]:
    given = conf.given()
    values = {
        name: given.get(name, None if option.is_required else option.default) for name, option in conf.KEYS.items()
    }
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: object) -> Any:
    if isinstance(value, str):
        return without_password(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value if isinstance(value, int | float | None) else str(value)


class _Memory:
    """The invalidations and flushes that this process applied last."""

    def __init__(self) -> None:
        self._lock = FreshLock()
        self._bus: Invalidator | None = None
        self._since: str | None = None
        self._received: deque[dict[str, Any]] = deque(maxlen=MOST_REMEMBERED)

    def recent(self, bus: Invalidator | None) -> Recent:
        """What was received on *bus*; from now on, if this is the first look."""
        with self._lock.lock:
            if bus is not self._bus:
                self._received.clear()
                self._since, self._bus = None, None
            if bus is not None and self._bus is None and bus.status().state in _LISTENING:
                self._bus, self._since = bus, _now()
                bus.on_invalidate(self._remember(bus))
        return {"since": self._since, "invalidations": list(self._received)[::-1]}

    def _remember(self, bus: Invalidator) -> Callable[[Invalidation], None]:
        def remember(applied: Invalidation) -> None:
            self._received.append(
                {
                    "at": _now(),
                    "type": applied.reason if applied.is_message else "flush",
                    "reason": None if applied.is_message else applied.reason,
                    "keys": list(applied.keys[:NAMES_REMEMBERED]),
                    "tags": list(applied.tags[:NAMES_REMEMBERED]),
                    "more": max(0, len(applied.keys) - NAMES_REMEMBERED) + max(0, len(applied.tags) - NAMES_REMEMBERED),
                    "local": applied.node == bus.node,
                    "id": applied.id,
                }
            )

        return remember


def _now(precision: str = "milliseconds") -> str:
    now = timezone.now()
    return (timezone.localtime(now) if settings.USE_TZ else now).isoformat(timespec=precision)


_memory = _Memory()
