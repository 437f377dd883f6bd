"""Publishing connections: one thread each, a bounded number, none that something on the way may have forgotten."""

import gc
from collections.abc import Callable
from typing import Any

import pytest

from invalidator.link.connections import MOST_IDLE_S, Connections
from tests.support import Thread


class Connection:
    """Remembers whether it was closed."""

    def __init__(self) -> None:
        self.is_open = True

    def disconnect(self) -> None:
        self.is_open = False


class Time:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def make(time: Time) -> Callable[..., Connections]:
    def make(*, most: int = 2, wait_s: float = 0.0, clock: Any = time) -> Connections:
        return Connections(Connection, most=most, wait_s=wait_s, clock=clock)

    return make


def connection_of(lent: Any) -> Any:
    assert lent is not None
    return lent.connection


class TestLending:
    def test_one_that_is_idle_is_lent_again(self, make) -> None:
        connections = make()
        lent = connections.lend()
        first = lent.connection
        connections.give_back(lent)
        assert connection_of(connections.lend()) is first

    def test_the_last_that_was_given_back_is_lent_first(self, make) -> None:
        """So that a burst's connections grow old and are closed, instead of being used in turn for ever."""
        connections = make()
        first, second = connections.lend(), connections.lend()
        connections.give_back(first)
        connections.give_back(second)
        assert connections.lend() is second

    def test_no_two_callers_have_the_same(self, make) -> None:
        connections = make()
        assert connection_of(connections.lend()) is not connection_of(connections.lend())

    def test_there_are_no_more_than_agreed(self, make) -> None:
        connections = make(most=2)
        lent = [connections.lend() for _ in range(3)]
        assert lent[2] is None

    def test_a_thread_that_waits_is_lent_the_next_that_is_given_back(self, make) -> None:
        connections = make(most=1, wait_s=3600.0)
        lent = connections.lend()
        waiting = Thread(connections.lend)
        while not connections._waiting:
            pass
        connections.give_back(lent)
        assert waiting.outcome() is lent

    def test_many_threads_share_a_few(self, make) -> None:
        """Each is lent one in the end, and none is lost on the way."""
        connections = make(most=3, wait_s=3600.0)

        def use() -> None:
            for _ in range(200):
                connections.give_back(connections.lend())

        for thread in [Thread(use) for _ in range(12)]:
            thread.outcome()
        assert len([connections.lend() for _ in range(3)]) == 3


class TestClosing:
    def test_one_that_failed_is_not_lent_again(self, make) -> None:
        connections = make(most=1)
        lent = connections.lend()
        failed = lent.connection
        connections.drop(lent)
        assert not failed.is_open
        assert connection_of(connections.lend()) is not failed

    def test_what_was_idle_for_too_long_is_not_lent_again(self, make, time) -> None:
        """A NAT forgets it, and says nothing."""
        connections = make()
        lent = connections.lend()
        old = lent.connection
        connections.give_back(lent)
        time.now += MOST_IDLE_S
        assert connection_of(connections.lend()) is not old
        assert not old.is_open

    def test_one_that_does_not_answer_takes_those_with_it_that_are_as_old(self, make, time) -> None:
        """Each of them would cost a time-out of its own."""
        connections = make(most=3)
        first, second, third = connections.lend(), connections.lend(), connections.lend()
        for lent in (first, second):
            connections.give_back(lent)
        time.now += 1
        connections.give_back(third)
        used = [each.connection for each in (first, second, third)]
        connections.give_back(connections.lend())  # the third, which is younger
        connections._idle.remove(second)
        connections.drop(second, and_as_old=True)
        assert [each.is_open for each in used] == [False, False, True]
        assert connections.lend() is third

    def test_all_that_are_idle_are_closed(self, make) -> None:
        connections = make()
        lent = connections.lend()
        idle = lent.connection
        connections.give_back(lent)
        connections.close()
        assert not idle.is_open
        assert connection_of(connections.lend()).is_open

    def test_one_that_is_lost_with_its_holder_is_closed_and_replaced(self, make) -> None:
        """A time limit may strike at any line."""
        connections = make(most=1)
        lent = connections.lend()
        lost = lent.connection
        del lent
        assert not lost.is_open
        assert connection_of(connections.lend()).is_open

    def test_what_a_child_forgets_is_collected(self, make) -> None:
        """Places that are collected with the queue they were in do not fill it again."""
        connections = make(most=4)
        connections.give_back(connections.lend())
        connections.forget()
        gc.collect()
        assert connections._places.qsize() == 4
