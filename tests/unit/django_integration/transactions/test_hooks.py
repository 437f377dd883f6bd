"""The ways in which a transaction ends: with and without autocommit, refused, and with an answer that was lost."""

from collections.abc import Callable

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_integration import invalidate
from django_integration.transactions import hooks

from ..conftest import Wire, keys
from ..zoo.models import Cage, Food

pytestmark = pytest.mark.usefixtures("db")


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


def test_a_commit_that_was_refused_publishes_nothing(wire: Wire) -> None:
    def refuse() -> None:
        raise IntegrityError("a deferred constraint")

    with pytest.raises(IntegrityError):
        create_with(refuse)
    assert wire.messages() == []
