"""The names of a transaction: one message after its commit, without those of savepoints that were rolled back."""

import logging

import pytest
from django.db import transaction

from django_integration import bus, invalidate, tag

from ..conftest import Message, Wire, keys
from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db")


def test_a_transaction_is_one_message_after_the_commit(wire: Wire) -> None:
    with transaction.atomic():
        assert invalidate("a") is None
        with transaction.atomic():
            invalidate("b", tag("t"))
        invalidate("c", "a")
        assert wire.messages() == []
    assert wire.messages() == [Message(frozenset("abc"), frozenset({"t"}))]


def test_a_rollback_publishes_nothing(wire: Wire) -> None:
    def change_and_fail() -> None:
        with transaction.atomic():
            invalidate("a")
            Cage.objects.create()
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        change_and_fail()
    assert wire.messages() == []
    invalidate("b")
    assert wire.messages() == [keys("b")]


def test_names_of_a_rolled_back_transaction_do_not_come_back_with_the_next(wire: Wire) -> None:
    with transaction.atomic():
        invalidate("a")
        transaction.set_rollback(True)
    with transaction.atomic():
        invalidate("b")
    assert wire.messages() == [keys("b")]


def test_a_rolled_back_savepoint_loses_its_names_and_no_others(wire: Wire) -> None:
    with transaction.atomic():
        invalidate("before")
        with transaction.atomic():
            invalidate("outer")
            with transaction.atomic():
                invalidate("inner")
                transaction.set_rollback(True)
            invalidate("outer too")
        with transaction.atomic():
            invalidate("gone")
            with transaction.atomic():
                invalidate("released and gone")
            transaction.set_rollback(True)
        invalidate("after")
    assert wire.messages() == [keys("before", "outer", "outer too", "after")]


def test_blocks_without_savepoint_belong_to_the_one_around_them(wire: Wire) -> None:
    with transaction.atomic():
        invalidate("a")
        with transaction.atomic(savepoint=False):
            invalidate("b")
    assert wire.messages() == [keys("a", "b")]


def test_the_same_atomic_decorator_used_twice_is_two_transactions(wire: Wire) -> None:
    @transaction.atomic
    def change(name: str) -> None:
        invalidate(name)

    change("a")
    change("b")
    assert wire.messages() == [keys("a"), keys("b")]


def test_many_callbacks_of_others_do_not_split_the_message(wire: Wire) -> None:
    ran = []
    with transaction.atomic():
        for number in range(100):
            invalidate(f"k{number}")
            transaction.on_commit(lambda: ran.append(1))
    assert len(ran) == 100
    assert wire.message() == keys(*[f"k{number}" for number in range(100)])


def test_a_failure_after_the_commit_is_logged_and_not_raised(
    wire: Wire, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    with caplog.at_level(logging.ERROR), transaction.atomic():
        cage = Cage.objects.create(name="kept")
        monkeypatch.setattr(bus(), "invalidate", refuse)
    monkeypatch.undo()
    assert Cage.objects.get(pk=cage.pk).name == "kept"
    assert "invalidation_failed" in caplog.text


def test_a_time_limit_that_strikes_while_the_message_is_made_goes_its_way_and_the_message_too(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TimeLimit(BaseException):
        pass

    def interrupt(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise TimeLimit

    with pytest.raises(TimeLimit), transaction.atomic():  # noqa: PT012
        invalidate("a")
        monkeypatch.setattr(bus(), "invalidate", interrupt)
    assert wire.messages() == [keys("a")]


def test_too_many_names_become_everything(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_integration.names.names.MAX_NAMES", 10)
    with transaction.atomic():
        for number in range(12):
            invalidate(f"k{number}")
    assert wire.messages() == [Message(everything=True)]
