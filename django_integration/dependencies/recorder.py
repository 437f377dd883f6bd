"""
What a loader reads, recorded while it runs.

A `Recorder` is in force in one context (a `ContextVar`): what the loader calls, awaits, or hands to `sync_to_async` and
`asyncio.create_task` is recorded; what a thread reads that the loader starts itself is not.

Rule 1: names are kept by model. More than `MAX_NAMES` of one model become the model's tag, which covers all rows.
Rule 2: a value that was cached already has names and a `loaded_at` of its own: its entry becomes a part of the new one.
Rule 3: an error carries what was read before it to whatever loader catches it: "there is none" is an answer, too.
Rule 4: rows are recorded one by one as the loader takes them (`rows.py`).
Rule 5: what cannot be recorded is warned of at the end, once for each place: tables that are no model's, what is not
Django's own, and models whose changes are not published.
Rule 6: an error in recording never reaches the loader. What was read may be lost with it, so the value is not kept.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from django.db.models import Model

from invalidator import Entry, Loaded, Tag
from invalidator.extending import DEFAULT

from .. import slow_path
from ..interrupts import is_interruption
from ..names import concrete_of, is_model, is_watched, model_tag, row_tags, unknown_rows_tag

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

MAX_NAMES = 200
"""Of one model in one entry. Each costs a look into the ledger at the first hit after any invalidation (some 50 ns)."""

MAX_WARNINGS = 1000
"""Warnings that are remembered; any after these are not given."""

_READS = "_invalidator_reads"
"""Where an error keeps the recorder of the loader that it ended."""


class UnknownReads(RuntimeWarning):
    """A cached value was made from something whose changes will not invalidate it; the message names a remedy."""


class Recorder:
    """What one loader has read."""

    __slots__ = (
        *("_names", "_unfinished", "declared_tags", "foreign", "has_declared", "is_kept", "made_from", "number"),
        *("tables", "unknown"),
    )

    def __init__(self) -> None:
        self.number = next(_numbers)
        """Grows in the order in which loaders begin."""
        self.made_from: dict[int, Entry[Any]] = {}
        """Cached values that were used, by `id`."""
        self.is_kept = True
        """Whether the value may be stored."""
        self._names: dict[type[Model], dict[str, None] | None] = {}
        """By concrete model; None stands for the whole table."""
        self._unfinished: dict[Callable[[], None], None] = {}
        """To call for queries of which the loader has not taken the last row."""
        self.declared_tags: dict[str, None] = {}
        """Those of `depends_on`."""
        self.has_declared = False
        """Whether `depends_on` was called."""
        self.unknown: dict[str, None] = {}
        """What cannot be recorded, with its place in the source."""
        self.foreign: dict[type, None] = {}
        """Classes of tables and joins that are not Django's."""
        self.tables: set[str] = set()
        """Plain names of tables that are recorded and are no registered model's."""

    def read_table(self, model: type[Model]) -> None:
        """The loader may depend on every row in the table of *model*."""
        concrete = concrete_of(model)
        if self._names.get(concrete, _NOT_READ) is not None:
            self._names[concrete] = None

    def read_names(self, model: type[Model], names: Iterable[str]) -> bool:
        """
        The loader depends on what has these *names*: rows and column values of *model*, a concrete one.

        Returns False if the table is recorded as a whole.
        """
        known = self._names.get(model, _NOT_READ)
        if known is _NOT_READ:
            known = self._names[model] = {}
        if known is None:
            return False
        for name in names:
            known[name] = None
        if len(known) > MAX_NAMES:
            self._names[model] = None
            return False
        return True

    def models(self) -> list[type[Model]]:
        """Return the concrete models of which anything is recorded."""
        return list(self._names)

    def names_of(self, model: type[Model]) -> dict[str, None]:
        """Return the dictionary of the names of *model*; one without effect, if its table is recorded as a whole."""
        names = self._names.get(model)
        return {} if names is None else names

    def begin_rows(self, stopped: Callable[[], None]) -> None:
        """The loader is about to take rows, one at a time. Calls *stopped* in the end, unless `end_rows` was called."""
        self._unfinished[stopped] = None

    def end_rows(self, stopped: Callable[[], None]) -> None:
        """The loader has taken the last row."""
        self._unfinished.pop(stopped, None)

    def _stop_rows(self) -> None:
        for stopped in self._unfinished:
            self.fenced(stopped)

    def read_entry(self, entry: Entry[Any]) -> None:
        """The loader has used a cached value."""
        self.made_from[id(entry)] = entry

    def read_unknown(self, what: str, frame: FrameType | None) -> None:
        """The loader has read *what*, of which the model is not known; *frame* is the code that did it."""
        if len(self.unknown) < MAX_WARNINGS:
            self.unknown[f"{_place_of(frame)}: {what}"] = None

    def read_foreign(self, kind: type) -> None:
        """The loader has sent a query with a table or join of this *kind*, which may read what its SQL does not say."""
        self.foreign[kind] = None

    def fenced(self, record: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call *record*, which records something. If it fails, the value is not kept, and None is returned (rule 6)."""
        try:
            return record(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours
            self.lost(error)
            return None

    def lost(self, error: Exception) -> None:
        """Something that was read could not be recorded because of *error*, which is ours."""
        self.is_kept = False
        report(error, "a value is not kept, since not all of what it was made from could be recorded")

    def declare(self, *targets: Tag | Model | type[Model]) -> None:
        """The loader declares what it depends on: see `depends_on`."""
        for target in targets:
            if isinstance(target, Tag):
                self.declared_tags[target.name] = None
            elif isinstance(target, Model):
                self.declared_tags.update(dict.fromkeys(row_tags(target)))
            elif is_model(target):
                self.read_table(target)
            else:
                raise TypeError(
                    "depends_on takes model classes, rows and tags (tag('prices')), "
                    f"not {type(target).__name__}: {target!r}"
                )
        self.has_declared = self.has_declared or bool(targets)

    def failed(self, error: Exception) -> None:
        """The loader ends with *error*: a loader that catches it depends on what was read here."""
        if not hasattr(error, _READS):
            # An error that takes no attributes keeps the value out, in `caught`.
            with contextlib.suppress(AttributeError):
                setattr(error, _READS, self)

    def caught(self, error: Exception) -> None:
        """A cached call inside this loader has failed with *error*."""
        other = getattr(error, _READS, None)
        if not isinstance(other, Recorder) or other.number < self.number:
            self.is_kept = False  # it is not known what was read, or it was read before this loader began
            return
        other.add_to(self)

    def add_to(self, outer: Recorder) -> None:
        """Record in *outer* everything that is recorded here."""
        self._stop_rows()
        for model, names in self._names.items():
            if names is None:
                outer.read_table(model)
            else:
                outer.read_names(model, names)
        outer.declared_tags.update(self.declared_tags)
        outer.made_from.update(self.made_from)
        outer.unknown.update(self.unknown)
        outer.foreign.update(self.foreign)
        outer.tables.update(self.tables)
        outer.has_declared = outer.has_declared or self.has_declared
        outer.is_kept = outer.is_kept and self.is_kept

    def loaded(self, value: Any) -> Loaded[Any]:
        """Return what the loader has returned, with everything that it depends on."""
        tags = self.fenced(self.tags) or []
        for message in self.fenced(lambda: list(self._warnings())) or ():
            warn_once(message)
        made_from = (*self.made_from.values(), *(() if self.is_kept else (_VOID,)))
        if not issubclass(type(value), Loaded):  # `isinstance` would look behind a lazy object
            return Loaded(value, DEFAULT if self.is_kept else 0, tags, made_from)
        return Loaded(
            value.value,
            ttl=value.ttl if self.is_kept else 0,
            tags=(*value.tags, *tags),
            made_from=(*value.made_from, *made_from),
            copy=value.copy,
        )

    def _warnings(self) -> Iterator[str]:
        for model in self._names:
            if not is_watched(model):
                yield (
                    f"{model._meta.label} is read in a cached function, and its changes are not published: only "
                    f"invalidate({model.__name__}) invalidates the value. See MODELS in docs/django/settings.md"
                )
        if self.has_declared:
            return
        for what in self.unknown:
            yield (
                f"{what} in a cached function: which models it reads is not known, so their changes do not "
                "invalidate the value. Call depends_on(Model, …) beside it, or cache with track=False"
            )
        for kind in self.foreign:
            yield (
                f"{kind.__module__}.{kind.__qualname__} in a query of a cached function is not Django's own: the value "
                "depends on every table that the SQL of the query names. If it reads others, call depends_on(Model, …)"
            )

    def tags(self) -> list[str]:
        """Return every tag that the value has to carry."""
        self._stop_rows()
        tags = list(self.declared_tags)
        for model, names in self._names.items():
            if names is None:
                tags.append(model_tag(model))
            else:
                tags.append(unknown_rows_tag(model))
                tags += names
        return tags


_NOT_READ: dict[str, None] = {}
_VOID: Entry[Any] = Entry(None, loaded_at=-1, slots=())
"""A part that no value survives: neither the one that may not be kept nor any that is made from it."""
_numbers = itertools.count()
_recorder: ContextVar[Recorder | None] = ContextVar("invalidator_recorder", default=None)

current = _recorder.get
"""The recorder in force, or None."""


class recording:  # noqa: N801 - used as a function is; as a generator it would take three times as long
    """Inside the block *recorder* is in force; None for a loader that is not tracked, inside of one that is."""

    __slots__ = ("_recorder", "_token")

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder

    def __enter__(self) -> None:
        self._token = _recorder.set(self._recorder)
        if self._recorder is not None:
            slow_path.reasons[id(self)] = self  # hits of every near cache are recorded

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _recorder.reset(self._token)
        slow_path.reasons.pop(id(self), None)
        if self._recorder is not None and isinstance(error, Exception):
            self._recorder.fenced(self._recorder.failed, error)


def depends_on(*targets: Tag | Model | type[Model]) -> None:
    """
    Declare, inside of a cached function, what its value depends on besides what it reads through the ORM.

    Outside of a cached function this does nothing, so that a helper may be called from anywhere.

    Args:
        targets: model classes, rows, and tags (`tag("prices")`). When one of them is invalidated, the value is, too.

    Raises:
        TypeError: a target is none of these.
        InvalidName: a row was never saved.
    """
    (_recorder.get() or Recorder()).declare(*targets)


def _place_of(frame: FrameType | None) -> str:
    """Return the line of the application's own code that led to *frame*."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("django.", "django_integration.", "asgiref.")):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "somewhere"


_warned: set[str] = set()


def warn_once(message: str) -> None:
    """Give a warning, unless it was given already."""
    if message not in _warned and len(_warned) < MAX_WARNINGS:
        _warned.add(message)
        warnings.warn(message, UnknownReads, stacklevel=2)


def report(error: Exception, what: str) -> None:
    """
    Log an error in recording, which is one of this app's, once for each line that raised it.

    Raises:
        error: it is none of ours, but has struck from outside.
    """
    if is_interruption(error):
        raise error
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    message = f"{what} ({type(error).__name__} at {place})"
    if message not in _warned and len(_warned) < MAX_WARNINGS:
        _warned.add(message)
        logger.error("%s. Please report this.", message, exc_info=error)
