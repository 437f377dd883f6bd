"""
A panel for django-debug-toolbar: what the caches of this app did in a request.

    DEBUG_TOOLBAR_PANELS = [..., "django_integration.panels.InvalidatorPanel"]

It shows hits, misses, what was loaded and how long that took, the dependencies of each value, what the request
invalidated, and relations that it followed on cached rows, which their loaders could have loaded. Importing this needs
django-debug-toolbar; nothing else of the app does.

Rule 1: near caches are watched while a request with this panel on is in progress, and not otherwise (`observing.py`).
Rule 2: a request sees what it does itself, also in the threads of its `sync_to_async`, and nothing of other requests.
Rule 3: only so much is kept; the counts are of all.
"""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar, Token
from dataclasses import asdict
from typing import Any, cast

from debug_toolbar.panels import Panel
from django.http import HttpRequest, HttpResponse

from invalidator import Entry, NearCache

from . import near_caches, observing, runtime
from .copies import followed
from .copies.followed import Followed

MOST_SHOWN = 200
"""Events, and messages. A page may do more."""
NAMES_SHOWN = 20
"""Of an entry or a message."""


class _Record:
    """What one request did."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.events: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.load_ms = 0.0
        self.followed: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, what: str, near: NearCache, key: str, entry: Entry[Any] | None, seconds: float | None = None) -> None:
        self.counts[what] += 1
        self.load_ms += (seconds or 0) * 1000
        if len(self.events) < MOST_SHOWN:
            self.events.append(
                {
                    "what": what,
                    "key": key,
                    "cache": near_caches.name_of(near),
                    "ms": None if seconds is None else round(seconds * 1000, 2),
                    "age_s": None if entry is None else round(entry.age_s(near.bus.clock()), 3),
                    **_names("tags", () if entry is None else entry.tags),
                    "parts": 0 if entry is None else len(entry.parts),
                }
            )

    def published(self, keys: tuple[str, ...], tags: tuple[str, ...], everything: bool) -> None:
        self.counts["messages"] += 1
        if len(self.messages) < MOST_SHOWN:
            self.messages.append({"everything": everything, **_names("keys", keys), **_names("tags", tags)})

    def has_followed(self, relation: Followed) -> None:
        self.counts["followed"] += 1
        where = (relation.relation, relation.place)
        if where in self.followed or len(self.followed) < MOST_SHOWN:
            self.followed.setdefault(where, {**asdict(relation), "times": 0})["times"] += 1


def _names(what: str, names: tuple[str, ...]) -> dict[str, Any]:
    return {what: list(names[:NAMES_SHOWN]), f"more_{what}": max(0, len(names) - NAMES_SHOWN)}


_record: ContextVar[_Record | None] = ContextVar("invalidator_panel", default=None)


class _Watcher:
    """Writes into the record of the request that does it."""

    def hit(self, near: NearCache, key: str, entry: Entry[Any]) -> None:
        if (record := _record.get()) is not None:
            record.add("hit", near, key, entry)

    def missed(self, near: NearCache, key: str) -> None:
        if (record := _record.get()) is not None:
            record.add("miss", near, key, None)

    def loaded(self, near: NearCache, key: str, entry: Entry[Any] | None, seconds: float | None) -> None:
        if (record := _record.get()) is not None:
            what = "failed" if entry is None else "waited" if seconds is None else "load"
            record.add(what, near, key, entry, seconds)


_watcher = _Watcher()


def _publishing(keys: tuple[str, ...], tags: tuple[str, ...], everything: bool) -> None:
    if (record := _record.get()) is not None:
        record.published(keys, tags, everything)


def _following(relation: Followed) -> None:
    if (record := _record.get()) is not None:
        record.has_followed(relation)


class InvalidatorPanel(Panel):
    """See the module."""

    is_async = True
    title = "Near caches"
    template = "invalidator/panel.html"

    _recorded: _Record | None = None
    _token: Token[_Record | None] | None = None

    @property
    def nav_subtitle(self) -> str:
        """Under its name at the side."""
        counts = cast("dict[str, Any]", self.get_stats()).get("counts", {})  # type: ignore[no-untyped-call]
        return f"{counts.get('hit', 0)} hits, {counts.get('miss', 0)} misses, {counts.get('messages', 0)} invalidations"

    def enable_instrumentation(self) -> None:
        """Begin to watch, for this request."""
        self._recorded = _Record()
        self._token = _record.set(self._recorded)
        observing.watch(_watcher)
        runtime.publish_observers.append(_publishing)
        followed.listen(_following)

    def disable_instrumentation(self) -> None:
        """End that."""
        if self._token is None:
            return
        followed.end_listening(_following)
        runtime.publish_observers.remove(_publishing)
        observing.unwatch(_watcher)
        try:
            _record.reset(self._token)
        except ValueError:  # another context, which ends with its request
            _record.set(None)
        self._token = None

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:
        """Keep what was seen, for the page and the history."""
        if (record := self._recorded) is not None:
            self.record_stats(  # type: ignore[no-untyped-call]
                {
                    "counts": dict(record.counts),
                    "load_ms": round(record.load_ms, 2),
                    "events": record.events,
                    "messages": record.messages,
                    "followed": list(record.followed.values()),
                    "most": MOST_SHOWN,
                }
            )
