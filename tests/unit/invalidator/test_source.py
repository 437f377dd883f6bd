"""A caller that sees the source differently reads past the cache, and what it computes is stored for nobody."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from invalidator.bus import Invalidator
from invalidator.entry import AnyEntry, Entry
from invalidator.loaded import Loaded
from invalidator.names import name_slots
from invalidator.source import NoTransactions
from invalidator.writable_cache import WritableCache
from tests.support import Clock, SilentLink, Thread, wait_until

SLOTS = 2**17


class View:
    """The source as this test's thread sees it; everybody else sees it as it is."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.thread = threading.get_ident()
        self.uncommitted: set[str] = set()
        self.read: list[AnyEntry] = []
        self.began: int | None = None

    @property
    def slow_path(self) -> set[str]:
        return self.uncommitted

    def has_read(self, entry: AnyEntry) -> None:
        self.read.append(entry)

    def is_mine(self) -> bool:
        return threading.get_ident() == self.thread

    def as_of(self) -> int:
        return self.clock() if self.began is None or not self.is_mine() else self.began

    def is_apart(self) -> bool:
        return self.is_mine() and bool(self.uncommitted)

    def has_changed(self, entry: AnyEntry) -> bool:
        slots = {*entry.slots, *[slot for _, slots in entry.parts for slot in slots]}
        changed = name_slots(self.uncommitted, self.uncommitted, SLOTS)
        return self.is_apart() and not slots.isdisjoint(changed)

    def may_share(self, entry: AnyEntry, begun: int | None) -> bool:
        return not self.has_changed(entry) if entry.tags else not self.is_apart()


@pytest.fixture
def view(clock: Clock) -> View:
    return View(clock)


@pytest.fixture
def cache(clock: Clock, view: View) -> Iterator[WritableCache]:
    with Invalidator("memory://", namespace="shop", clock=clock, link=SilentLink(), slots=SLOTS) as bus:
        bus.ledger.prove(clock())
        yield WritableCache(bus, source=view)


def elsewhere(action) -> object:
    """What another thread gets."""
    return Thread(action).outcome()


def load(value: object, *tags: str):
    return lambda: Loaded(value, tags=tags)


def test_without_transactions_everybody_sees_the_source_as_it_is(clock: Clock) -> None:
    view, entry = NoTransactions(clock), Entry(1, loaded_at=1, slots=(1,))
    assert not view.slow_path
    view.has_read(entry)
    assert (view.as_of(), view.is_apart()) == (clock(), False)
    assert (view.has_changed(entry), view.may_share(entry, None)) == (False, True)


@pytest.mark.parametrize("changed", ["a", "t"])
def test_what_the_caller_has_changed_is_read_past_the_cache(cache: WritableCache, view: View, changed: str) -> None:
    cache.set("a", "old", tags=["t"])
    cache.set("b", "other")
    assert cache.get_many(["a", "b"]) == cache.get_many(["a", "b"])  # the second time they are known to be good
    view.uncommitted.add(changed)
    assert (cache.get("a"), cache.get_many(["a", "b"]), "a" in cache) == (None, {"b": "other"}, False)
    assert cache.get_entry("a") is None
    assert cache.get_or_set("a", lambda: "mine", tags=["t"]) == "mine"
    assert elsewhere(lambda: cache.get("a")) == "old", "for everybody else nothing has changed"
    view.uncommitted.clear()
    assert cache.get("a") == "old"


def test_what_may_be_uncommitted_is_not_stored(cache: WritableCache, view: View) -> None:
    view.uncommitted.add("t")
    assert cache.set("a", "mine", tags=["t"]) is False
    assert cache.set("b", "untagged: it may hold anything") is False
    assert cache.set("c", "of something else", tags=["u"]) is True
    assert cache.get_or_set("d", load("mine", "t"), tags=["u"]) == "mine", "a loader may add tags"
    assert asyncio.run(cache.aget_or_set("e", _aload)) == "mine"
    view.uncommitted.clear()
    assert [key for key in "abcde" if key in cache] == ["c"]
    assert cache.stats().refused_fills == 4


async def _aload() -> object:
    return Loaded("mine", tags=["t"])


def test_when_a_load_began_is_said_wherever_it_ends(cache: WritableCache, view: View, clock: Clock) -> None:
    """A transaction inside of a loader is over at its end, and `slow_path` empty: the view is asked all the same."""
    asked: list[int | None] = []

    def may_share(entry: AnyEntry, begun: int | None) -> bool:
        asked.append(begun)
        return False

    view.may_share = may_share  # type: ignore[method-assign]
    view.began = clock()
    clock.advance(1)
    began = clock()
    assert cache.get_or_set("a", lambda: "mine") == "mine"
    assert asyncio.run(cache.aget_or_set("a", _aload)) == "mine"
    assert asked == [began, began]
    assert "a" not in cache
    view.uncommitted.add("t")
    assert cache.set("a", "mine") is False
    assert asked[2:] == [None]


def test_a_load_of_a_caller_that_has_changed_something_is_joined_by_nobody(cache: WritableCache, view: View) -> None:
    view.uncommitted.add("t")
    seen = []

    def loader() -> str:
        seen.append(elsewhere(lambda: cache.get_or_set("a", lambda: "committed", tags=["t"])))
        return "mine"

    assert cache.get_or_set("a", loader, tags=["t"]) == "mine"
    assert seen == ["committed"]


def test_a_caller_that_has_changed_something_joins_nobody(cache: WritableCache, view: View) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(20)
        return "committed"

    other = Thread(lambda: cache.get_or_set("a", slow, tags=["t"]))
    assert begun.wait(20)
    view.uncommitted.add("t")
    assert cache.get_or_set("a", lambda: "mine", tags=["t"]) == "mine"
    go_on.set()
    assert other.outcome() == "committed"


def test_what_a_loader_itself_has_changed_is_given_to_nobody_else(cache: WritableCache, view: View) -> None:
    """It was not known when others boarded."""
    others: list[Thread] = []

    def loader() -> str:
        others.append(Thread(lambda: cache.get_or_set("a", lambda: "committed", tags=["t"])))
        wait_until(lambda: cache.stats().joins == 1)
        view.uncommitted.add("t")
        return "mine"

    assert cache.get_or_set("a", loader, tags=["t"]) == "mine"
    assert others[0].outcome() == "committed"


def test_every_answer_is_reported_to_the_callers_view(cache: WritableCache, view: View, clock: Clock) -> None:
    entry = cache.load_entry("a", load(1, "t"))
    cache.load_entry("b", load(2))
    view.uncommitted.add("something")
    asks = {
        "a hit": lambda: cache.get("a"),
        "a hit of an entry": lambda: cache.get_entry("a"),
        "one of many": lambda: cache.get_many(["a"]),
        "no load": lambda: cache.get_or_set("a", lambda: 2),
        "somebody else's load": lambda: cache.load_entry("a", lambda: 2),
    }
    for what, ask in asks.items():
        view.read.clear()
        ask()
        assert view.read == [entry], what
    clock.advance(0.1)
    view.read.clear()
    assert cache.get("nothing") is None
    (nothing,) = view.read
    assert (nothing.loaded_at, nothing.slots) == (clock(), name_slots(("nothing",), (), SLOTS))
    view.read.clear()
    made = cache.load_entry("c", load(3, "u"))
    assert [view.read, made.tags] == [[made], ("u",)]
    view.read.clear()
    asyncio.run(cache.aget_or_set("e", _aload))
    assert [entry.tags for entry in view.read] == [("t",)]
    view.read.clear()
    cache.note_read("l2", tags=["copy"], loaded_at=1)
    assert view.read[0].slots == name_slots(("l2",), ("copy",), SLOTS)


def test_what_is_not_served_was_not_read(cache: WritableCache, view: View, clock: Clock) -> None:
    cache.set("a", 1)
    clock.advance(0.1)
    cache.bus.ledger.stamp(name_slots(("a",), (), SLOTS), clock())
    view.uncommitted.add("something")
    assert cache.get("a") is None
    assert [entry.value for entry in view.read] == [None]


def test_what_an_old_view_shows_counts_from_when_it_was_taken(cache: WritableCache, view: View, clock: Clock) -> None:
    view.began = clock()
    clock.advance(0.1)
    cache.bus.invalidate("a", "b", "c", "d")
    clock.advance(0.1)
    assert cache.set("a", "old") is False
    assert cache.get_or_set("b", lambda: "old") == "old"
    assert cache.get("c") is None
    view.began = None  # the transaction has ended, and what it read is stored only now
    assert cache.set("c", "old") is False
    assert cache.set("d", "new") is True
    assert [key for key in "abcd" if key in cache] == ["d"]


def test_an_old_view_is_no_hindrance_where_nothing_has_changed(cache: WritableCache, view: View, clock: Clock) -> None:
    view.began = clock()
    clock.advance(0.1)
    assert cache.get_or_set("a", lambda: "same") == "same"
    assert cache.get("a") == "same"


def test_whether_a_set_follows_a_miss_does_not_depend_on_the_age_of_the_view(
    cache: WritableCache, view: View, clock: Clock
) -> None:
    view.began = clock()
    clock.advance(600)
    cache.get("a")
    assert cache.claim_miss("a", within=60) == (True, view.began)
