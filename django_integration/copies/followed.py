"""
Relations that readers follow: each is a query of the reader's own, at each hit.

Django keeps a relation that was followed in the row. A reader of a cached row has a clone, or a live row that keeps
nothing: the next reader asks the database again. On a page of 50 rows these are 50 queries, which disappear if the
loader loads the relation. Whoever wants to tell people that gets a `Followed` for each (`listening`): a panel, and with
DEBUG the log, once for each place in the code.

Rule 1: while nobody listens, no clone is marked, and nothing of this costs anything.
Rule 2: a key that leads to no row (NULL) asks nobody.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model

from invalidator import Invalidator
from invalidator.extending import FreshLock, clone_watchers, parts_of

from .. import runtime

log = logging.getLogger("invalidator.copies")

MOST_ROWS = 10_000
"""In one value that is handed out; the rest is not marked."""
MOST_PLACES = 1000
"""That are remembered; of any after these nothing is said."""

_FRAMEWORK = ("django", "django_integration", "invalidator", "asgiref")


@dataclass(frozen=True, slots=True)
class Followed:
    """
    A relation that a reader has followed.

    Attributes:
        relation: such as "shop.Product.category".
        place: where in the code, or in which template: "file:line".
        key: of the cached value in which the row was; "" if that is not known.
        remedy: what the loader can do.
    """

    relation: str
    place: str
    key: str
    remedy: str


Listener = Callable[[Followed], object]

_lock = FreshLock()
_listeners: list[Listener] = []


class OwnRelations(dict[str, Any]):
    """Related rows, as a row keeps them. What is copied of a row has an ordinary dict."""

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def copy(self) -> dict[str, Any]:
        """An ordinary one."""
        return dict(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return dict(self)


class _MarkedRelations(OwnRelations):
    """Those of a clone: tells what is followed."""

    def __init__(self, loaded: Mapping[str, Any], model: type[Model], key: str) -> None:
        super().__init__(loaded)
        self._model = model
        self._key = key
        self._missed: set[str] = set()

    def __missing__(self, name: str) -> Any:
        self._missed.add(name)
        raise KeyError(name)

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        if name in self._missed:  # else it was assigned, or prefetched
            self._missed.discard(name)
            follow(self._model, name, value, self._key)


def follow(model: type[Model], name: str, found: object, key: str = "") -> None:
    """A reader has asked the database for what the relation *name* of a row leads to, and *found* that."""
    if _listeners and found is not None:
        what = Followed(f"{model._meta.label}.{name}", _place(sys._getframe(1)), key, _remedy(model, name))  # noqa: SLF001
        for listener in tuple(_listeners):
            listener(what)


def listen(listener: Listener) -> None:
    """Call *listener* with each relation that is followed from now on, in the thread or task of the reader."""
    with _lock.lock:
        _listeners.append(listener)
        if _mark not in clone_watchers:
            clone_watchers.append(_mark)


def end_listening(listener: Listener) -> None:
    """Take back a `listen`."""
    with _lock.lock:
        _listeners.remove(listener)
        if not _listeners:
            clone_watchers.remove(_mark)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """`listen`, inside the block."""
    listen(listener)
    try:
        yield
    finally:
        end_listening(listener)


def _mark(key: str, value: Any) -> None:
    """Let the rows in *value*, which a reader is about to be handed out, tell what is followed."""
    seen: set[int] = set()
    ahead = [value]
    while ahead and len(seen) < MOST_ROWS:
        at = ahead.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        if issubclass(type(at), Model):
            state = at._state
            state.fields_cache = _MarkedRelations(state.fields_cache, type(at), key)
        found = parts_of(at)
        if found is not None:
            ahead += [part for _, part in found[0]]


def _remedy(model: type[Model], name: str) -> str:
    try:
        is_joined = model._meta.get_field(name).related_model is not None
    except FieldDoesNotExist:
        is_joined = True
    return f'{"select_related" if is_joined else "prefetch_related"}("{name}") inside of the cached function'


def _place(frame: FrameType | None) -> str:
    """The application's code, or its template; else what has called Django."""
    caller = ""
    while frame is not None:
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _FRAMEWORK:
            caller = caller or place
            if "-packages" not in place:
                return place
        elif frame.f_code.co_name == "render_annotated" and (template := _place_in_template(frame)):
            return template
        frame = frame.f_back
    return caller


def _place_in_template(frame: FrameType) -> str:
    node = frame.f_locals.get("self")
    origin, token = getattr(node, "origin", None), getattr(node, "token", None)
    return f"{origin.name}:{token.lineno}" if origin is not None and token is not None else ""


class _Log:
    """Says once for each place that it follows a relation again and again."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], int] = {}

    def begin(self, _: Invalidator) -> None:
        """A bus was made."""
        if settings.DEBUG and self not in _listeners:
            listen(self)

    def end(self) -> None:
        """It was closed."""
        if self in _listeners:
            end_listening(self)

    def __call__(self, followed: Followed) -> None:
        what = (followed.relation, followed.place)
        if what in self._times or len(self._times) < MOST_PLACES:
            times = self._times[what] = self._times.get(what, 0) + 1
            if times == 2:  # once is no habit
                log.warning(
                    "relation_followed relation=%s at=%r key=%r remedy=%r",
                    *(followed.relation, followed.place, followed.key, followed.remedy),
                )


_log = _Log()
runtime.on_made(_log.begin)
runtime.on_reset(_log.end)
