"""Strict writes: held before the commit, released with the invalidation, refused where that cannot be."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.signals import post_save
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_integration import bus, cache, invalidate, row_tags, tag, writes_to
from django_integration.names.plan import forget_plans
from django_integration.transactions.strict import TransactionHold
from invalidator import HoldEnded, PublishError
from invalidator.errors import LinkDown
from invalidator.link.memory import MemoryLink
from tests.support import wait_until

from ..conftest import WAIT_S, Message, Wire
from ..zoo.models import Animal, Aquarium, Cage, Food, Note, Photo, Ticket

pytestmark = pytest.mark.usefixtures("db", "strict")

CAGE = tag("zoo.cage")


def strict_settings(**others: object) -> Any:
    return override_settings(INVALIDATOR={**settings.INVALIDATOR, "WRITES": "strict", **others})


@pytest.fixture
def strict() -> Iterator[None]:
    with strict_settings():
        assert bus().wait_until_leased(WAIT_S)  # the flush with which a listener begins is over
        yield


@pytest.fixture
def wire(strict: None) -> Iterator[Wire]:
    """As everywhere, but on the strict bus."""
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Redis goes away when this is entered, and is back at its end."""

    def refuse(*_: object) -> None:
        raise LinkDown("the test says so")

    def away() -> AbstractContextManager[None]:
        context = monkeypatch.context()

        class Away(AbstractContextManager[None]):
            def __enter__(self) -> None:
                context.__enter__().setattr(bus()._link, "publish", refuse)

            def __exit__(self, *error: object) -> None:
                context.__exit__(None, None, None)

        return Away()

    return away


def is_held(connection: BaseDatabaseWrapper = connection) -> bool:
    return hasattr(connection, "_invalidator_hold")


def tags_of(cage: Cage) -> frozenset[str]:
    return frozenset({"zoo.cage", f"zoo.cage:{cage.pk}"})


def execute(text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(text)


def execute_many(text: str, rows: list[list[str]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(text, rows)


def write_block() -> None:
    """Writes by the driver's own connection."""
    with writes_to(Cage):
        connection.connection.cursor().execute("UPDATE zoo_cage SET name = 'new'")


# ------------------------------------------------------------------------------------------------ a transaction


def test_nobody_caches_what_a_transaction_has_written_until_it_has_committed(wire: Wire) -> None:
    with transaction.atomic():
        cage = Cage.objects.create()
        assert not wire.caches(CAGE)
        assert wire.caches(tag("zoo.food"))
    assert wire.caches(CAGE)
    assert wire.caches(tag(f"zoo.cage:{cage.pk}"))


def test_what_was_cached_is_void_before_the_commit(wire: Wire) -> None:
    """A writer that dies after it can publish nothing."""
    assert wire.caches(CAGE)
    with transaction.atomic():
        Cage.objects.create()
        assert not wire.caches(CAGE)


def test_the_writer_itself_does_not_cache_what_is_not_committed() -> None:
    cage = Cage.objects.create(name="old")
    with transaction.atomic():
        Cage.objects.filter(pk=cage.pk).get().save()
        cache.get_or_set("cage", lambda: "not committed", tags=row_tags(cage))
        assert "cage" not in cache
    cache.get_or_set("cage", lambda: "committed", tags=row_tags(cage))
    assert "cage" in cache


def test_a_transaction_is_still_one_message_after_its_commit(wire: Wire) -> None:
    with transaction.atomic():
        cage = Cage.objects.create()
        cage.save()
        invalidate("a")
        with transaction.atomic():
            invalidate("b", tag("t"))
        assert wire.messages() == []
    assert wire.messages() == [Message(frozenset("ab"), tags_of(cage) | {"t"})]


def test_a_name_is_announced_once_however_often_it_is_written() -> None:
    with transaction.atomic():
        cage = Cage.objects.create()
        published = bus().status().published
        for _ in range(3):
            cage.save()
        assert bus().status().published == published
    assert bus().status().published == published + 1


def test_later_names_extend_the_hold_of_the_transaction(wire: Wire) -> None:
    with transaction.atomic():
        invalidate("first")
        owner = connection._invalidator_hold._hold.owner  # type: ignore[attr-defined]
        invalidate("second")
        assert connection._invalidator_hold._hold.owner == owner  # type: ignore[attr-defined]
        assert not wire.caches("first")
        assert not wire.caches("second")
    assert wire.caches("first")
    assert wire.caches("second")


def test_each_database_has_a_hold_of_its_own(wire: Wire) -> None:
    with transaction.atomic():
        invalidate("default")
        with transaction.atomic(using="other"):
            invalidate("other", using="other")
            assert not wire.caches("other")
        assert wire.caches("other")
        assert not wire.caches("default")
    assert wire.caches("default")


def test_two_writers_of_one_name_do_not_release_each_other(wire: Wire) -> None:
    with transaction.atomic():
        invalidate("shared")
        with transaction.atomic(using="other"):
            invalidate("shared", using="other")
        assert not wire.caches("shared")
    assert wire.caches("shared")


def test_a_transaction_that_writes_nothing_publishes_nothing() -> None:
    with transaction.atomic():
        list(Cage.objects.all())
        assert not is_held()
    assert bus().status().published == 0


# ------------------------------------------------------------------------------------------------ its end


def test_a_rollback_releases(wire: Wire) -> None:
    def fail() -> None:
        with transaction.atomic():
            Cage.objects.create()
            assert not wire.caches(CAGE)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert not is_held()
    assert wire.caches(CAGE)


def test_a_rollback_by_flag_releases(wire: Wire) -> None:
    with transaction.atomic():
        Cage.objects.create()
        transaction.set_rollback(True)
    assert not is_held()
    assert wire.caches(CAGE)


def test_a_rolled_back_savepoint_stays_held_until_the_end(wire: Wire) -> None:
    with transaction.atomic():
        with transaction.atomic():
            invalidate("inner")
            transaction.set_rollback(True)
        assert not wire.caches("inner")
        invalidate("outer")
    assert wire.caches("inner")
    assert wire.caches("outer")


def test_a_transaction_of_rolled_back_savepoints_commits_even_late(wire: Wire) -> None:
    """Nothing is left that a hold would have to protect."""
    with strict_settings(HOLD=0.1):
        with transaction.atomic():
            with transaction.atomic():
                invalidate("inner")
                transaction.set_rollback(True)
            wait_until(lambda: connection._invalidator_hold._hold.remaining_s < 0)  # type: ignore[attr-defined]
        assert not is_held()


@pytest.fixture
def elsewhere() -> Iterator[BaseDatabaseWrapper]:
    """The connection to the database "other", which this test may break."""
    yield connections["other"]
    connections["other"].close()


def test_a_connection_closed_in_a_transaction_releases(elsewhere: BaseDatabaseWrapper, wire: Wire) -> None:
    with transaction.atomic(using="other"):
        Cage.objects.using("other").create()
        elsewhere.close()
        assert not is_held(elsewhere)
        assert wire.caches(CAGE)
    assert not Cage.objects.using("other").exists()


def test_a_rollback_that_fails_releases_with_the_connection(
    elsewhere: BaseDatabaseWrapper, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise InterfaceError("connection lost")

    with transaction.atomic(using="other"):
        Cage.objects.using("other").create()
        transaction.set_rollback(True, using="other")
        monkeypatch.setattr(elsewhere, "_rollback", fail)
    assert not is_held(elsewhere)
    assert wire.caches(CAGE)


def test_a_connection_that_was_replaced_unseen_releases_with_the_next(
    elsewhere: BaseDatabaseWrapper, wire: Wire
) -> None:
    elsewhere.set_autocommit(False)
    Cage.objects.using("other").create()
    elsewhere.connection.close()
    elsewhere.connection = None
    elsewhere.connect()
    assert not is_held(elsewhere)
    assert wire.caches(CAGE)


def test_a_commit_that_the_database_refuses_releases(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise DatabaseError("disk full")

    def commit() -> None:
        with transaction.atomic():
            invalidate("a")

    monkeypatch.setattr(connection, "_commit", fail)
    with pytest.raises(DatabaseError):
        commit()
    monkeypatch.undo()
    assert not is_held()
    assert wire.caches("a")


def test_a_commit_of_unknown_outcome_is_left_to_the_holds_own_end(
    elsewhere: BaseDatabaseWrapper, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The database may commit after we have released, and who read in between would keep the old row."""

    def lose() -> None:
        raise OperationalError("server closed the connection unexpectedly")

    def commit() -> None:
        with transaction.atomic(using="other"):
            invalidate("a", using="other")

    with strict_settings(HOLD=1):
        other = Wire()
        monkeypatch.setattr(elsewhere, "_commit", lose)
        monkeypatch.setattr(elsewhere, "_rollback", lose)
        with pytest.raises(OperationalError):
            commit()
        assert not is_held(elsewhere)
        assert "commit_unknown" in caplog.text
        assert not other.caches("a")
        wait_until(lambda: other.caches("a"))
        other.close()


def test_a_connection_replaced_unseen_after_a_commit_without_answer_releases_nothing(
    elsewhere: BaseDatabaseWrapper, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose() -> None:
        raise OperationalError("server closed the connection unexpectedly")

    elsewhere.set_autocommit(False)
    invalidate("held to its end", using="other")
    with monkeypatch.context() as lost:
        lost.setattr(elsewhere, "_commit", lose)
        with pytest.raises(OperationalError):
            elsewhere.commit()
    elsewhere.connection.close()
    elsewhere.connection = None
    elsewhere.connect()
    assert not is_held(elsewhere)
    assert not wire.caches("held to its end")
    assert wire.messages() == []


# ------------------------------------------------------------------------------------------------ refused


def test_without_redis_a_write_is_refused_and_rolled_back(
    wire: Wire, down: Callable[[], AbstractContextManager[None]]
) -> None:
    cage = Cage.objects.create(name="old")

    def write() -> None:
        with transaction.atomic():
            cage.name = "new"
            cage.save()

    with down(), pytest.raises(PublishError, match=r'try again when Redis .* INVALIDATOR\["WRITES"\]'):
        write()
    assert Cage.objects.get().name == "old"
    assert not is_held()
    cache.get_or_set("cage", lambda: 1, tags=row_tags(cage))
    assert "cage" in cache
    assert wire.caches(CAGE)


def test_a_refusal_that_was_swallowed_refuses_the_commit(down: Callable[[], AbstractContextManager[None]]) -> None:
    def write() -> None:
        with transaction.atomic():
            with pytest.raises(PublishError):
                Cage.objects.create()
            assert Cage.objects.exists()

    with down(), pytest.raises(PublishError):
        write()
    assert not Cage.objects.exists()
    assert connection.get_autocommit()


def test_a_refusal_that_was_swallowed_is_tried_again_before_the_commit(
    wire: Wire, down: Callable[[], AbstractContextManager[None]]
) -> None:
    with transaction.atomic():
        invalidate("held")
        with down(), pytest.raises(PublishError):
            invalidate("not yet")
        assert wire.messages() == []
    assert wire.messages() == [Message(frozenset({"held", "not yet"}))]
    assert wire.caches("not yet")


def test_a_refused_savepoint_takes_only_its_own_writes_with_it(
    down: Callable[[], AbstractContextManager[None]],
) -> None:
    with transaction.atomic():
        kept = Cage.objects.create(name="kept")
        with down(), pytest.raises(PublishError), transaction.atomic():
            Food.objects.create()
    assert Cage.objects.get() == kept
    assert not Food.objects.exists()


def test_redis_that_goes_away_after_the_hold_stops_nobody(
    wire: Wire, down: Callable[[], AbstractContextManager[None]]
) -> None:
    """What was announced is safe to commit; the release waits in the queue."""
    with transaction.atomic():
        cage = Cage.objects.create()
        context = down()
        context.__enter__()
    assert Cage.objects.get() == cage
    context.__exit__(None, None, None)
    wait_until(lambda: wire.caches(CAGE))


def test_with_publish_raise_the_release_raises_no_more_after_the_commit(
    down: Callable[[], AbstractContextManager[None]], caplog: pytest.LogCaptureFixture
) -> None:
    with strict_settings(PUBLISH="raise"):
        context = down()
        with transaction.atomic():
            Cage.objects.create()
            context.__enter__()
        context.__exit__(None, None, None)
    assert Cage.objects.exists()
    assert "release_failed" in caplog.text
    MemoryLink("memory://").server.holds.clear()  # it would last into the next tests


def test_a_transaction_longer_than_its_hold_is_refused() -> None:
    cage = Cage.objects.create(name="old")

    def write() -> None:
        with transaction.atomic():
            cage.name = "new"
            cage.save()
            wait_until(lambda: connection._invalidator_hold._hold.remaining_s < 0)  # type: ignore[attr-defined]

    with strict_settings(HOLD=0.1):
        with pytest.raises(HoldEnded, match=r'INVALIDATOR\["HOLD"\]'):
            write()
        assert Cage.objects.get().name == "old"
        assert not is_held()
        cage.save()
    assert Cage.objects.get().name == "new"


def test_a_late_write_is_refused_at_once() -> None:
    def write() -> None:
        with transaction.atomic():
            invalidate("a")
            wait_until(lambda: connection._invalidator_hold._hold.remaining_s < 0)  # type: ignore[attr-defined]
            with pytest.raises(HoldEnded, match=r'INVALIDATOR\["HOLD"\]'):
                invalidate("b")

    with strict_settings(HOLD=0.1), pytest.raises(HoldEnded):
        write()
    assert not is_held()


def test_ctrl_c_while_a_commit_is_asked_for_rolls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def write() -> None:
        with transaction.atomic():
            Cage.objects.create()
            monkeypatch.setattr(TransactionHold, "check", interrupt)

    with pytest.raises(KeyboardInterrupt):
        write()
    monkeypatch.undo()
    assert not Cage.objects.exists()
    assert not is_held()


# ------------------------------------------------------------------------------------------------ no transaction


def test_a_save_outside_a_transaction_opens_one(wire: Wire, down: Callable[[], AbstractContextManager[None]]) -> None:
    cage = Cage.objects.create(name="old")
    assert wire.message().tags == tags_of(cage)
    cage.name = "new"
    with down(), pytest.raises(PublishError):
        cage.save()
    assert Cage.objects.get().name == "old"
    assert not connection.in_atomic_block
    cage.save()
    assert Cage.objects.get().name == "new"
    assert wire.message().tags == tags_of(cage)


@pytest.mark.parametrize(
    "write",
    [
        lambda cage: cage.delete(),
        lambda cage: Cage.objects.all().delete(),
        lambda cage: cage.note_set.all().delete(),
        lambda cage: cage.note_set.get().delete(),
        lambda cage: cage.animal_set.get().foods.clear(),
        lambda cage: cage.animal_set.get().foods.add(Food.objects.last()),
        lambda cage: cage.animal_set.get().foods.remove(Food.objects.first()),
        lambda cage: cage.animal_set.get().foods.set([]),
        lambda cage: Aquarium.objects.get().save(),
        lambda cage: Aquarium.objects.get().delete(),
        lambda cage: Ticket.objects.get().save(),
        lambda cage: Cage.objects.update_or_create(pk=cage.pk, defaults={"name": "new"}),
        lambda cage: Cage.objects.get_or_create(name="another"),
        lambda cage: Cage.objects.update(name="new"),
        lambda cage: Ticket.objects.update(price=7),
        lambda cage: Cage.objects.filter(pk=cage.pk).update(name="new"),
        lambda cage: Note.objects.filter(cage=cage)._raw_delete("default"),
        lambda cage: Cage.objects.bulk_create([Cage(), Cage()]),
        lambda cage: Cage.objects.bulk_update([Cage(pk=cage.pk, name="new")], ["name"]),
        lambda cage: Animal.foods.through.objects.get().save(),
        lambda cage: execute("UPDATE zoo_cage SET name = 'new'"),
        lambda cage: execute_many("INSERT INTO zoo_cage (name) VALUES (%s)", [["a"], ["b"]]),
        lambda cage: write_block(),
    ],
)
def test_every_write_that_invalidates_is_refused_without_redis(
    write: Callable[[Cage], object], down: Callable[[], AbstractContextManager[None]]
) -> None:
    cage = Cage.objects.create(name="old")
    Note.objects.create(cage=cage)
    Photo.objects.create(cage=cage)
    Animal.objects.create(cage=cage).foods.add(Food.objects.create())
    Food.objects.create()
    Aquarium.objects.create()
    Ticket.objects.create()

    def rows() -> dict[str, list[Any]]:
        with connection.cursor() as cursor:
            found = {}
            for table in connection.introspection.table_names():
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
                found[table] = sorted(cursor.fetchall(), key=repr)
        return found

    before = rows()
    with down(), pytest.raises(PublishError):
        write(cage)
    assert rows() == before
    assert not connection.in_atomic_block
    write(cage)
    assert not is_held()


def test_receivers_of_post_save_are_part_of_the_transaction() -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("mine")

    post_save.connect(fail, sender=Cage)
    try:
        with pytest.raises(RuntimeError, match="mine"):
            Cage.objects.create()
    finally:
        post_save.disconnect(fail, sender=Cage)
    assert not Cage.objects.exists()
    assert not is_held()


def test_a_table_that_nobody_watches_is_written_as_ever(
    monkeypatch: pytest.MonkeyPatch, down: Callable[[], AbstractContextManager[None]]
) -> None:
    monkeypatch.setattr("django_integration.names.plan.is_watched", lambda model: model is not Note)
    forget_plans()
    with down(), CaptureQueriesContext(connection) as queries:
        Note.objects.create()
    assert len(queries) == 1, queries.captured_queries
    with down(), CaptureQueriesContext(connection) as queries:
        Note.objects.get().delete()
    assert [query["sql"].split()[0] for query in queries.captured_queries] == ["SELECT", "DELETE"]
    monkeypatch.undo()
    forget_plans()


def test_invalidate_outside_a_transaction_leaves_at_once(wire: Wire) -> None:
    receipt = invalidate("a")
    assert receipt is not None
    assert receipt.accepted
    assert wire.caches("a")


# ------------------------------------------------------------------------------------------------ by hand


@pytest.mark.usefixtures("autocommit_off")
def test_with_autocommit_off_it_is_held_until_the_commit_or_rollback(wire: Wire) -> None:
    for end in (transaction.commit, transaction.rollback):
        invalidate("a")
        with transaction.atomic():
            invalidate("b")
        assert not wire.caches("a")
        assert not wire.caches("b")
        end()
        assert not is_held()
        assert wire.caches("a")
        assert wire.caches("b")


@pytest.mark.usefixtures("autocommit_off")
def test_with_autocommit_off_a_refused_commit_is_rolled_back(
    down: Callable[[], AbstractContextManager[None]],
) -> None:
    with down():
        with pytest.raises(PublishError):
            Cage.objects.create()
        with pytest.raises(PublishError):
            transaction.commit()
    transaction.commit()
    assert not Cage.objects.exists()


def test_autocommit_switched_on_is_a_commit(wire: Wire, down: Callable[[], AbstractContextManager[None]]) -> None:
    """SQLite and MariaDB commit what is open."""
    transaction.set_autocommit(False)
    cage = Cage.objects.create()
    if connection.vendor == "postgresql":
        with pytest.raises(ProgrammingError, match="autocommit"):
            transaction.set_autocommit(True)
        assert is_held()
        transaction.rollback()
        assert not is_held()
        transaction.set_autocommit(True)
        return
    transaction.set_autocommit(True)
    assert not is_held()
    assert wire.message().tags == tags_of(cage)
    transaction.set_autocommit(False)
    with down():
        with pytest.raises(PublishError):
            Food.objects.create()
        with pytest.raises(PublishError):
            transaction.set_autocommit(True)
    transaction.set_autocommit(True)
    assert not Food.objects.exists()


# ------------------------------------------------------------------------------------------------ limits


def test_a_clear_cannot_be_held_but_is_refused_without_redis(
    wire: Wire, down: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_integration.names.names.MAX_NAMES", 10)

    def write() -> None:
        with transaction.atomic():
            for number in range(12):
                invalidate(f"k{number}")

    write()
    messages = wire.messages()
    assert Message(everything=True) in messages
    assert not is_held()
    with down(), pytest.raises(PublishError):
        write()
    with transaction.atomic():
        wire.messages()
        for _ in range(3):
            with transaction.atomic():
                write()
                transaction.set_rollback(True)
        assert len(connection._invalidator_hold._held) <= 11  # type: ignore[attr-defined]
    assert not is_held()


def test_switching_strict_writes_off_in_a_transaction_still_releases(wire: Wire) -> None:
    with transaction.atomic():
        invalidate("a")
        hold = connection._invalidator_hold  # type: ignore[attr-defined]
        conf = {**settings.INVALIDATOR, "WRITES": "after_commit"}
        settings.INVALIDATOR.update(conf)
        try:
            invalidate("b")
        finally:
            settings.INVALIDATOR["WRITES"] = "strict"
    assert hold._hold.remaining_s > 0
    assert wire.messages() == [Message(frozenset("ab"))]


def test_sqlite_would_commit_when_autocommit_is_switched_on(tmp_path: Path) -> None:
    """Why a refused commit is rolled back by us, see `transactions.py`."""
    with sqlite3.connect(tmp_path / "db", isolation_level="DEFERRED") as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (1)")
        database.isolation_level = None
        assert not database.in_transaction
        database.rollback()
        assert database.execute("SELECT x FROM t").fetchall() == [(1,)]
    database.close()


def test_a_block_is_held_from_its_beginning_and_published_even_if_it_raises(wire: Wire) -> None:
    def fail() -> None:
        with writes_to(Cage):
            assert not wire.caches(CAGE)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert wire.caches(CAGE)
    assert {"zoo.cage", "zoo.cage:*"} in [message.tags for message in wire.messages()]
    with writes_to(Cage):
        assert not wire.caches(CAGE)
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*"}
