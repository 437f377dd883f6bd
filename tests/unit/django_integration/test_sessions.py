"""The tool for tests of two connections does what it says, on every database."""

import threading

import pytest
from django.db import connection, transaction

from .sessions import Session, isolation
from .zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db")


def names() -> list[str]:
    return list(Cage.objects.values_list("name", flat=True))


def test_it_sees_what_is_committed_and_nothing_else(session: Session) -> None:
    with transaction.atomic():
        Cage.objects.create(name="a")
        assert session.run(names) == []
    assert session.run(names) == ["a"]


def test_its_connection_and_its_thread_are_its_own(session: Session) -> None:
    connection.ensure_connection()

    def over_there() -> tuple[int, object]:
        connection.ensure_connection()
        return threading.get_ident(), connection.connection

    thread, other = session.run(over_there)
    assert thread != threading.get_ident()
    assert other is not connection.connection
    assert session.run(over_there) == (thread, other)


def test_what_it_raises_is_raised_here(session: Session) -> None:
    with pytest.raises(Cage.DoesNotExist):
        session.run(Cage.objects.get)


def test_it_can_wait_for_a_lock_of_ours(session: Session) -> None:
    cage = Cage.objects.create(name="old")
    with transaction.atomic():
        Cage.objects.update(name="ours")
        theirs = session.start(lambda: Cage.objects.filter(pk=cage.pk).update(name="theirs"))
        assert not theirs.done()
    assert theirs.result(30) == 1
    assert names() == ["theirs"]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_snapshot_is_of_the_first_statement(session: Session, level: str) -> None:
    Cage.objects.create(name="old")
    with isolation(level), transaction.atomic():
        assert names() == ["old"]
        if level == "serializable" and connection.vendor == "mysql":
            return  # no snapshot: readers lock what they have read
        session.run(lambda: Cage.objects.update(name="new"))
        assert names() == ["old"]
    assert names() == ["new"]


def test_read_committed_is_no_snapshot(session: Session) -> None:
    Cage.objects.create(name="old")
    with isolation("read committed"), transaction.atomic():
        assert names() == ["old"]
        session.run(lambda: Cage.objects.update(name="new"))
        assert names() == (["old"] if connection.vendor == "sqlite" else ["new"])


def test_only_the_caller_changes_its_level(session: Session) -> None:
    Cage.objects.create(name="old")
    with isolation("repeatable read"):

        def over_there() -> list[str]:
            with transaction.atomic():
                names()
                Cage.objects.update(name="new")
                return names()

        assert session.run(over_there) == ["new"]
        assert "isolation_level" not in session.run(lambda: connection.settings_dict["OPTIONS"])
    assert "isolation_level" not in connection.settings_dict["OPTIONS"]
