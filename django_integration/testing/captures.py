"""
What a block publishes, and assertions about it.

A capture sees messages as they leave this process' bus, one object for each, and at its end what a transaction still in
progress would publish.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from django.apps import apps
from django.db import connections
from django.db.models import Model

from invalidator import Tag
from invalidator.extending import check_key

from .. import runtime
from ..names import Names, Target, add_target, is_model, is_watched, model_tag, row_tag, row_tags
from ..transactions import batches
from .commits import commits_in_test_cases

MOST_SHOWN = 20
"""Names of each kind in a message of a failed assertion."""


@dataclass(frozen=True, slots=True)
class Told:
    """
    One message: what one transaction, or one call of `invalidate` outside of any, tells every server.

    `target in told` asks whether it makes that key, `tag()`, row or model stale.

    Attributes:
        keys, tags: the names, in the order in which they were said.
        everything: it is a clear of the whole namespace.
        pending: it waits for the end of a transaction that was still in progress when the capture ended.
    """

    keys: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    everything: bool = False
    pending: bool = False

    @property
    def models(self) -> tuple[type[Model], ...]:
        """The models of which it says that something in their table changed."""
        return tuple(model for name in self.tags if (model := _model_called(name)))

    @property
    def rows(self) -> tuple[str, ...]:
        """Tags of rows, such as "shop.product:42"; "shop.product:*" if nobody knows which."""
        return tuple(name for name in self.tags if ":" in name and _model_called(name.partition(":")[0]))

    @property
    def fields(self) -> tuple[str, ...]:
        """Tags of values of columns, such as "shop.product[category_id=1]"."""
        return tuple(name for name in self.tags if "[" in name and _model_called(name.partition("[")[0]))

    def __contains__(self, target: Target) -> bool:
        return Expected(target).is_met_by(self)

    def __str__(self) -> str:
        models = {model_tag(model) for model in self.models}
        known = {*models, *self.rows, *self.fields}
        kinds = {
            "keys": self.keys,
            "rows": self.rows,
            "models": [name for name in self.tags if name in models],
            "tags": [name for name in self.tags if name not in known],
            "fields": self.fields,
        }
        words = (
            ["everything"] if self.everything else [f"{what} {_some(names)}" for what, names in kinds.items() if names]
        )
        return "; ".join(words) + (" (waits for the end of a transaction)" if self.pending else "")


class Invalidations:
    """
    The messages that a block told, in order. `target in invalidations` asks whether any of them makes a key, `tag()`,
    row or model stale.
    """

    def __init__(self) -> None:
        self._messages: list[Told] = []

    @overload
    def __getitem__(self, index: int) -> Told: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Told]: ...
    def __getitem__(self, index: int | slice) -> Told | Sequence[Told]:
        return self._messages[index]

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Told]:
        return iter(self._messages)

    def __contains__(self, target: object) -> bool:
        if isinstance(target, Told):
            return target in self._messages
        expected = Expected(target)  # type: ignore[arg-type] # it says what is wrong with others
        return any(map(expected.is_met_by, self._messages))

    def __repr__(self) -> str:
        return f"<{len(self)} invalidations: {' | '.join(map(str, self))}>" if self else "<no invalidations>"

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all messages, each once."""
        return tuple(dict.fromkeys(key for told in self for key in told.keys))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of all messages, each once."""
        return tuple(dict.fromkeys(name for told in self for name in told.tags))

    def clear(self) -> None:
        """Forget what was told so far."""
        self._messages.clear()

    def describe(self) -> str:
        """For people, a line for each message."""
        if not self:
            return "Nothing was told."
        lines = [f"  {number}. {told}" for number, told in enumerate(self._messages[:MOST_SHOWN], 1)]
        more = len(self) - len(lines)
        return "\n".join(["Told was:", *lines, *([f"  … and {more} more messages"] if more else [])])

    def _add(self, told: Told) -> None:
        self._messages.append(told)


@contextlib.contextmanager
def capture_invalidations() -> Iterator[Invalidations]:
    """
    See what the block tells: one `Told` for each message.

    Inside a `TestCase` it sees what a real commit would tell (rule 2); in a `TransactionTestCase` what is told, from
    whichever thread.
    """
    told = Invalidations()

    def hear(keys: tuple[str, ...], tags: tuple[str, ...], everything: bool) -> None:
        told._add(Told(keys, tags, everything))  # noqa: SLF001 - the same module

    with commits_in_test_cases():
        before = {batch: Names(dict(names.keys), dict(names.tags), names.everything) for batch, names in _waiting()}
        runtime.publish_observers.append(hear)
        try:
            yield told
        finally:
            runtime.publish_observers.remove(hear)
        for batch, names in _waiting():
            new = _without(names, before.get(batch, Names()))
            if new:
                told._add(Told(tuple(new.keys), tuple(new.tags), new.everything, pending=True))  # noqa: SLF001


def _waiting() -> Iterator[tuple[batches.Batch, Names]]:
    """What this thread's transactions would tell if they ended now."""
    for connection in connections.all(initialized_only=True):
        for batch in batches.batches_of(connection):
            yield batch, batch.names


def _without(names: Names, others: Names) -> Names:
    return Names(
        {key: None for key in names.keys if key not in others.keys},
        {name: None for name in names.tags if name not in others.tags},
        names.everything and not others.everything,
    )


@contextlib.contextmanager
def assert_invalidates(*targets: Target) -> Iterator[Invalidations]:
    """
    Fail unless the block makes each of *targets* stale: keys (str), tags (`tag("prices")`), rows and models.

    A row is stale if its own tag is told, or that of unknown rows; everything is, if all is cleared.

    Raises:
        AssertionError: it does not; the message says what is missing, and what was told.
        TypeError, InvalidName: a target is none, such as a row that was never saved.
    """
    if not targets:
        raise TypeError("name what is to be invalidated; if nothing is, write assert_invalidates_nothing()")
    expected = [Expected(target) for target in targets]  # now: a row that is deleted has no primary key any more
    with capture_invalidations() as told:
        yield told
    missing = [one for one in expected if not any(map(one.is_met_by, told))]
    if missing:
        raise AssertionError("\n".join([f"Not invalidated: {', '.join(map(str, missing))}.", told.describe()]))


@contextlib.contextmanager
def assert_invalidates_nothing() -> Iterator[Invalidations]:
    """Fail if the block tells anything. Raises AssertionError with what it told."""
    with capture_invalidations() as told:
        yield told
    if told:
        raise AssertionError(f"Nothing was to be invalidated.\n{told.describe()}")


class Expected:
    """One target, and the names of which any one makes it stale."""

    def __init__(self, target: Target) -> None:
        add_target(Names(), target)  # refuses what is none
        self._keys: tuple[str, ...] = ()
        self._tags: tuple[str, ...] = ()
        self._note = ""
        if isinstance(target, str):
            self._keys = (check_key(target),)
            self._text = f"key {target!r}"
        elif isinstance(target, Tag):
            self._tags = (target.name,)
            self._text = f"tag {target.name!r}"
        elif isinstance(target, Model):
            self._tags = row_tags(target)
            self._text = f"row {row_tag(target)}"
            self._note = _note_about(type(target))
        elif is_model(target):
            self._tags = (model_tag(target),)
            self._text = f"model {model_tag(target)}"
            self._note = _note_about(target)

    def is_met_by(self, told: Told) -> bool:
        """Whether *told* makes the target stale."""
        return (
            told.everything
            or any(key in told.keys for key in self._keys)
            or any(tag in told.tags for tag in self._tags)
        )

    def __str__(self) -> str:
        return self._text + self._note


def _note_about(model: type[Model]) -> str:
    return "" if is_watched(model) else " (its model is not watched)"


def _model_called(label: str) -> type[Model] | None:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        return None


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - MOST_SHOWN
    return " ".join([*names[:MOST_SHOWN], *([f"… and {more} more"] if more > 0 else [])])
