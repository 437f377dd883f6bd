"""What a caller changes does not change the cache, and what cannot be changed is not copied."""

import copy
import enum
import functools
import pickle
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.safestring import mark_safe

from django_integration.backend.copies import COPIES, Kept, hand_out, keep

from ..zoo.models import Cage


class Colour(enum.Enum):
    RED = [1, 2]  # noqa: RUF012 - there is one red, and everybody's is the same


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@dataclass(frozen=True, slots=True)
class Slotted:
    point: Point


@dataclass(frozen=True)
class Holder:
    items: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Lazy:
    x: int

    @functools.cached_property
    def items(self) -> list[int]:
        return [self.x]


@dataclass
class Open:
    x: int


class Loose(Point):
    """Not frozen itself: it may hold anything."""


class Pair(NamedTuple):
    a: Any
    b: Any


class Changing(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(0)


class Text(str):
    """Has a `__dict__`."""

    __slots__ = ("__dict__",)


Legacy = namedtuple("Legacy", "a")  # noqa: PYI024

UNCHANGING = [
    *("text", b"bytes", 1, 2.5, 1j, True, None, ..., range(3), mark_safe("<b>")),
    *(date(2024, 1, 1), datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), time(1), timedelta(1), timezone.utc),  # noqa: DTZ001, UP017
    *(datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")), Decimal("1.5"), Fraction(1, 3), uuid.UUID(int=7)),
    *((), (1, "a", (None,)), frozenset({1, (2, 3)}), Colour.RED, PurePosixPath("a")),
    *(Point(1), Slotted(Point(1)), Pair(1, "b"), Legacy(1), (Point(1), Colour.RED)),
]

PLAIN: list[Any] = [
    {},
    [],
    set(),
    {"a": 1, "b": "text"},
    {"a": {"b": {"c": [1, 2, {"d": set()}]}}},
    [{"id": number, "name": "x"} for number in range(3)],
    [[1], [2], {3}, 4],
    ([1], 2),
    {"rows": ([1, 2], ({"a": [3]},))},
    {(1, "a"): [1], Point(1): {2}},
    {1, (2, 3), Colour.RED},
    {"when": datetime(2024, 1, 1, tzinfo=UTC), "tags": ["a", "b"]},
    [None, [1], None],
]

shared: list[int] = []
circle: list[Any] = []
circle.append(circle)
NOT_PLAIN: list[Any] = [
    {"a": shared, "b": shared},
    circle,
    OrderedDict(a=1),
    defaultdict(list, a=[1]),
    bytearray(b"ab"),
    Holder([1]),
    Lazy(1),
    Open(1),
    Loose(1),
    Pair([1], 2),
    Text("text"),
    datetime(2024, 1, 1, tzinfo=Changing()),
    functools.reduce(lambda inner, _: [inner], range(200), [1]),
    [Open(1), Open(2)],
]


def change(value: Any) -> bool:
    """Change something in *value*, however deep. Returns whether there was anything."""
    match value:
        case dict():
            return any(change(item) for item in value.values()) or value.update(changed=True) is None
        case list():
            return any(change(item) for item in value) or value.append("changed") is None
        case set() | bytearray():
            value.clear() if value else value.update([1])
            return True
        case tuple():
            return any(change(item) for item in value)
    return False


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("value", UNCHANGING, ids=repr)
def test_what_cannot_be_changed_is_kept_and_handed_out_as_it_is(value, how) -> None:
    assert keep(value, how) is value
    assert hand_out(value) is value


@pytest.mark.parametrize("how", ["pickle", "deep"])
@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_containers_are_copied_by_shape(value, how) -> None:
    before = copy.deepcopy(value)
    kept = keep(value, how)
    assert kept.copy not in (pickle.loads, copy.deepcopy)
    change(value)
    first = hand_out(kept)
    assert first == before, "the caller went on with his own"
    assert type(first) is type(before)
    change(first)
    assert hand_out(kept) == before, "a reader changed what he got"
    change(value)  # undo what other tests see of the empty ones
    value_again = copy.deepcopy(before)
    if isinstance(value, dict | list | set):
        value.clear()
        value.update(value_again) if isinstance(value, dict | set) else value.extend(value_again)


@pytest.mark.parametrize(("how", "by"), [("pickle", pickle.loads), ("deep", copy.deepcopy)])
@pytest.mark.parametrize("value", NOT_PLAIN, ids=lambda value: type(value).__name__)
def test_everything_else_is_copied_as_asked(value, how, by) -> None:
    kept = keep(value, how)
    assert kept.copy is by
    assert type(hand_out(kept)) is type(value)


def test_what_is_shared_inside_stays_shared() -> None:
    first = hand_out(keep({"a": shared, "b": shared}))
    assert first["a"] is first["b"] is not shared


@pytest.mark.parametrize("value", [*PLAIN, Open(1), circle], ids=lambda value: type(value).__name__)
def test_none_hands_out_the_very_object(value) -> None:
    assert keep(value, "none") is value


def test_a_queryset_is_evaluated_once_when_it_is_stored(db: None) -> None:
    """As in Django's own caches. A deep copy of a queryset would forget its rows."""
    Cage.objects.create(name="a")
    for how in ("pickle", "deep"):
        kept = keep(Cage.objects.all(), how)
        with CaptureQueriesContext(connection) as queries:
            assert [cage.name for cage in hand_out(kept)] == ["a"]
        assert not queries.captured_queries


def test_a_row_is_copied() -> None:
    cage = Cage(name="a")
    kept = keep({"cage": cage})
    got = hand_out(kept)["cage"]
    got.name = "b"
    cage.name = "c"
    assert hand_out(kept)["cage"].name == "a"


def test_what_cannot_be_pickled_is_refused_and_may_be_copied_deeply() -> None:
    class Local:
        pass

    with pytest.raises((AttributeError, pickle.PicklingError)):
        keep(Local())
    assert isinstance(keep(Local(), "deep"), Kept)
