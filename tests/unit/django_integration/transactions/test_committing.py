"""A commit, and the answers to it: yes, no, and none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction

from django_integration import invalidate
from django_integration.transactions.outgoing import follow

from ..conftest import Wire, keys
from ..zoo.models import Cage
from .test_uncommitted import Following

pytestmark = pytest.mark.usefixtures("db")


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


def test_a_time_limit_in_a_commit_may_have_been_one(wire: Wire) -> None:
    """Whatever is no answer of the database leaves open what it has done."""

    class TimeLimit(BaseException):
        pass

    def interrupt() -> None:
        real()
        raise TimeLimit

    log: list[str] = []
    real = connection._commit
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TimeLimit), transaction.atomic():  # noqa: PT012
        invalidate("a")
        follow("key", lambda: Following(log))
        patch.setattr(connection, "_commit", interrupt)
    assert log[:2] == ["it rolled back", "it committed"]
    assert {"a", "it"} == set().union(*[message.keys for message in wire.messages()])


@pytest.mark.usefixtures("autocommit_off")
def test_a_commit_that_is_tried_again_is_published_again(wire: Wire) -> None:
    """SQLite's "database is locked": a reader that came in between has loaded the old row."""

    def fail() -> None:
        raise OperationalError("database is locked")

    invalidate("a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "_commit", fail)
        with pytest.raises(OperationalError):
            transaction.commit()
    assert wire.messages() == [keys("a")]
    transaction.commit()
    assert wire.messages() == [keys("a")]


def test_a_connection_that_is_lost_right_after_the_commit_publishes(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turning autocommit on again may be a statement of its own, which fails."""

    def fail(autocommit: bool) -> None:
        if autocommit:
            raise OperationalError("the connection was lost")
        real(autocommit)

    real = connection._set_autocommit

    def change() -> None:
        with transaction.atomic():
            invalidate("a")
            monkeypatch.setattr(connection, "_set_autocommit", fail)

    with pytest.raises(OperationalError):
        change()
    assert wire.messages() == [keys("a")]
    monkeypatch.undo()
    connection.close()


def test_a_transaction_that_the_database_has_given_up_may_say_nothing_at_the_commit(wire: Wire) -> None:
    """PostgreSQL answers ROLLBACK to the COMMIT, and nobody raises."""
    log: list[str] = []
    with transaction.atomic():
        invalidate("a")
        follow("key", lambda: Following(log))
        with contextlib.suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")
    assert log == ["it rolled back", "it committed", "published"]
    assert wire.messages() == [keys("a", "it")]


def test_a_good_commit_is_no_rollback() -> None:
    log: list[str] = []
    with transaction.atomic():
        invalidate("a")
        follow("key", lambda: Following(log))
    assert log == ["it committed", "published"]
