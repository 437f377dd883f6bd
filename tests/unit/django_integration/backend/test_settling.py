"""Fills that come too late are taken back, and deletes that failed are made."""

import threading
from datetime import UTC, datetime

import pytest
from django.core.cache import caches

from django_integration import bus, invalidate
from django_integration.backend import second_level, settling

from ..conftest import WAIT_S, Wire
from ..faulty import FaultyCache
from ..zoo.models import Cage
from .conftest import GONE, KEY


@pytest.fixture(autouse=True)
def cache(two_levels):
    return two_levels


def status() -> second_level.L2Status:
    return caches["default"].second_level.status()


def test_a_fill_that_came_after_the_delete_is_taken_back(cache, second, other, wire: Wire) -> None:
    """The other server deletes and publishes while ours is on its way; those who read ours meanwhile drop it, too."""
    taken_back = status().taken_back
    assert cache.get("k") is None
    FaultyCache.after["add"] = lambda: other.invalidate(KEY)
    cache.set("k", "old")
    assert settling.settle(WAIT_S)
    assert second.get(KEY) is None
    assert cache.get("k") is None
    assert status().taken_back == taken_back + 1
    assert wire.messages() == [GONE, GONE]


@pytest.mark.parametrize("how", ["delete", "delete_many", "invalidate"])
def test_what_came_between_delete_and_publishing_is_found_by_checking_again(
    cache, second, wire: Wire, how, monkeypatch
) -> None:
    """The other server had read the source before our change; our invalidation is accepted too late for its proof."""
    monkeypatch.setattr(second_level, "GRACE_NS", 0)
    monkeypatch.setattr(settling, "GRACE_NS", 0)
    cache.set("k", "old")
    wire.messages()
    FaultyCache.after["delete"] = lambda: second.set(KEY, "old again")
    {
        "delete": lambda: cache.delete("k"),
        "delete_many": lambda: cache.delete_many(["k"]),
        "invalidate": lambda: invalidate(cache.key_name("k")),
    }[how]()
    assert settling.settle(WAIT_S)
    assert second.get(KEY) is None
    assert wire.messages() == [GONE, GONE]


@pytest.mark.parametrize(
    ("old", "new"), [(4, 5), ("old", "new"), ({"a": 1}, {"a": 2}), ([1], [1, 2]), ({"a": 1}, {"a": [3]}), (None, 0)]
)
def test_what_is_written_after_a_delete_is_not_lost(cache, second, old, new) -> None:
    """A fill that was deleted is still being watched; what lies there now is not that fill."""
    for turn in range(2):
        assert cache.get_or_set("k", old) == old
        cache.delete("k")
        cache.set("k", new)
        if turn == 1:
            cache.delete("k")
            assert cache.add("k", new) is True
        assert settling.settle(WAIT_S)
        assert second.get(KEY) == new
        assert cache.get("k") == new
        cache.delete("k")


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        (1, 2, True),
        ("a", "b", True),
        ({"a": 1}, {"a": 2}, True),
        ({"a": 1}, {}, True),
        ([1], [1, 2], True),
        ([1, {"a": [2]}], [1, {"a": [3]}], True),
        (1, 1, False),
        ((1, 2), [1, 2], False),  # as JSON has it
        ({1: "a"}, {"1": "a"}, False),
        (1, "1", False),
        ({}, [], True),
        (None, 0, True),
        (float("nan"), float("nan"), False),
        (object(), object(), False),
    ],
)
def test_only_what_cannot_be_the_same_differs_surely(one, other, differ) -> None:
    """In doubt a fill is taken back: a cold cache is slow, a stale one is wrong."""
    assert settling.surely_differ(one, other) is differ


class Unpicklable:
    def __reduce__(self) -> str:
        raise TypeError


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": [1, "b"]}, {"a": (1, "b")}, True),  # JSON has no tuples
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {"b": 1}, False),
        (1, 1.0, False),
        (1, True, False),
        (None, None, True),
        (float("nan"), float("nan"), False),
        ({1, 2}, {1, 2}, True),
        (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), True),
        (Cage(pk=1, name="a"), Cage(pk=1, name="b"), False),  # though Django says that they are equal
        (Unpicklable(), Unpicklable(), False),
    ],
)
def test_only_what_cannot_differ_is_surely_equal(one, other, equal) -> None:
    """In doubt a value is deleted."""
    assert settling.are_surely_equal(one, other) is equal


def test_a_new_value_does_not_take_fills_back(cache, second) -> None:
    """It is in the second level: only the copies of the old one are stale."""
    taken_back = status().taken_back
    assert cache.get_or_set("k", 0) == 0
    for _ in range(5):
        cache.incr("k")
    assert settling.settle(WAIT_S)
    assert second.get(KEY) == 5
    assert cache.get("k") == 5
    assert status().taken_back == taken_back

    @pytest.mark.parametrize(
        "write",
        [lambda cache: cache.set("k", 2), lambda cache: cache.delete("k"), lambda cache: cache.delete_many(["k"])],
    )
    def test_a_write_that_fails_is_published_and_its_delete_made_later(self, cache, second, wire, write) -> None:
        cache.set("k", "old")
        cache.get("k")
        wire.messages()
        FaultyCache.down = True
        with pytest.raises(ConnectionError):
            write(cache)
        assert GONE in wire.messages()
        assert cache.get("k") is None
        FaultyCache.down = False
        assert settling.settle(WAIT_S)
        assert second.get(KEY) is None
        assert GONE in wire.messages(), "another server may have read the old value meanwhile"


def test_nothing_of_it_outlives_its_work(cache) -> None:
    """No thread waits for ever."""
    cache.get("k")
    cache.set("k", 1)
    assert settling.settle(WAIT_S)
    assert sum(thread.name == "invalidator-l2" for thread in threading.enumerate()) <= 1


def test_more_tasks_than_fit_become_one_clear(cache, monkeypatch) -> None:
    """After a long outage: an empty second level is slow, a stale one is wrong."""
    begun, may_go_on = threading.Event(), threading.Event()
    calls: list[str] = []

    def take_back(names) -> None:
        calls.extend(names)
        begun.set()
        may_go_on.wait(WAIT_S)

    monkeypatch.setattr(settling, "MOST_PENDING", 2)
    monkeypatch.setattr(cache.second_level, "take_back", take_back)
    monkeypatch.setattr(cache.second_level, "clear", lambda: calls.append("everything"))
    settler = settling.Settler()
    settler.add(settling.OwedDelete(cache.second_level, ("first",)))
    assert begun.wait(WAIT_S)
    for number in range(4):
        settler.add(settling.OwedDelete(cache.second_level, (f"k{number}",)))
    assert settler.is_full()
    settler.add(settling.OwedDelete(cache.second_level, ("last",)))
    assert settler.waiting(cache.second_level) == 3
    may_go_on.set()
    assert settler.settle(WAIT_S)
    assert calls == ["first", "everything", "last"]


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(), KeyboardInterrupt()])
def test_whatever_a_second_level_raises_does_not_end_the_thread(cache, monkeypatch, error) -> None:
    """A client library may raise what is no `Exception`. The deletes that are owed would never be made."""
    calls: list[str] = []
    errors = iter([error])

    def take_back(names) -> None:
        for each in errors:
            raise each
        calls.extend(names)

    monkeypatch.setattr(settling, "RETRY_S", 0.01)
    monkeypatch.setattr(cache.second_level, "take_back", take_back)
    settler = settling.Settler()
    settler.add(settling.OwedDelete(cache.second_level, ("a",)))
    assert settler.settle(WAIT_S)
    assert calls == ["a"]


def test_a_thread_that_cannot_start_is_tried_again(cache, monkeypatch, caplog) -> None:
    """The write that owes a delete does not fail."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls: list[str] = []
    monkeypatch.setattr(cache.second_level, "take_back", calls.extend)
    settler = settling.Settler()
    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", refuse)
        settler.add(settling.OwedDelete(cache.second_level, ("a",)))
    assert "settling_cannot_start" in caplog.text
    settler.add(settling.OwedDelete(cache.second_level, ("b",)))
    assert settler.settle(WAIT_S)
    assert calls == ["a", "b"]


def test_a_thread_that_gevent_ends_leaves_its_tasks_to_another(cache, monkeypatch) -> None:
    class GreenletExit(BaseException):
        pass

    def end(names) -> None:
        raise GreenletExit

    monkeypatch.setattr(cache.second_level, "take_back", end)
    settler = settling.Settler()
    settler._tasks.append(settling.OwedDelete(cache.second_level, ("a",)))
    with pytest.raises(GreenletExit):
        settler._run()
    assert (settler.waiting(cache.second_level), settler._thread) == (1, None)


def test_a_process_that_ends_takes_back_what_is_not_proven(cache, second, monkeypatch) -> None:
    monkeypatch.setattr(type(bus()), "wait_until_proven", lambda *_: False)
    second.set(KEY, "unproven")
    settler = settling.Settler()
    settler.add(settling.UnprovenFill(cache.second_level, KEY, "unproven", since=0, done_at=0))
    assert not settler.settle(0)
    settler.take_all_back(0)
    assert second.get(KEY) is None
    settler.abandon()


def test_a_forked_child_leaves_the_tasks_to_its_parent(cache, monkeypatch) -> None:
    monkeypatch.setattr(settling.Settler, "_run", lambda _: None)  # a child has no thread
    settler = settling.Settler()
    settler.add(settling.UnprovenFill(cache.second_level, KEY, 1, since=0, done_at=0))
    assert settler.waiting(cache.second_level) == 1
    settler.after_fork_in_child()
    assert settler.waiting(cache.second_level) == 0
    assert settler.settle(0)
