"""
What a block publishes, and assertions about it.

A capture gets each message as it leaves this process' bus, and at its end those that transactions still in progress
would publish.
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
from ..names import Names, Target, add_target, is_model, is_watched, model_tag, row_tags
from ..transactions import uncommitted

MOST_SHOWN = 20
"""Names of each kind in a message of a failed assertion."""


@dataclass(frozen=True, slots=True)
class PublishedMessage:
    """
    One message: what one transaction, or one call of `invalidate` outside of any, publishes.

    `target in message` asks whether it invalidates that key, `tag()`, row or model.

    Attributes:
        keys, tags: the names, in the order in which they were collected.
        everything: it clears the whole namespace.
        pending: it was not published yet: its transaction was still in progress when the capture ended.
    """

    keys: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    everything: bool = False
    pending: bool = False

    @property
    def models(self) -> tuple[type[Model], ...]:
        """The models whose tables have changed."""
        return tuple(model for name in self.tags if (model := _model_called(name)))

    @property
    def rows(self) -> tuple[str, ...]:
        """Tags of rows, such as "shop.product:42"; "shop.product:*" stands for rows that are not known."""
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
        return "; ".join(words) + (" (not published yet: its transaction is in progress)" if self.pending else "")


class Invalidations:
    """
    The messages that a block has published, in order.

    `target in invalidations` asks whether any of them invalidates a key, `tag()`, row or model.
    """

    def __init__(self) -> None:
        self._messages: list[PublishedMessage] = []

    @overload
    def __getitem__(self, index: int) -> PublishedMessage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PublishedMessage]: ...
    def __getitem__(self, index: int | slice) -> PublishedMessage | Sequence[PublishedMessage]:
        return self._messages[index]

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[PublishedMessage]:
        return iter(self._messages)

    def __contains__(self, target: object) -> bool:
        if isinstance(target, PublishedMessage):
            return target in self._messages
        expected = Expected(target)  # type: ignore[arg-type] # which raises a TypeError for others
        return any(map(expected.is_met_by, self._messages))

    def __repr__(self) -> str:
        return f"<{len(self)} invalidations: {' | '.join(map(str, self))}>" if self else "<no invalidations>"

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all messages, each once."""
        return tuple(dict.fromkeys(key for message in self for key in message.keys))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of all messages, each once."""
        return tuple(dict.fromkeys(name for message in self for name in message.tags))

    def clear(self) -> None:
        """Forget the messages so far."""
        self._messages.clear()

    def describe(self) -> str:
        """Return a text for people, with a line for each message."""
        if not self:
            return "Nothing was published."
        lines = [f"  {number}. {message}" for number, message in enumerate(self._messages[:MOST_SHOWN], 1)]
        more = len(self) - len(lines)
        return "\n".join(["Published:", *lines, *([f"  … and {more} more messages"] if more else [])])

    def _add(self, message: PublishedMessage) -> None:
        self._messages.append(message)


@contextlib.contextmanager
def capture_invalidations() -> Iterator[Invalidations]:
    """
    Capture what the block publishes, from whichever thread.

    Inside a `TestCase` these are the messages that real commits would publish (`transactions/in_tests.py`).
    """
    captured = Invalidations()

    def observe(keys: tuple[str, ...], tags: tuple[str, ...], everything: bool) -> None:
        captured._add(PublishedMessage(keys, tags, everything))  # noqa: SLF001 - the same module

    before = {batch: Names(dict(names.keys), dict(names.tags), names.everything) for batch, names in _waiting()}
    runtime.publish_observers.append(observe)
    try:
        yield captured
    finally:
        runtime.publish_observers.remove(observe)
    for batch, names in _waiting():
        new = _without(names, before.get(batch, Names()))
        if new:
            captured._add(PublishedMessage(tuple(new.keys), tuple(new.tags), new.everything, pending=True))  # noqa: SLF001


def _waiting() -> Iterator[tuple[uncommitted.Batch, Names]]:
    """What this thread's transactions would publish if they were committed now."""
    for connection in connections.all(initialized_only=True):
        for batch in uncommitted.of(connection).batches:
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
    Fail unless the block invalidates each of *targets*: keys (str), tags (`tag("prices")`), rows and models.

    A row is invalidated by its own tag, and by that of unknown rows. A clear invalidates everything.

    Raises:
        AssertionError: something is missing; the message names it, and what was published.
        TypeError, InvalidName: a target cannot be invalidated, such as a row that was never saved.
    """
    if not targets:
        raise TypeError("name what is to be invalidated; if nothing is, write assert_invalidates_nothing()")
    expected = [Expected(target) for target in targets]  # now: a row that is deleted has no primary key any more
    with capture_invalidations() as captured:
        yield captured
    missing = [one for one in expected if not any(map(one.is_met_by, captured))]
    if missing:
        raise AssertionError("\n".join([f"Not invalidated: {', '.join(map(str, missing))}.", captured.describe()]))


@contextlib.contextmanager
def assert_invalidates_nothing() -> Iterator[Invalidations]:
    """Fail if the block publishes anything. Raises AssertionError, with what was published."""
    with capture_invalidations() as captured:
        yield captured
    if captured:
        raise AssertionError(f"Nothing was to be invalidated.\n{captured.describe()}")


class Expected:
    """One target, and the names of which each invalidates it."""

    def __init__(self, target: Target) -> None:
        add_target(Names(), target)  # refuses what cannot be invalidated
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
            self._text = f"row {self._tags[0]}"
            self._note = _note_about(type(target))
        elif is_model(target):
            self._tags = (model_tag(target),)
            self._text = f"model {model_tag(target)}"
            self._note = _note_about(target)

    def is_met_by(self, message: PublishedMessage) -> bool:
        """Whether *message* invalidates the target."""
        return (
            message.everything
            or any(key in message.keys for key in self._keys)
            or any(tag in message.tags for tag in self._tags)
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
