"""
Recording the rows of a query by their primary keys, one by one, as the loader takes them.

So a loader that takes the first few rows out of an `iterator()` depends on these few. It also depends on the order of
the rows, which decided which ones come first: that is recorded if the loader stops before the last row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model
from django.db.models.sql import Query

from invalidator import InvalidName

from ..names import concrete_of, model_tag, row_tag
from ..names.columns import any_value_tag
from .conditions import UsedColumns
from .recorder import MAX_NAMES, Recorder

IMPOSSIBLE_VALUE = (ArithmeticError, AttributeError, InvalidName, TypeError, ValueError, ValidationError)
"""What a field raises for a value that it does not understand. The database may, so the whole table is recorded."""


class RowRecorder:
    """
    Records the rows of one query.

    Args:
        model: of the rows; None if they need not be recorded, because their table is, or because they were found by
            primary key.
        related: for what `select_related` adds to each row.
        query: the query.
    """

    __slots__ = ("_attname", "_label", "_model", "_names", "_query", "_recorder", "_related")

    def __init__(
        self, recorder: Recorder, model: type[Model] | None, related: list[RelatedRecorder], query: Query
    ) -> None:
        self._query = query
        self._recorder = recorder
        self._model = model
        self._names: dict[str, None] = {}
        self._label = self._attname = ""
        if model is not None:
            self._label = model_tag(model)
            self._attname = model._meta.pk.attname
            self._names = recorder.names_of(model)
        self._related = related

    def begin(self) -> None:
        """The loader is about to get the first row."""
        if self._model is not None:
            self._recorder.begin_rows(self._stopped)

    def end(self) -> None:
        """There are no more rows, or none that have to be recorded."""
        self._recorder.end_rows(self._stopped)

    def _stopped(self) -> None:
        """The loader takes no more rows. As with a LIMIT, their order decides which ones it got."""
        if self._model is None:
            return
        used = UsedColumns("")
        if used.add_ordering(self._query, self._model):
            self._recorder.read_names(self._model, [any_value_tag(self._model, column) for column in used.columns])
        else:
            self._recorder.read_table(self._model)

    def record(self, row: Model) -> bool:
        """Record *row*, which the loader is about to get. Returns False if the rows after it need not be recorded."""
        if self._model is not None:
            # Written out, for the sake of speed: what `Recorder.read_names` does with names, and `row.pk`.
            pk = row.__dict__.get(self._attname)
            try:
                self._names[tag_of_row(self._model, self._label, row.pk if pk is None else pk)] = None
            except IMPOSSIBLE_VALUE:
                self._recorder.read_table(self._model)
                self._model = None
            else:
                if len(self._names) > MAX_NAMES and not self._recorder.read_names(self._model, ()):
                    self._model = None
        for related in self._related:
            related.record(self._recorder, row)
        return self._model is not None or bool(self._related)

    def give_up(self) -> None:
        """Record the tables as wholes from now on."""
        if self._model is not None:
            self._recorder.read_table(self._model)
        for related in self._related:
            related.give_up(self._recorder)


def record_known(recorder: Recorder, known: Mapping[Any, Mapping[Any, Model]]) -> None:
    """
    Record the rows from whose related managers a query set was made: Django gives them to each row that it makes, and
    sends no query, though they may have been read before the loader began.
    """
    for rows in known.values():
        for row in rows.values():
            model = concrete_of(type(row))
            try:
                recorder.read_names(model, (tag_of_row(model, model_tag(model), row.pk),))
            except IMPOSSIBLE_VALUE:
                recorder.read_table(model)


class RelatedRecorder:
    """
    Records the targets of one foreign key that `select_related` follows.

    Args:
        field: the foreign key.
        related: for the foreign keys that it follows from there.
    """

    __slots__ = ("_attname", "_field", "_label", "_model", "_related")

    def __init__(self, field: Any, related: list[RelatedRecorder]) -> None:
        self._field = field
        self._attname = field.attname
        target: type[Model] = self._field.related_model
        self._model = concrete_of(target)
        self._label = model_tag(self._model)
        self._related = related

    def record(self, recorder: Recorder, row: Model) -> None:
        """Record the target of *row*, by the key that *row* holds: a target that is not there may be added."""
        if self._attname not in row.__dict__:  # a deferred column
            recorder.read_table(self._model)
            return
        key = row.__dict__[self._attname]
        if key is None:
            return  # when that changes, *row* does, which is recorded
        try:
            recorder.read_names(self._model, (tag_of_row(self._model, self._label, key),))
        except IMPOSSIBLE_VALUE:
            recorder.read_table(self._model)
        if self._related:
            target = self._field.get_cached_value(row, None)
            if target is not None:
                for related in self._related:
                    related.record(recorder, target)

    def give_up(self, recorder: Recorder) -> None:
        """Record the tables as wholes."""
        recorder.read_table(self._model)
        for related in self._related:
            related.give_up(recorder)


def tag_of_row(model: type[Model], label: str, pk: object) -> str:
    """Return `row_tag(model, pk)`, faster; *label* is the tag of *model*."""
    return f"{label}:{pk}" if type(pk) is int else row_tag(model, pk)
