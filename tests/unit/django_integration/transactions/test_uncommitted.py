"""The list of what a connection has not committed: savepoints are places in it, and followers learn how they end."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from django_integration import cache, invalidate, slow_path
from django_integration.names import Names
from django_integration.transactions import uncommitted
from django_integration.transactions.outgoing import follow
from tests.support import Thread

from ..conftest import Wire, keys
from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db")


class Following:
    """Writes down what it learns."""

    def __init__(self, log: list[str], name: str = "it") -> None:
        self.log = log
        self.keys = [name]

    def names(self) -> Names:
        return Names(keys=dict.fromkeys(self.keys))

    def committed(self) -> uncommitted.Again:
        self.log.append(f"{'+'.join(self.keys)} committed")
        return uncommitted.Again(self.names())

    def published(self, receipt: Any) -> None:
        self.log.append("published")

    def rolled_back(self) -> None:
        self.log.append(f"{'+'.join(self.keys)} rolled back")

    def absorb(self, later: Any) -> None:
        self.keys += later.keys


def following(log: list[str], name: str = "it", key: object = "key") -> list[Any]:
    """Follow the transactions in progress."""
    return [follower for follower, _ in follow(key, lambda: Following(log, name))]


# Savepoints.


def test_a_savepoint_by_hand_that_is_rolled_back_loses_its_names_and_no_others(wire: Wire) -> None:
    """Django keeps callbacks that were registered after `transaction.savepoint()`; their rows are gone."""
    with transaction.atomic():
        invalidate("before")
        outer = transaction.savepoint()
        invalidate("outer")
        inner = transaction.savepoint()
        invalidate("inner")
        transaction.savepoint_rollback(inner)
        invalidate("after inner")
        transaction.savepoint_commit(inner)
        transaction.savepoint_rollback(outer)
        invalidate("after outer")
    assert wire.messages() == [keys("before", "after outer")]


def test_a_savepoint_may_be_rolled_back_to_again(wire: Wire) -> None:
    with transaction.atomic():
        savepoint = transaction.savepoint()
        for name in ("a", "b"):
            invalidate(name)
            transaction.savepoint_rollback(savepoint)
        invalidate("c")
    assert wire.messages() == [keys("c")]


def test_a_released_savepoint_is_rolled_back_with_the_one_around_it(wire: Wire) -> None:
    with transaction.atomic():
        invalidate("kept")
        outer = transaction.savepoint()
        inner = transaction.savepoint()
        invalidate("gone")
        transaction.savepoint_commit(inner)
        transaction.savepoint_rollback(outer)
    assert wire.messages() == [keys("kept")]


def test_many_released_savepoints_are_one_batch() -> None:
    """A hit inside the transaction looks at each."""
    with transaction.atomic():
        for number in range(50):
            with transaction.atomic():
                invalidate(f"k{number}")
        assert len(uncommitted.of(connection).batches) == 1
        assert len(uncommitted.of(connection).names().keys) == 50
        transaction.set_rollback(True)


def test_a_savepoint_that_is_not_known_drops_nothing(wire: Wire) -> None:
    """When in doubt, everything is published, and what was set is void."""
    log: list[str] = []
    with transaction.atomic():
        invalidate("a")
        following(log)
        uncommitted.of(connection).roll_back_to("unknown")
        assert log == ["it rolled back"]
    assert wire.messages() == [keys("a", "it")]


def test_a_transaction_leaves_nothing_behind() -> None:
    for is_good in (True, False):
        with transaction.atomic():
            transaction.savepoint()
            invalidate("a")
            transaction.set_rollback(not is_good)
        changed = uncommitted.of(connection)
        assert [changed.batches, changed.committed, changed._savepoints, changed.by_hand] == [[], [], [], False]
        assert not slow_path.reasons


# Followers.


def test_a_follower_publishes_in_the_one_message_and_learns_when_it_has_left(wire: Wire) -> None:
    log: list[str] = []
    with transaction.atomic():
        Cage.objects.create()
        (follower,) = following(log)
        assert following(log) == [follower], "one for each stretch and key"
        assert log == []
    assert log == ["it committed", "published"]
    message = wire.message()
    assert message.keys == {"it"}
    assert "zoo.cage" in message.tags


def test_a_follower_alone_is_a_message_of_its_own_and_no_write(wire: Wire) -> None:
    cache.set("page", 1)
    with transaction.atomic():
        following([])
        assert not uncommitted.of(connection).has_written
        assert not slow_path.reasons
        assert wire.messages() == []
    assert wire.messages() == [keys("it")]


def test_outside_of_a_transaction_there_is_nothing_to_follow() -> None:
    assert following([]) == []


def test_each_transaction_has_followers_of_its_own() -> None:
    log: list[str] = []
    with transaction.atomic(), transaction.atomic(using="other"):
        assert len(following(log)) == 2
        transaction.set_rollback(True, using="other")
    assert log == ["it rolled back", "it committed", "published"]


def test_followers_of_a_savepoint_learn_of_its_rollback_and_of_no_other_end() -> None:
    log: list[str] = []
    with transaction.atomic():
        following(log, "outer")
        with transaction.atomic():
            following(log, "inner")
            transaction.set_rollback(True)
        assert log == ["inner rolled back"]
    assert log == ["inner rolled back", "outer committed", "published"]


def test_a_released_stretch_is_absorbed_by_the_one_before() -> None:
    log: list[str] = []
    with transaction.atomic():
        following(log, "outer")
        with transaction.atomic():
            following(log, "inner")
        transaction.set_rollback(True)
    assert log == ["outer+inner rolled back"]


def test_a_lost_connection_has_rolled_back() -> None:
    log: list[str] = []
    with transaction.atomic():
        following(log)
        connection.close()
        assert log == ["it rolled back"]
    assert log == ["it rolled back"]


def test_a_connection_that_is_lost_without_a_word_has_rolled_back() -> None:
    """Its thread has ended in the middle of a transaction, and the collector found it. The next hit says so."""
    log: list[str] = []

    def leave() -> None:
        transaction.set_autocommit(False)
        Cage.objects.create()
        following(log)
        connection.connection.close()  # the driver's, of which Django learns nothing

    Thread(leave).outcome()
    gc.collect()
    assert slow_path.reasons
    cache.set("page", 1)
    cache.get("page")
    assert log == ["it rolled back"]
    assert not slow_path.reasons


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_without_an_answer_is_both(wire: Wire, committed: bool) -> None:
    log: list[str] = []

    def commit() -> None:
        if committed:
            real()
        raise OperationalError("the connection was lost")

    def change(commit: Callable[[], object]) -> None:
        with pytest.MonkeyPatch.context() as patch, transaction.atomic():
            invalidate("a")
            following(log)
            patch.setattr(connection, "_commit", commit)

    real = connection._commit
    with pytest.raises(OperationalError):
        change(commit)
    assert log[:3] == ["it rolled back", "it committed", "published"]
    assert wire.messages() == [keys("a", "it")]


def test_an_error_of_a_follower_reaches_nobody(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Following):
        def committed(self) -> Names:
            raise RuntimeError("mine")

        published = rolled_back = committed  # type: ignore[assignment]

    with caplog.at_level(logging.ERROR):
        for is_good in (True, False):
            with transaction.atomic():
                invalidate("a")
                follow("key", lambda: Broken([]))
                transaction.set_rollback(not is_good)
    assert wire.messages() == [keys("a")]
    assert caplog.text.count("follower_failed") == 3


def test_a_follower_of_a_stretch_that_has_just_ended_has_been_rolled_back() -> None:
    """A coroutine may come late: another thread has ended the transaction meanwhile."""
    log: list[str] = []
    batch = uncommitted.Batch()
    batch.roll_back()
    batch.follow("key", lambda: Following(log))
    assert log == ["it rolled back"]
    assert not batch.followers
