"""When an invalidation leaves: after the commit, as one message, never after a rollback."""

import logging
from collections.abc import Callable

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import override_settings

from django_integration import bus, invalidate, runtime, tag
from django_integration.transactions import hooks
from invalidator import InvalidName

from ..conftest import Message, Wire
from ..zoo.models import Cage, Food

pytestmark = pytest.mark.usefixtures("db")


def keys(*names: str) -> Message:
    return Message(keys=frozenset(names))


def test_without_a_transaction_it_leaves_at_once(wire: Wire) -> None:
    receipt = invalidate("a", tag("t"))
    assert receipt is not None
    assert receipt.accepted
    assert wire.messages() == [Message(frozenset({"a"}), frozenset({"t"}))]


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


def test_other_callbacks_cannot_keep_ours_from_running(wire: Wire) -> None:
    """A callback that raises ends the callbacks after it; ours leave before."""

    def fail() -> None:
        raise RuntimeError("mine")

    def commit() -> None:
        with transaction.atomic():
            transaction.on_commit(fail)
            invalidate("a")

    with pytest.raises(RuntimeError, match="mine"):
        commit()
    assert wire.messages() == [keys("a")]


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


def test_databases_have_transactions_of_their_own(wire: Wire) -> None:
    with transaction.atomic():
        invalidate("default")
        with transaction.atomic(using="other"):
            invalidate("other", using="other")
        assert wire.messages() == [keys("other")]
        assert invalidate("now", using="other") is not None
        assert wire.messages() == [keys("now")]
    assert wire.messages() == [keys("default")]


def test_a_row_belongs_to_the_transaction_of_its_own_database(wire: Wire) -> None:
    cage = Cage.objects.using("other").create()
    wire.messages()
    with transaction.atomic():
        assert invalidate(cage) is not None
        assert wire.message().tags == {"zoo.cage", f"zoo.cage:{cage.pk}"}
    with transaction.atomic(using="other"):
        assert invalidate(cage, "key of the default database") is None
        assert wire.messages() == [keys("key of the default database")]
    assert wire.message().tags == {"zoo.cage", f"zoo.cage:{cage.pk}"}


class ToOther:
    """A router that writes everything to the other database."""

    def db_for_write(self, model: type, **hints: object) -> str:
        return "other"


def test_a_model_belongs_to_the_transaction_of_the_database_it_is_written_to(wire: Wire) -> None:
    routed = override_settings(DATABASE_ROUTERS=[ToOther()])
    with routed, transaction.atomic(using="other"):
        assert invalidate(Cage) is None
        assert invalidate(Cage(pk=1)) is None
        assert wire.messages() == []
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*", "zoo.cage:1"}


@pytest.mark.parametrize("target", ["", "x" * 600, 7, None, b"bytes", ["list"]])
def test_a_bad_target_is_refused_at_once_and_takes_no_other_with_it(wire: Wire, target: object) -> None:
    with transaction.atomic():
        invalidate("good")
        with pytest.raises((TypeError, InvalidName)):
            invalidate("never", target)  # type: ignore[arg-type]
    assert wire.messages() == [keys("good")]


def test_nothing_to_invalidate_is_a_mistake() -> None:
    with pytest.raises(InvalidName, match="nothing to invalidate"):
        invalidate()


def test_a_row_that_was_never_saved_cannot_be_invalidated(wire: Wire) -> None:
    with pytest.raises(InvalidName, match="no primary key yet"):
        invalidate(Cage())
    assert wire.messages() == []


def test_too_many_names_become_everything(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_integration.names.names.MAX_NAMES", 10)
    with transaction.atomic():
        for number in range(12):
            invalidate(f"k{number}")
    assert wire.messages() == [Message(everything=True)]


@pytest.mark.usefixtures("autocommit_off")
def test_with_autocommit_off_it_leaves_after_each_commit(wire: Wire) -> None:
    """Django runs no callback there before autocommit is on again, which may be never."""
    Food.objects.create(name="first")
    assert invalidate("a") is None
    with transaction.atomic():
        invalidate("b")
    assert wire.messages() == []
    transaction.commit()
    message = wire.message()
    assert message.keys == {"a", "b"}
    assert "zoo.food" in message.tags
    invalidate("c")
    transaction.rollback()
    invalidate("d")
    transaction.commit()
    assert wire.messages() == [keys("d")]


@pytest.mark.usefixtures("autocommit_off")
def test_autocommit_back_on_sends_what_was_committed_once(wire: Wire) -> None:
    invalidate("a")
    transaction.commit()
    assert wire.messages() == [keys("a")]
    transaction.set_autocommit(True)
    invalidate("b")
    transaction.set_autocommit(False)
    assert wire.messages() == [keys("b")]


def test_asking_for_a_transaction_connects_to_no_database(wire: Wire) -> None:
    replaced = connections["other"].connection
    try:
        connections["other"].connection = None
        invalidate("a", using="other")
        assert connections["other"].connection is None
    finally:
        connections["other"].connection = replaced
    assert wire.messages() == [keys("a")]


def test_a_failed_commit_publishes_nothing(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise DatabaseError("disk full")

    def commit() -> None:
        with transaction.atomic():
            invalidate("a")

    monkeypatch.setattr(connection, "_commit", fail)
    with pytest.raises(DatabaseError):
        commit()
    monkeypatch.undo()
    assert wire.messages() == []


def test_the_wrapper_is_put_on_once() -> None:
    """`ready()` may run more than once; a message must not leave twice."""
    before = BaseDatabaseWrapper.run_and_clear_commit_hooks
    hooks.patches.install()
    assert BaseDatabaseWrapper.run_and_clear_commit_hooks is before
    assert runtime.bus() is bus()


def create_with(commit: Callable[[], object]) -> None:
    """A cage, in a transaction that ends in this way."""
    with pytest.MonkeyPatch.context() as patch, transaction.atomic():
        Cage.objects.create()
        patch.setattr(connection, "_commit", commit)


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_without_an_answer_may_have_been_one(wire: Wire, committed: bool) -> None:
    """The connection was lost; whether before or after the commit, nobody knows."""

    def commit() -> None:
        if committed:
            real()
        raise OperationalError("the connection was lost")

    real = connection._commit
    with pytest.raises(OperationalError):
        create_with(commit)
    assert "zoo.cage" in wire.message().tags


def test_a_commit_that_was_refused_tells_nothing(wire: Wire) -> None:
    def refuse() -> None:
        raise IntegrityError("a deferred constraint")

    with pytest.raises(IntegrityError):
        create_with(refuse)
    assert wire.messages() == []
