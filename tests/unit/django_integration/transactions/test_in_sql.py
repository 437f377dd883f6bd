"""Transactions in SQL: what BEGIN, COMMIT, ROLLBACK and SAVEPOINT of an application do to what it has changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from django.db import connection, transaction

from django_integration import bus, cache, invalidate, row_tags, slow_path
from django_integration.transactions import in_sql, uncommitted
from django_integration.transactions.progress import is_in_transaction

from ..conftest import WAIT_S, Wire, keys
from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """The next test begins outside of any transaction."""
    yield
    if is_in_transaction(connection):
        connection.rollback()
    assert not slow_path.reasons


def sql(*texts: str) -> None:
    """Send them one by one."""
    with connection.cursor() as cursor:
        for text in texts:
            cursor.execute(text)


BEGINS = ["BEGIN", "begin -- now\n", "/* a */ BEGIN;"]
COMMITS = ["COMMIT", "commit;"]


@pytest.mark.parametrize("begin", BEGINS)
@pytest.mark.parametrize("commit", COMMITS)
def test_a_write_after_begin_is_published_after_commit(wire: Wire, begin: str, commit: str) -> None:
    """Before it, a reader would load the old row, and keep it for good."""
    sql(begin)
    assert invalidate("a") is None
    cage = Cage.objects.create()
    assert wire.messages() == []
    sql(commit)
    message = wire.message()
    assert message.keys == {"a"}
    assert f"zoo.cage:{cage.pk}" in message.tags
    assert not is_in_transaction(connection)
    assert invalidate("b") is not None


def test_a_write_after_begin_is_dropped_by_rollback(wire: Wire) -> None:
    sql("BEGIN")
    invalidate("a")
    sql("ROLLBACK")
    assert wire.messages() == []
    assert Cage.objects.count() == 0
    invalidate("b")
    assert wire.messages() == [keys("b")]


def test_the_methods_of_the_connection_end_it_too(wire: Wire) -> None:
    for end in (connection.rollback, connection.commit):
        sql("BEGIN")
        Cage.objects.create()
        invalidate("a")
        end()
        assert not is_in_transaction(connection)
    assert wire.message().keys == {"a"}
    assert Cage.objects.count() == 1


def test_a_transaction_in_sql_reads_what_it_has_written_and_shares_nothing() -> None:
    assert bus().wait_until_leased(WAIT_S)
    cage = Cage.objects.create(name="old")

    def name() -> str:
        return cache.get_or_set("in sql", lambda: Cage.objects.get(pk=cage.pk).name, tags=row_tags(cage))

    assert name() == "old"
    sql("BEGIN")
    Cage.objects.filter(pk=cage.pk).update(name="never")
    assert name() == "never"
    sql("ROLLBACK")
    assert name() == "old"


def test_savepoints_in_sql_are_places_in_the_list(wire: Wire) -> None:
    for begin, end in (("BEGIN", "COMMIT"), ("", "")):
        with contextlib.nullcontext() if begin else transaction.atomic():
            sql(*[begin] * bool(begin))
            invalidate("a")
            sql("SAVEPOINT one")
            invalidate("b")
            sql(f"SAVEPOINT {connection.ops.quote_name('two')}")
            invalidate("c")
            sql("ROLLBACK TO two" if connection.vendor != "mysql" else "ROLLBACK TO SAVEPOINT two")
            sql("RELEASE SAVEPOINT two")
            invalidate("d")
            sql("rollback work to savepoint ONE" if connection.vendor != "sqlite" else "rollback transaction to ONE")
            invalidate("e")
            sql(*[end] * bool(end))
        assert wire.messages() == [keys("a", "e")]


def test_a_savepoint_outside_of_a_transaction(wire: Wire) -> None:
    """On SQLite it begins one, which ends when the savepoint is released; PostgreSQL refuses it, MariaDB ignores it."""
    if connection.vendor == "postgresql":
        return
    sql("SAVEPOINT one")
    invalidate("a")
    waits = connection.vendor == "sqlite"
    assert wire.messages() == ([] if waits else [keys("a")])
    with contextlib.suppress(Exception):
        sql("RELEASE SAVEPOINT one")
    assert wire.messages() == ([keys("a")] if waits else [])
    assert not is_in_transaction(connection)


def test_begin_inside_an_atomic_block_changes_nothing_or_commits(wire: Wire) -> None:
    """PostgreSQL warns, SQLite refuses, MariaDB commits what there is and begins anew."""
    with transaction.atomic():
        invalidate("a")
        with contextlib.suppress(Exception):
            sql("BEGIN")
        assert wire.messages() == ([keys("a")] if connection.vendor == "mysql" else [])
        transaction.set_rollback(True)
    assert wire.messages() == []


def test_what_sql_commits_inside_an_atomic_block_is_published_and_what_follows_at_once_and_at_the_end(
    wire: Wire,
) -> None:
    """Migrations do it. What is written then may be committed by itself (SQLite), or with the block (the others)."""
    with transaction.atomic():
        invalidate("a")
        sql("COMMIT")
        assert wire.messages() == [keys("a")]
        invalidate("b")
        assert wire.messages() == [keys("b")]
    assert wire.messages() == [keys("b")]
    with transaction.atomic():
        invalidate("c")
        assert wire.messages() == []


def test_what_sql_rolls_back_inside_an_atomic_block_is_dropped(wire: Wire) -> None:
    with transaction.atomic():
        invalidate("a")
        sql("ROLLBACK")
        assert not uncommitted.of(connection).has_written
    assert wire.messages() == []


@pytest.mark.usefixtures("autocommit_off")
def test_with_autocommit_off_commit_in_sql_is_a_commit(wire: Wire) -> None:
    Cage.objects.create()
    invalidate("a")
    sql("COMMIT")
    assert wire.message().keys == {"a"}
    Cage.objects.create()
    sql("ROLLBACK")
    assert wire.messages() == []
    assert Cage.objects.count() == 1


def test_a_transaction_that_has_ended_unseen_is_published_before_the_next_write(wire: Wire) -> None:
    """A procedure may commit, and so may the driver's own method; the names would wait for ever."""
    sql("BEGIN")
    invalidate("a")
    connection.connection.commit()
    assert invalidate("b") is not None
    assert wire.messages() == [keys("a"), keys("b")]
    assert not is_in_transaction(connection)


def test_what_may_have_ended_a_transaction_is_published_at_once_and_at_the_end(wire: Wire) -> None:
    sql("BEGIN")
    invalidate("a")
    in_sql.run(connection, [in_sql.Step("may commit")], lambda: None)
    assert wire.messages() == [keys("a")]
    invalidate("b")
    assert wire.messages() == [keys("b")]
    sql("COMMIT")
    assert wire.messages() == [keys("a", "b")]


def test_a_chain_goes_on_with_the_next_transaction(wire: Wire) -> None:
    if connection.vendor == "sqlite":
        return  # it knows no chains
    sql("BEGIN")
    invalidate("a")
    sql("COMMIT AND CHAIN")
    assert wire.messages() == [keys("a")]
    invalidate("b")
    assert wire.messages() == []
    sql("ROLLBACK AND CHAIN")
    invalidate("c")
    sql("COMMIT AND NO CHAIN")
    assert wire.messages() == [keys("c")]
    assert not is_in_transaction(connection)


def test_autocommit_may_be_turned_off_in_sql(wire: Wire) -> None:
    if connection.vendor != "mysql":
        return
    sql("SET autocommit = 0")
    for name in ("a", "b"):
        invalidate(name)
        assert wire.messages() == []
        sql("COMMIT")
        assert wire.messages() == [keys(name)]
    invalidate("c")
    sql("SET @@session.autocommit=ON")
    assert wire.messages() == [keys("c")]
    assert not is_in_transaction(connection)


def test_a_definition_may_commit(wire: Wire) -> None:
    """MariaDB commits before it creates a table: a rollback afterwards takes nothing back."""
    with transaction.atomic():
        invalidate("a")
        sql("CREATE TEMPORARY TABLE tx_scratch (id int)")
        assert wire.messages() == ([] if connection.features.can_rollback_ddl else [keys("a")])
        sql("DROP TABLE tx_scratch")
        transaction.set_rollback(True)


def test_several_statements_in_one_text_are_published_whatever_they_did(wire: Wire) -> None:
    if connection.vendor != "postgresql":
        return  # the others take one statement at a time
    invalidate("warm")
    wire.messages()
    sql("BEGIN; UPDATE zoo_cage SET name = 'a'; COMMIT")
    assert all(message.tags == {"zoo.cage", "zoo.cage:*"} for message in wire.messages())
    assert not is_in_transaction(connection)
    sql("UPDATE zoo_cage SET name = 'b'; BEGIN")
    assert wire.messages()
    assert is_in_transaction(connection)
    sql("UPDATE zoo_cage SET name = 'b'; ROLLBACK; BEGIN; UPDATE zoo_cage SET name = 'c'")
    assert wire.messages()
    sql("COMMIT")
    assert wire.messages()


def test_a_prepared_transaction_is_anybodys(wire: Wire) -> None:
    if connection.vendor != "postgresql":
        return
    sql("BEGIN")
    invalidate("a")
    with contextlib.suppress(Exception):  # the server may allow none
        sql("PREPARE TRANSACTION 'tx'")
    with contextlib.suppress(Exception):
        sql("ROLLBACK")
    assert wire.messages() == []
