"""What a caller changes does not change the cache, and what cannot be changed is not copied."""

import copy
import enum
import functools
import gc
import pickle
import threading
import uuid
import weakref
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from invalidator.copying import COPIES, hand_out, keep, keeping, may_do_io


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
    *("text", b"bytes", 1, 2.5, 1j, True, None, ..., range(3)),
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


@pytest.mark.parametrize("how", ["clone", "deep", "pickle"])
@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_containers_are_copied_by_shape(value, how) -> None:
    before = copy.deepcopy(value)
    kept = keep(value, how)
    assert kept.value is not None, "it is drawn only if need be"
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


@pytest.mark.parametrize("how", [how for how in COPIES if how != "none"])
@pytest.mark.parametrize("value", NOT_PLAIN, ids=lambda value: type(value).__name__)
def test_everything_else_is_cloned_as_well(value, how) -> None:
    kept = keep(value, how)
    first, second = hand_out(kept), hand_out(kept)
    assert type(first) is type(second) is type(value)
    assert first is not value
    assert first is not second


def test_pickle_keeps_bytes_of_the_whole() -> None:
    assert keep([Open(1)], "pickle").copy is pickle.loads


@pytest.mark.parametrize("how", ["clone", "deep", "pickle"])
def test_what_is_shared_inside_stays_shared_and_a_circle_stays_one(how) -> None:
    first = hand_out(keep({"a": shared, "b": shared}, how))
    assert first["a"] is first["b"] is not shared
    ring = hand_out(keep(circle, how))
    assert ring[0] is ring is not circle


@pytest.mark.parametrize("value", [*PLAIN, Open(1), circle], ids=lambda value: type(value).__name__)
def test_none_hands_out_the_very_object(value) -> None:
    assert keep(value, "none") is value


class Local:
    def __reduce__(self) -> Any:
        raise TypeError("not this way")

    def __deepcopy__(self, memo: object) -> "Local":
        return Local()


def test_what_cannot_be_pickled_is_copied_deeply() -> None:
    value = Local()
    assert type(hand_out(keep([value]))[0]) is Local
    assert hand_out(keep([value]))[0] is not value
    with pytest.raises(TypeError, match="not this way"):
        keep([value], "pickle")


@pytest.mark.parametrize("how", ["clone", "deep", "pickle"])
def test_what_cannot_be_copied_at_all_raises_what_its_class_raises(how) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        keep({"lock": threading.Lock()}, how)


class Broken(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


def test_what_can_be_pickled_and_not_loaded_is_found_when_it_is_stored() -> None:
    """An exception with a signature of its own is the usual case. Its readers must not be the ones who find out."""
    with pytest.raises(TypeError, match="missing"):
        keep([Broken(1, 2)])


def test_a_value_that_lies_too_deep_is_left_to_pickle() -> None:
    deep: Any = Open(1)
    for _ in range(300):
        deep = (deep,)
    assert type(hand_out(keep(deep))) is tuple


@pytest.mark.parametrize(
    ("value", "may"), [("text", False), ([{"a": 1}], False), (Open(1), True), ([Open(1)], True)], ids=repr
)
def test_only_containers_and_what_cannot_be_changed_are_kept_without_code_of_others(value, may) -> None:
    assert may_do_io(value) is may


def test_the_master_has_nothing_of_what_was_kept() -> None:
    """Else the caller who stored it could go on changing it."""
    inner = Open(1)
    outer = Open(2)
    outer.inner = inner
    kept = keep([outer])
    gone = weakref.ref(inner)
    del outer.inner, inner
    gc.collect()
    assert gone() is None
    assert hand_out(kept)[0].inner.x == 1


def test_what_is_handed_out_live_is_prepared_and_what_was_kept_already_is_not_touched(monkeypatch) -> None:
    met: list[object] = []
    monkeypatch.setattr(keeping, "share", met.append)
    value, kept = [1], keep([Open(1)])
    for each in (value, kept, "text"):
        assert keep(each, "none") is each
    assert met == [value]
