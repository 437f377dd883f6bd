"""
What a loader reads, written down while it runs.

A `Recorder` is in force in one context (a `ContextVar`): what the loader calls, awaits, or hands to `sync_to_async` and
`asyncio.create_task` is seen; a thread that it starts itself is not.

Rule 1: names are kept by model. More than `MAX_NAMES` of one model become the model's tag, which stands for all.
Rule 2: what was cached already brings its own names and its own time: it is handed up as the entry it is.
Rule 3: an error brings what was read before it, wherever it is caught: "there is none" is an answer, too.
Rule 4: rows are told one by one as they are handed out; who stops in the middle depends on their order, too.
Rule 5: what cannot be told is said, once for each place: raw SQL without `depends_on`, models that nobody watches.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from types import FrameType
from typing import Any

from django.db.models import Model

from invalidator import Entry, Loaded, Tag
from invalidator.extending import DEFAULT

from .. import slow_path
from ..names import concrete_of, is_model, is_watched, model_tag, row_tags, unknown_rows_tag

MAX_NAMES = 200
"""Of one model in one entry. Each costs a look into the ledger at the first hit after any invalidation (some 50 ns)."""

MAX_WARNINGS = 1000
"""Places that are remembered as warned of; those after them are silent."""

_READS = "_invalidator_reads"


class UnknownReads(RuntimeWarning):
    """Something was read into a cached value that nobody will invalidate; the message says how to repair it."""


class Recorder:
    """What one loader has read."""

    __slots__ = ("_names", "_unfinished", "is_told", "made_from", "number", "stored", "tags_told", "unknown")

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.made_from: dict[int, Entry[Any]] = {}
        self.stored = True
        """Whether the value may be kept at all."""
        self._names: dict[type[Model], dict[str, None] | None] = {}
        """By concrete model; None stands for the whole table."""
        self._unfinished: dict[Callable[[], None], None] = {}
        """To call if the rows that are being handed out do not come to their end."""
        self.tags_told: dict[str, None] = {}
        self.unknown: dict[str, None] = {}
        self.is_told = False

    def read_table(self, model: type[Model]) -> None:
        """Anything in the table of *model* may have been looked at."""
        concrete = concrete_of(model)
        if self._names.get(concrete, _NOBODY) is not None:
            self._names[concrete] = None
            _warn_if_unwatched(concrete)

    def read_names(self, model: type[Model], names: Iterable[str]) -> bool:
        """
        Rows of *model*, a concrete one, with these names were looked at. Returns False if its table is recorded as a
        whole.
        """
        known = self._names.get(model, _NOBODY)
        if known is _NOBODY:
            known = self._names[model] = {}
            _warn_if_unwatched(model)
        if known is None:
            return False
        for name in names:
            known[name] = None
        if len(known) > MAX_NAMES:
            self._names[model] = None
            return False
        return True

    def names_of(self, model: type[Model]) -> dict[str, None]:
        """Where the names of rows of *model* are kept, as above: of no effect, if its table is recorded as a whole."""
        names = self._names.get(model)
        return {} if names is None else names

    def begin_rows(self, stopped: Callable[[], None]) -> None:
        """Rows are about to be handed out, one at a time: *stopped* is called if `end_rows` is not, before the end."""
        self._unfinished[stopped] = None

    def end_rows(self, stopped: Callable[[], None]) -> None:
        """There are no more of them."""
        self._unfinished.pop(stopped, None)

    def _stop_rows(self) -> None:
        for stopped in self._unfinished:
            stopped()

    def read_entry(self, entry: Entry[Any]) -> None:
        """A cached value was used."""
        self.made_from[id(entry)] = entry

    def read_unknown(self, what: str, frame: FrameType | None) -> None:
        """Something was read of which the model is not known; *frame* is where from."""
        if len(self.unknown) < MAX_WARNINGS:
            self.unknown[f"{_place_of(frame)}: {what}"] = None

    def told(self, *targets: Tag | Model | type[Model]) -> None:
        """The loader says itself what it depends on: see `depends_on`."""
        for target in targets:
            if isinstance(target, Tag):
                self.tags_told[target.name] = None
            elif isinstance(target, Model):
                self.tags_told.update(dict.fromkeys(row_tags(target)))
            elif is_model(target):
                self.read_table(target)
            else:
                raise TypeError(
                    "depends_on takes model classes, rows and tags (tag('prices')), "
                    f"not {type(target).__name__}: {target!r}"
                )
        self.is_told = self.is_told or bool(targets)

    def failed(self, error: Exception) -> None:
        """The loader ends with *error*: who catches it has learned something from what was read."""
        if not hasattr(error, _READS):
            # If it has no room, `caught` is careful.
            with contextlib.suppress(AttributeError):
                setattr(error, _READS, self)

    def caught(self, error: Exception) -> None:
        """A cached call inside this loader has failed with *error*."""
        other = getattr(error, _READS, None)
        if not isinstance(other, Recorder) or other.number < self.number:
            self.stored = False  # read by nobody knows whom, or before this loader began
            return
        other.hand_up(self)

    def hand_up(self, to: Recorder) -> None:
        """Let *to* have read all of this."""
        self._stop_rows()
        for model, names in self._names.items():
            if names is None:
                to.read_table(model)
            else:
                to.read_names(model, names)
        to.tags_told.update(self.tags_told)
        to.made_from.update(self.made_from)
        to.unknown.update(self.unknown)
        to.is_told = to.is_told or self.is_told
        to.stored = to.stored and self.stored

    def loaded(self, value: Any) -> Loaded[Any]:
        """What the loader has returned, with everything it depends on."""
        if self.unknown and not self.is_told:
            for what in self.unknown:
                _warn_once(
                    f"{what} in a cached function: which models it reads is not known, so their changes do not "
                    "invalidate the value. Call depends_on(Model, …) beside it, or cache with track=False"
                )
        if not isinstance(value, Loaded):
            return Loaded(value, DEFAULT if self.stored else 0, self.tags(), tuple(self.made_from.values()))
        return Loaded(
            value.value,
            ttl=value.ttl if self.stored else 0,
            tags=(*value.tags, *self.tags()),
            made_from=(*value.made_from, *self.made_from.values()),
        )

    def tags(self) -> list[str]:
        """Every tag that the value has to carry."""
        self._stop_rows()
        tags = list(self.tags_told)
        for model, names in self._names.items():
            if names is None:
                tags.append(model_tag(model))
            else:
                tags.append(unknown_rows_tag(model))
                tags += names
        return tags


_NOBODY: dict[str, None] = {}
_numbers = itertools.count()
_recorder: ContextVar[Recorder | None] = ContextVar("invalidator_recorder", default=None)

current = _recorder.get
"""The recorder in force, or None."""


class recording:  # noqa: N801 - used as a function is; as a generator it would take three times as long
    """Let *recorder* be in force; None for a loader that is not tracked, inside of one that is."""

    __slots__ = ("_recorder", "_token")

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder

    def __enter__(self) -> None:
        self._token = _recorder.set(self._recorder)
        if self._recorder is not None:
            slow_path.reasons[id(self)] = self  # hits of every near cache have to be told

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _recorder.reset(self._token)
        slow_path.reasons.pop(id(self), None)
        if self._recorder is not None and isinstance(error, Exception):
            self._recorder.failed(error)


def depends_on(*targets: Tag | Model | type[Model]) -> None:
    """
    Say, inside of a cached function, what its value depends on besides what it reads through the ORM.

    Args:
        targets: model classes, rows, and tags (`tag("prices")`). The value falls when one of them is invalidated.

    Outside of a cached function this does nothing, so that a helper may be called from anywhere.

    Raises:
        TypeError: a target is none of these.
        InvalidName: a row was never saved.
    """
    (_recorder.get() or Recorder()).told(*targets)


def _place_of(frame: FrameType | None) -> str:
    """Where the application's own code is in the stack of *frame*."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("django.", "django_integration.", "asgiref.")):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "somewhere"


def _warn_if_unwatched(model: type[Model]) -> None:
    if not is_watched(model):
        _warn_once(
            f"{model._meta.label} is read in a cached function, and its changes are not published: only "
            f"invalidate({model.__name__}) makes the value fall. See MODELS in docs/django/settings.md"
        )


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned and len(_warned) < MAX_WARNINGS:
        _warned.add(message)
        warnings.warn(message, UnknownReads, stacklevel=2)
