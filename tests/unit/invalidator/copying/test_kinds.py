"""Each kind of object has its own for every reader, and keeps its type and its shape."""

import functools
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from invalidator.copying import Draft, Node, add_kind, as_it_is, hand_out, keep, kinds

CLONING = ["clone", "deep"]


def cloned(value: Any, how: Any = "clone") -> Any:
    kept = keep(value, how)
    first, second = hand_out(kept), hand_out(kept)
    assert first is not value, "the caller who stored it has the master"
    assert first is not second, "two readers share one"
    assert type(first) is type(value)
    return first


class Plain:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Slotted:
    __slots__ = ("a", "b")


class Both(Slotted):
    """Has slots, and a `__dict__`."""


@dataclass
class Order:
    number: int
    lines: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Fixed:
    lines: list[Any]


class Strict(Plain):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Pair(NamedTuple):
    a: Any
    b: Any


Legacy = namedtuple("Legacy", "a")  # noqa: PYI024


class ByItself:
    """Says itself how it is copied."""

    made = 0

    def __init__(self, held: Any) -> None:
        self.held = held

    def __reduce__(self) -> Any:
        return ByItself, (self.held,)


class Result(dict[str, Any]):
    """As serializers return: a plain dict when it is pickled, without what made it."""

    maker: Any = None

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


@pytest.mark.parametrize("how", CLONING)
class TestContainers:
    @pytest.mark.parametrize(
        "value",
        [
            OrderedDict(a=[1], b=2),
            defaultdict(list, a=[1]),
            Counter("aab"),
            deque([[1], 2], maxlen=2),
            bytearray(b"ab"),
            Pair([1], 2),
            Legacy([1]),
            ([1], 2, ([3],)),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_their_clones_are_equal_and_of_one_type(self, value, how) -> None:
        assert cloned(value, how) == value

    def test_what_is_special_about_one_stays(self, how) -> None:
        assert cloned(deque([[1]], maxlen=3), how).maxlen == 3
        assert cloned(defaultdict(list, a=[1]), how)["new"] == []
        assert list(cloned(OrderedDict([("b", [1]), ("a", [2])]), how)) == ["b", "a"]

    def test_objects_in_a_set_are_the_readers_own(self, how) -> None:
        one = Plain(name="a")
        [mine] = cloned({one, "text"} - {"text"}, how)
        assert mine is not one
        assert mine.name == "a"
        [mine] = hand_out(keep(frozenset([one]), how))
        assert mine is not one

    def test_an_object_that_is_a_key_and_a_value_is_one_in_the_clone(self, how) -> None:
        one = Plain()
        clone = cloned({one: [one], "b": 1}, how)
        [mine] = clone["b" if False else next(key for key in clone if key != "b")]
        assert mine in clone
        assert mine is not one
        assert list(clone)[1] == "b", "in their order"

    def test_a_view_of_bytes_can_be_released_by_its_reader(self, how) -> None:
        kept = keep([memoryview(b"ab")], how)
        hand_out(kept)[0].release()
        assert bytes(hand_out(kept)[0]) == b"ab"

    def test_a_dict_with_attributes_is_left_to_its_class(self, how) -> None:
        value = OrderedDict(a=1)
        value.note = ["x"]  # type: ignore[attr-defined]
        assert cloned(value, how).note == ["x"]


@pytest.mark.parametrize("how", CLONING)
class TestObjects:
    @pytest.mark.parametrize("make", [Plain, Strict])
    def test_attributes_are_the_readers_own_and_no_code_of_the_class_runs(self, make, how) -> None:
        inner = [1]
        clone = cloned(make(inner=inner, again=inner), how)
        assert clone.inner == [1]
        assert clone.inner is clone.again is not inner

    def test_an_object_that_leads_back_to_itself_does_so_in_its_clone(self, how) -> None:
        one = Plain()
        one.me, one.list = one, [one, (one,)]
        clone = cloned(one, how)
        assert clone.me is clone.list[0] is clone.list[1][0] is clone

    def test_slots_with_and_without_a_value(self, how) -> None:
        for kind in (Slotted, Both):
            value = kind()
            value.a = [1]
            clone = cloned(value, how)
            assert clone.a == [1]
            assert clone.a is not value.a
            assert not hasattr(clone, "b")
            value.b = "fixed"
            assert cloned(value, how).b == "fixed"

    def test_dataclasses_frozen_or_not(self, how) -> None:
        assert cloned(Order(1, [Order(2)]), how) == Order(1, [Order(2)])
        assert cloned(Fixed([1]), how) == Fixed([1])
        assert hand_out(keep(fixed := Fixed(()), how)) is fixed

    def test_a_class_of_a_function_can_be_cloned_though_not_pickled(self, how) -> None:
        class Local:
            pass

        cloned(Local(), how)

    def test_a_function_is_handed_out_as_it_is_and_a_partial_is_not(self, how) -> None:
        items: list[int] = []
        first, second = hand_out(keep([len, functools.partial(items.append, items)], how))
        assert first is len
        assert second.args[0] is not items


@pytest.mark.parametrize("how", CLONING)
class TestWhatOnlyItsClassCanCopy:
    def test_it_is_made_by_its_class(self, how) -> None:
        assert cloned(ByItself([1]), how).held == [1]

    def test_what_it_shares_with_the_rest_stays_shared(self, how) -> None:
        row = Plain(name="a")
        both = cloned([row, ByItself([row])], how)
        assert both[1].held[0] is both[0]

    def test_it_may_be_in_what_it_holds(self, how) -> None:
        row = Plain()
        row.keeper = ByItself(row)
        clone = cloned(row, how)
        assert clone.keeper.held is clone

    def test_two_that_hold_each_other_are_copied_as_a_whole(self, how) -> None:
        one = ByItself(None)
        pair = (one, [1])
        two = ByItself(pair)
        clone = cloned([pair, two], how)
        assert clone[1].held[1] is clone[0][1] or clone[1].held[1] == [1]

    def test_a_class_that_speaks_of_copies_in_any_way_is_asked(self, how) -> None:
        class Restored(Plain):
            def __setstate__(self, state: dict[str, Any]) -> None:
                vars(self).update(state, restored=True)

        globals()["Restored"] = Restored  # where pickle looks for it
        Restored.__qualname__ = "Restored"
        assert cloned(Restored(a=[1]), how).restored

    def test_an_exception_is_made_anew(self, how) -> None:
        error = ValueError("no", [1])
        assert cloned([error], how)[0].args == ("no", [1])


def test_what_says_that_it_becomes_a_plain_container_is_handed_out_as_one() -> None:
    """As by pickle. Its rows are cloned, not pickled one by one."""
    value = Result(rows=[1])
    value.maker = object()
    clone = hand_out(keep(value))
    assert clone == {"rows": [1]}
    assert type(clone) is dict
    assert clone["rows"] is not value["rows"]


class Framework:
    """A kind that an integration knows."""

    def __init__(self) -> None:
        self.cache: list[object] = []

    def __reduce__(self) -> Any:
        raise AssertionError("it is not pickled")


class Derived(Framework):
    pass


@pytest.fixture
def framework(monkeypatch) -> None:
    monkeypatch.setattr(kinds, "_by_base", dict(kinds._by_base))
    yield
    kinds.draw_of.cache_clear()


@pytest.mark.usefixtures("framework")
class TestKindsOfOthers:
    def test_a_kind_says_how_it_and_its_subclasses_are_drawn(self) -> None:
        def draw(value: Framework, draft: Draft, node: Node) -> Node:
            return draft.object(node, type(value), {"cache": []})

        kinds.draw_of(Derived)  # as if one had been cloned before
        add_kind(Framework, draw)
        value = Derived()
        value.cache.append(1)
        assert cloned(value).cache == []

    def test_a_kind_may_be_handed_out_as_it_is(self) -> None:
        add_kind(Framework, as_it_is)
        value = Derived()
        assert hand_out(keep([value, []]))[0] is value

    def test_it_is_found_in_what_becomes_a_plain_container(self) -> None:
        add_kind(Framework, as_it_is)
        value = Framework()
        assert hand_out(keep(Result(rows=[value])))["rows"][0] is value

    def test_a_kind_may_stand_for_another_value(self) -> None:
        add_kind(Framework, lambda value, draft, node: draft.node_of(value.cache))
        assert hand_out(keep(Framework())) == []

    def test_a_subclass_may_have_a_kind_of_its_own(self) -> None:
        add_kind(Framework, as_it_is)
        add_kind(Derived, lambda value, draft, node: draft.node_of(value.cache))
        assert hand_out(keep([Derived(), []]))[0] == []
