"""Where entries are kept: what leaves, why, and that nothing leaves untold."""

import itertools
import math
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from invalidator.entry import Entry
from invalidator.store import Store
from invalidator.variants import variant_of
from tests.interrupts import Places, interrupted


def entry_of(value: object = None, loaded_at: int = 100) -> Entry[object]:
    return Entry(value, loaded_at=loaded_at, slots=())


def told(evicted) -> list[tuple[str, str]]:
    return [(key, cause) for key, _, cause in evicted]


class TestCauses:
    def test_what_does_not_fit_pushes_the_oldest_out(self) -> None:
        store = Store(2)
        assert store.put("a", entry_of()) == []
        assert store.put("b", entry_of()) == []
        assert told(store.put("c", entry_of())) == [("a", "room")]
        assert len(store) == 2

    @pytest.mark.parametrize("cause", ["invalidated", "expired", "hand"])
    def test_what_is_removed_is_returned_with_its_cause(self, cause) -> None:
        store = Store(9)
        entry = entry_of()
        store.put("a", entry)
        assert store.remove(["a", "absent"], cause) == [("a", entry, cause)]
        assert store.remove(["a"], cause) == []

    def test_an_entry_that_was_loaded_later_stays(self) -> None:
        """The message of an invalidation that came late must not throw away what was loaded after it."""
        store = Store(9)
        store.put("old", entry_of(loaded_at=100))
        store.put("same", entry_of(loaded_at=200))
        store.put("new", entry_of(loaded_at=201))
        gone = store.remove(["old", "same", "new"], "invalidated", loaded_before=200)
        assert told(gone) == [("old", "invalidated"), ("same", "invalidated")]
        assert store.by_key["new"]

    def test_an_entry_that_was_replaced_is_not_removed_in_its_successors_place(self) -> None:
        """Two threads look at one stale entry; the second must not remove what the first has loaded since."""
        store = Store(9)
        stale, fresh = entry_of(), entry_of()
        store.put("a", stale)
        store.put("a", fresh)
        assert store.remove_entry("a", stale, "invalidated") == []
        assert store.by_key["a"] is fresh
        assert told(store.remove_entry("a", fresh, "expired")) == [("a", "expired")]

    def test_sweeping_asks_each_entry(self) -> None:
        store = Store(9)
        for key in "abc":
            store.put(key, entry_of(key))
        gone = store.remove_if(lambda entry: {"a": "expired", "b": None, "c": "invalidated"}[entry.value])
        assert told(gone) == [("a", "expired"), ("c", "invalidated")]
        assert len(store) == 1

    def test_a_missing_key_is_a_key_error(self) -> None:
        with pytest.raises(KeyError):
            Store(9).by_key["a"]


class TestSecondChance:
    def test_what_was_hit_stays(self) -> None:
        """A hit need not move anything, and yet counts."""
        store = Store(2)
        store.put("a", entry_of())
        store.put("b", entry_of())
        store.by_key["a"].hits += 1
        assert told(store.put("c", entry_of())) == [("b", "room")]
        assert store.by_key["a"]

    def test_but_not_for_ever(self) -> None:
        """A hit counts for one turn."""
        store = Store(2)
        store.put("a", entry_of())
        store.by_key["a"].hits += 1
        store.put("b", entry_of())
        assert told(store.put("c", entry_of())) == [("b", "room")]
        assert told(store.put("d", entry_of())) == [("a", "room")]

    def test_where_everything_was_hit_one_entry_leaves_all_the_same(self) -> None:
        """A fill does not walk through 50,000 entries."""
        store = Store(1000)
        looked = Counter()

        class Looked(Entry):
            __slots__ = ()

            @property
            def hits_at_turn(self):
                looked["turns"] += 1
                return -1

            @hits_at_turn.setter
            def hits_at_turn(self, value):
                pass

        for number in range(1000):
            store.put(f"k{number}", Looked(None, loaded_at=1, slots=()))
        assert len(store.put("one more", entry_of())) == 1
        assert looked["turns"] <= 100
        assert len(store) == 1000


class TestSizes:
    def test_room_is_counted_in_sizes(self) -> None:
        store = Store(10, getsizeof=len)
        store.put("a", entry_of("xxxx"))
        store.put("b", entry_of("xxxx"))
        assert store.size == 8
        assert told(store.put("c", entry_of("xxxxxxxx"))) == [("a", "room"), ("b", "room")]
        assert store.size == 8

    def test_what_is_larger_than_the_store_is_not_kept_and_takes_its_predecessor_along(self) -> None:
        """Otherwise the old value of the key would stay and be served."""
        store = Store(10, getsizeof=len)
        old, new = entry_of("x"), entry_of("x" * 11)
        store.put("a", old)
        assert store.put("a", new) == [("a", old, "room"), ("a", new, "room")]
        assert len(store) == 0

    def test_a_value_that_grew_is_not_measured_again(self) -> None:
        """Values are live objects. One that outgrew the store must not vanish untold, nor take the new one along."""
        store = Store(10, getsizeof=len)
        growing = ["x"]
        store.put("a", entry_of(growing))
        store.by_key["a"].hits += 1
        growing += ["x"] * 20
        entry = entry_of("x" * 10)
        gone = store.put("b", entry)
        assert told(gone) == [("a", "room")]
        assert store.by_key["b"] is entry

    @pytest.mark.parametrize("size", [math.nan, math.inf, -1, OSError("cannot measure")])
    def test_what_cannot_be_measured_is_not_kept(self, size, caplog) -> None:
        """One NaN would make the sum NaN, which is never too large; and no caller's read fails because of a size."""

        def getsizeof(value: str) -> float:
            if value != "bad":
                return 1
            if isinstance(size, Exception):
                raise size
            return size

        store = Store(2, getsizeof)
        store.put("a", entry_of("good"))
        store.put("b", entry_of("good"))
        bad = entry_of("bad")
        assert told(store.put("b", bad)) == [("b", "room"), ("b", "room")]
        assert list(store.by_key) == ["a"]
        assert store.size == 1
        assert ("getsizeof failed" in caplog.text) == isinstance(size, Exception)

    def test_user_code_may_look_into_the_store(self) -> None:
        """No user code runs under the lock: a value's size may depend on another entry's."""
        store = Store(100, getsizeof=lambda value: 1 + len(store.remove(["other"], "hand")))
        store.put("other", entry_of())
        store.put("a", entry_of())
        assert len(store) == 1


class TestHits:
    def test_hits_of_entries_that_left_are_not_forgotten(self) -> None:
        """Whatever the way they left."""
        store = Store(2)
        for key in ("replaced", "removed", "pushed out"):
            store.put(key, entry_of())
            store.by_key[key].hits += 1
            if key == "replaced":
                store.put(key, entry_of())
                store.remove([key], "hand")
            if key == "removed":
                store.remove([key], "hand")
        for key in "abc":
            store.put(key, entry_of())
        assert store.hits() == 3

    def test_hits_of_entries_that_are_here_count_at_once(self) -> None:
        store = Store(2)
        store.put("a", entry_of())
        store.by_key["a"].hits += 5
        assert store.hits() == 5


class StoreAgainstModel(RuleBasedStateMachine):
    """
    The store against a dictionary and a bag of what left.

    Whatever is done: an entry is in the store or was told to have left, never both, and the room is kept.
    """

    keys = st.sampled_from("abcdefgh")
    ROOM = 10

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(self.ROOM, getsizeof=lambda value: value)
        self.model: dict[str, Entry] = {}
        self.hits = 0
        self.now = 0

    def left(self, evicted, *causes: str) -> None:
        for key, entry, cause in evicted:
            assert cause in causes
            if self.model.get(key) is entry:
                del self.model[key]
            else:
                assert entry not in self.model.values(), "told to have left, though it is another key's"

    @rule(key=keys, size=st.integers(0, 12))
    def put(self, key, size) -> None:
        self.now += 1
        entry = entry_of(size, loaded_at=self.now)
        evicted = self.store.put(key, entry)
        before = self.model.get(key)
        self.model[key] = entry
        self.left([it for it in evicted if it.entry is not before], "room")
        assert all(it.cause == "room" for it in evicted)
        assert (size <= self.ROOM) == (key in self.model)

    @rule(key=keys)
    def hit(self, key) -> None:
        if key in self.model:
            self.store.by_key[key].hits += 1
            self.hits += 1

    @rule(chosen=st.lists(keys), cause=st.sampled_from(["hand", "invalidated"]))
    def remove(self, chosen, cause) -> None:
        evicted = self.store.remove(chosen, cause)
        assert {it.key for it in evicted} == set(chosen) & set(self.model)
        self.left(evicted, cause)

    @rule(chosen=st.lists(keys, min_size=1), data=st.data())
    def invalidate(self, chosen, data) -> None:
        before = data.draw(st.integers(0, self.now))
        expected = {key for key in chosen if key in self.model and self.model[key].loaded_at <= before}
        evicted = self.store.remove(chosen, "invalidated", loaded_before=before)
        assert {it.key for it in evicted} == expected
        self.left(evicted, "invalidated")

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def sweep(self, data) -> None:
        victims = data.draw(st.sets(st.sampled_from(sorted(self.model))))
        entries = [self.model[key] for key in victims]
        evicted = self.store.remove_if(lambda entry: "expired" if entry in entries else None)
        assert {it.key for it in evicted} == victims
        self.left(evicted, "expired")

    @invariant()
    def both_hold_the_same(self) -> None:
        assert len(self.store) == len(self.model)
        assert all(self.store.by_key[key] is entry for key, entry in self.model.items())

    @invariant()
    def the_room_is_kept(self) -> None:
        assert self.store.size == sum(entry.value for entry in self.model.values()) <= self.ROOM

    @invariant()
    def no_hit_is_lost(self) -> None:
        assert self.store.hits() == self.hits


StoreAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstModel = StoreAgainstModel.TestCase


def check_whole(store: Store) -> None:
    """What is looked into and what is counted are one, and room is made as ever."""
    assert len(store.by_key) == len(store._entries) == store.size
    for number in range(10):
        store.put(f"more {number}", entry_of())
    assert set(store.by_key) == {"more 8", "more 9", "more 7"}


CHANGES: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("new", entry_of()),
    "put in the place of another": lambda store: store.put("b", entry_of()),
    "swap": lambda store: store.swap("b", store.by_key.get("b"), entry_of()),
    "remove": lambda store: store.remove(["a", "b"], "hand"),
    "remove an entry": lambda store: store.remove_entry("b", store.by_key.get("b"), "invalidated"),
    "make room": lambda store: store.make_room(2),
    "look": lambda store: (store.items(), store.hits(), len(store), store.size),
}


def store_of_three() -> Store:
    store = Store(3)
    for key in "abc":
        store.put(key, entry_of())
    store.by_key["a"].hits = 1
    return store


class TestInterruptions:
    """By a signal handler, or by a finalizer that a garbage collection calls, at every place where one may come."""

    @pytest.mark.parametrize("outer", CHANGES)
    @pytest.mark.parametrize("inner", CHANGES)
    def test_a_change_in_the_middle_of_another(self, outer, inner) -> None:
        for at in itertools.count(1):
            store = store_of_three()
            places = Places(at, lambda store=store: CHANGES[inner](store), within="/invalidator/store")
            with interrupted(places):
                CHANGES[outer](store)
            if places.passed < at:
                break
            check_whole(store)

    def test_what_is_removed_in_the_middle_is_gone_at_the_end(self) -> None:
        for at in itertools.count(1):
            store = store_of_three()
            places = Places(at, lambda store=store: store.remove(["c"], "invalidated"), within="/invalidator/store")
            with interrupted(places):
                gone = store.put("b", entry_of())
            if places.passed < at:
                break
            assert "c" not in store.by_key
            assert told(gone) in ([], [("c", "invalidated")])

    @pytest.mark.parametrize("outer", CHANGES)
    def test_an_exception_in_the_middle(self, outer) -> None:
        """A time limit: what is half changed is emptied, and the store goes on."""

        def strike() -> None:
            raise KeyboardInterrupt

        for at in itertools.count(1):
            store = store_of_three()
            places = Places(at, strike, within="/invalidator/store")
            try:
                with interrupted(places):
                    CHANGES[outer](store)
            except KeyboardInterrupt:
                check_whole(store)
            if places.passed < at:
                break

    def test_no_value_is_let_go_of_under_the_lock(self) -> None:
        """Its finalizer may use the store."""
        store = Store(2)

        class Tidy:
            def __del__(self) -> None:
                assert store._depth == 0
                store.put("tidy", entry_of())

        for key in "aabcd":
            store.put(key, entry_of(Tidy()))
        store.remove(["c", "d"], "hand")
        assert "tidy" in store.by_key


def test_variants_are_found_by_their_name_as_long_as_they_are_there() -> None:
    store = Store(2)
    keys = [variant_of("a", str(number)) for number in range(3)]
    for key in keys:
        store.put(key, entry_of())
    assert store.variants_of("a") == tuple(keys[1:])
    assert [left.key for left in store.remove_named(["a", "b"], "hand")] == keys[1:]
    assert store.variants_of("a") == ()
