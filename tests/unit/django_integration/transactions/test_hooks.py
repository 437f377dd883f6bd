"""The ways in which a transaction ends: with and without autocommit, and refused."""

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_integration import invalidate
from django_integration.transactions import hooks

from ..conftest import Wire, keys
from ..zoo.models import Food

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
