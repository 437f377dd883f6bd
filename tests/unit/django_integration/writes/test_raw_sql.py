"""SQL of the application's own: which tables it writes to, and what is published for it."""

import contextlib
from collections.abc import Callable

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, connections, transaction
from django.db.backends.utils import CursorWrapper
from django.test.utils import CaptureQueriesContext

from django_integration import model_tag, writes_to
from django_integration.names import Names
from django_integration.sql.words import LONGEST_PARSED, text_of
from django_integration.writes import raw_sql
from django_integration.writes.raw_sql import read

from ..conftest import Wire
from ..zoo.models import Animal, Aquarium, Building, Cage, Food, Note, Ticket

pytestmark = pytest.mark.usefixtures("db")

WRITES: dict[str, set[str]] = {
    "INSERT INTO zoo_cage (name) VALUES (%s)": {"zoo_cage"},
    "insert\ninto zoo_cage select * from zoo_food": {"zoo_cage"},
    "INSERT INTO zoo_cage (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = excluded.name": {"zoo_cage"},
    "INSERT INTO zoo_cage (id) VALUES (1) ON DUPLICATE KEY UPDATE name = 'x'": {"zoo_cage"},
    "INSERT OR REPLACE INTO zoo_cage VALUES (1)": {"zoo_cage"},
    "INSERT LOW_PRIORITY IGNORE zoo_cage VALUES (1)": {"zoo_cage"},
    "REPLACE INTO zoo_cage VALUES (1)": {"zoo_cage"},
    "REPLACE DELAYED zoo_cage VALUES (1)": {"zoo_cage"},
    "UPDATE zoo_cage SET name = REPLACE(name, 'a', 'b') WHERE id IN (SELECT id FROM zoo_food)": {"zoo_cage"},
    "UPDATE ONLY zoo_cage AS c SET name = f.name FROM zoo_food f": {"zoo_cage"},
    "UPDATE OR IGNORE zoo_cage SET name = ''": {"zoo_cage"},
    "UPDATE zoo_cage c, zoo_food f SET c.name = f.name": {"zoo_cage", "zoo_food"},
    "UPDATE zoo_cage c JOIN zoo_food f ON f.id = c.id SET c.name = ''": {"zoo_cage", "zoo_food"},
    "DELETE FROM zoo_cage": {"zoo_cage"},
    "DELETE FROM ONLY zoo_cage WHERE id IN (SELECT id FROM zoo_food) RETURNING id": {"zoo_cage"},
    "DELETE FROM zoo_cage USING zoo_food WHERE zoo_food.id = zoo_cage.id": {"zoo_cage", "zoo_food"},
    "DELETE c FROM zoo_cage AS c JOIN zoo_food f ON f.id = c.id": {"zoo_cage", "zoo_food"},
    "DELETE FROM c USING zoo_cage c WHERE c.id = 1": {"zoo_cage"},
    "DELETE zoo_cage, zoo_food FROM zoo_cage JOIN zoo_food": {"zoo_cage", "zoo_food"},
    "MERGE INTO zoo_cage USING zoo_food ON (1=1) WHEN MATCHED THEN DELETE": {"zoo_cage"},
    "MERGE INTO zoo_cage c USING zoo_food f ON c.id = f.id WHEN MATCHED THEN UPDATE SET name = ''": {"zoo_cage"},
    "TRUNCATE zoo_cage": {"zoo_cage"},
    "TRUNCATE TABLE ONLY zoo_cage, zoo_food RESTART IDENTITY": {"zoo_cage", "zoo_food"},
    "WITH gone AS (DELETE FROM zoo_cage RETURNING *) INSERT INTO zoo_food SELECT * FROM gone": {"zoo_cage", "zoo_food"},
    "WITH f AS (SELECT * FROM zoo_food) UPDATE zoo_cage SET name = f.name FROM f": {"zoo_cage"},
    "COPY zoo_cage FROM '/tmp/x'": {"zoo_cage"},
    "LOAD DATA LOCAL INFILE 'x' INTO TABLE zoo_cage": {"zoo_cage"},
    "EXPLAIN ANALYZE DELETE FROM zoo_cage": {"zoo_cage"},
    'UPDATE "zoo_cage" SET x = 1': {"zoo_cage"},
    "UPDATE `zoo_cage` SET x = 1": {"zoo_cage"},
    "UPDATE [zoo_cage] SET x = 1": {"zoo_cage"},
    "UPDATE ZOO_Cage SET x = 1": {"zoo_cage"},
    'DELETE FROM "public" . "zoo_cage"': {"zoo_cage"},
    "DELETE FROM main.zoo_cage WHERE 1": {"zoo_cage"},
    "DELETE FROM `db`.`zoo_cage`": {"zoo_cage"},
    "DELETE FROM 'zoo_cage' WHERE name = 'zoo_food'": {"zoo_cage"},
    "UPDATE 'zoo_cage' SET name = 'zoo_food'": {"zoo_cage"},
    "DELETE FROM ONLY (zoo_cage) WHERE x IN (SELECT 1 FROM zoo_food)": {"zoo_cage"},
    "TRUNCATE ONLY (zoo_cage)": {"zoo_cage"},
    "ANALYZE UPDATE zoo_cage SET x = 1": {"zoo_cage"},
    "-- a note\n/* zoo_food */ UPDATE zoo_cage SET x = 1": {"zoo_cage"},
    "SELECT 1; DELETE FROM zoo_cage": {"zoo_cage"},
    "INSERT INTO zoo_cage VALUES (';'); UPDATE zoo_food SET name = 'x';": {"zoo_cage", "zoo_food"},
}

NOT_WRITES = [
    "select * from zoo_cage for update",
    "SELECT * FROM zoo_cage FOR NO KEY UPDATE",
    "SELECT replace(name, 'a', 'b') FROM zoo_cage;",
    "SELECT 'DELETE FROM zoo_cage';",
    "SELECT 1 -- DELETE FROM zoo_cage;\n;",
    "CREATE TABLE zoo_cage (id int REFERENCES zoo_food ON DELETE CASCADE ON UPDATE SET NULL)",
    "ALTER TABLE zoo_cage ADD CONSTRAINT x FOREIGN KEY (y) REFERENCES zoo_food ON DELETE SET NULL",
    "GRANT INSERT, UPDATE ON zoo_cage TO somebody",
    "COPY zoo_cage TO '/tmp/x'",
    "SAVEPOINT x",
    "PRAGMA foreign_keys",
]


@pytest.mark.parametrize("text", WRITES)
def test_the_tables_that_are_written(text: str) -> None:
    ours = {"zoo_cage", "zoo_food"}
    reading = read(text)
    assert {written.table for written in reading.written} & ours == WRITES[text]
    assert not reading.in_doubt


@pytest.mark.parametrize("text", NOT_WRITES)
def test_what_writes_to_no_table(text: str) -> None:
    reading = read(text)
    assert not reading.written
    assert not reading.in_doubt


IN_DOUBT = {
    "a backslash before a quote": r"SELECT 'C:\'; DELETE FROM zoo_cage; --'",
    "a comment that MySQL runs": "/*!40000 DELETE FROM zoo_cage */",
    "a comment that MariaDB runs": "/*M!100100 DELETE FROM zoo_cage */",
    "an operator or a comment": "SELECT 1 # 2; DELETE FROM zoo_cage",
    "two minus signs or a comment": "SELECT 1--1; DELETE FROM zoo_cage",
    "a comment in a comment, or not": "/* a /* b */ it's */ DELETE FROM zoo_cage WHERE name = 'x'",
    "a statement in a string": "EXECUTE IMMEDIATE 'DELETE FROM zoo_cage'",
    "a block of MariaDB's": "IF 1 THEN DELETE FROM zoo_cage; END IF",
    "settings of one statement": "SET STATEMENT max_statement_time=1 FOR DELETE FROM zoo_cage",
    "a part of a table": "ALTER TABLE zoo_cage TRUNCATE PARTITION p0",
    "a block": "DO $$ BEGIN DELETE FROM zoo_cage; END $$",
    "a text too long": f"INSERT INTO zoo_cage VALUES ('{'x' * LONGEST_PARSED}')",
}


@pytest.mark.parametrize("text", IN_DOUBT.values(), ids=IN_DOUBT.keys())
def test_in_doubt_every_table_that_is_named_counts(text: str) -> None:
    reading = read(text)
    assert reading.in_doubt
    names = Names()
    raw_sql._add_names(names, reading, text)
    assert {"zoo.cage", "zoo.cage:*"} <= set(names.tags)
    assert "zoo.food" not in names.tags


def execute(text: str, *params: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(text, *params)


def test_a_statement_publishes_its_table(wire: Wire) -> None:
    execute("INSERT INTO zoo_cage (name) VALUES (%s)", ["a"])
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*"}
    execute("UPDATE zoo_cage SET name = 'b' WHERE name = %(old)s", {"old": "a"})
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*"}
    execute("DELETE FROM zoo_cage")
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*"}


def test_a_statement_of_no_row_or_of_no_model_publishes_nothing(wire: Wire) -> None:
    execute("DELETE FROM zoo_cage")
    execute("UPDATE zoo_cage SET name = 'b'")
    execute("CREATE TABLE somebodys (id int)")
    execute("INSERT INTO somebodys VALUES (1)")
    execute("DROP TABLE somebodys")
    assert wire.messages() == []


def test_executemany_is_published_once(wire: Wire) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO zoo_cage (name) VALUES (%s)", [["a"], ["b"]])
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*"}


def test_statements_of_a_transaction_are_one_message(wire: Wire) -> None:
    with transaction.atomic():
        execute("INSERT INTO zoo_cage (name) VALUES ('a')")
        execute("INSERT INTO zoo_note (text) VALUES ('a')")
        assert wire.messages() == []
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*", "zoo.note", "zoo.note:*"}
    with transaction.atomic():
        execute("DELETE FROM zoo_cage")
        transaction.set_rollback(True)
    assert wire.messages() == []


def test_another_database_has_transactions_of_its_own(wire: Wire) -> None:
    with transaction.atomic(), connections["other"].cursor() as cursor:
        cursor.execute("INSERT INTO zoo_cage (name) VALUES ('a')")
        assert wire.message().tags == {"zoo.cage", "zoo.cage:*"}


def test_a_table_of_a_parent_is_the_rows_of_its_children(wire: Wire) -> None:
    Aquarium.objects.create()
    wire.messages()
    execute("UPDATE zoo_building SET name = 'b'")
    assert wire.message().tags == {"zoo.building", "zoo.building:*", "zoo.aquarium", "zoo.aquarium:*"}


def test_the_table_between_two_models_is_a_change_of_both(wire: Wire) -> None:
    animal, food = Animal.objects.create(), Food.objects.create()
    wire.messages()
    execute(f"INSERT INTO zoo_animal_foods (animal_id, food_id) VALUES ({animal.pk}, {food.pk})")
    assert {"zoo.animal_foods:*", "zoo.animal:*", "zoo.food:*"} <= wire.message().tags


def test_truncating_a_table_empties_what_points_there() -> None:
    names = Names()
    text = "TRUNCATE TABLE zoo_word CASCADE"
    raw_sql._add_names(names, read(text), text)
    assert {"zoo.word:*", "zoo.specimen:*"} <= set(names.tags)
    assert not names.everything
    text = "TRUNCATE TABLE zoo_cage CASCADE"
    raw_sql._add_names(names, read(text), text)
    assert names.everything, "by way of photos it empties the tickets, whose rows a function wants to see"


def test_a_model_with_functions_clears_everything(wire: Wire) -> None:
    Ticket.objects.create()
    wire.messages()
    execute("UPDATE zoo_ticket SET price = 1")
    assert wire.message().everything


def test_a_failed_statement_is_published_if_it_may_have_worked(wire: Wire) -> None:
    with pytest.raises(IntegrityError):
        execute("INSERT INTO zoo_cage (id, name) VALUES (1, 'a'), (1, 'b')")
    with pytest.raises(DatabaseError):
        execute("INSERT INTO zoo_cage VALUES (1)")
    wire.messages()
    with connection.cursor() as cursor, pytest.raises(IntegrityError):
        cursor.executemany("INSERT INTO zoo_cage (id, name) VALUES (%s, %s)", [[7, "a"], [7, "b"]])
    # The first row stays, or not: that depends on the database and its driver.
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*"}


def test_a_refused_statement_publishes_nothing(wire: Wire) -> None:
    with pytest.raises(IntegrityError):
        execute("INSERT INTO zoo_cage (id, name) VALUES (1, 'a'), (1, 'b')")
    assert wire.messages() == []


def test_a_statement_whose_answer_was_lost_may_have_worked(wire: Wire) -> None:
    def lose(call: Callable[..., object], *args: object) -> object:
        call(*args)
        raise OperationalError("server closed the connection unexpectedly")

    with connection.execute_wrapper(lose), pytest.raises(OperationalError):
        execute("INSERT INTO zoo_cage (name) VALUES ('a')")
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*"}


def test_what_a_driver_composes_is_read_by_its_parts() -> None:
    class Identifier:
        def __repr__(self) -> str:
            return "Composed([SQL('DELETE FROM '), Identifier('zoo_cage')])"

    names = Names()
    text = text_of(Identifier())
    raw_sql._add_names(names, read(text), text)
    assert "zoo.cage:*" in names.tags
    assert read(text_of(b"DELETE FROM zoo_cage")).written


def test_statements_of_the_orm_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> None:
        raise AssertionError(text)

    note = Note.objects.create()
    monkeypatch.setattr(raw_sql, "_read", fail)
    note.save()
    Note.objects.bulk_create([Note()])
    Note.objects.filter(pk=note.pk).update(text="a")
    list(Note.objects.select_related("cage").order_by("pk"))
    Building.objects.create()
    with transaction.atomic(), transaction.atomic():
        Note.objects.all().delete()


def test_a_field_that_writes_while_it_is_saved_is_published(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its statement comes while the ORM's own is being made."""
    field = Note._meta.get_field("text")
    original = field.pre_save

    def pre_save(row: Note, add: bool) -> object:
        execute("INSERT INTO zoo_food (name) VALUES ('a')")
        return original(row, add)

    monkeypatch.setattr(field, "pre_save", pre_save)
    Note.objects.bulk_create([Note()])
    assert {"zoo.food:*", "zoo.note"} <= set().union(*(message.tags for message in wire.messages()))


def test_the_wrapper_is_put_on_once() -> None:
    before = CursorWrapper.execute
    raw_sql.patches.install()
    assert CursorWrapper.execute is before


# ------------------------------------------------------------------------------------------------ writes_to


def test_a_block_publishes_the_tables_it_writes_to(wire: Wire) -> None:
    with writes_to(Cage, Note), CaptureQueriesContext(connection) as queries:
        connection.ensure_connection()
        with contextlib.closing(connection.connection.cursor()) as cursor:  # the driver's own
            cursor.execute("INSERT INTO zoo_cage (name) VALUES ('a')")
        assert wire.messages() == []
    assert not queries.captured_queries
    tags = set().union(*(message.tags for message in wire.messages()))
    assert tags == {model_tag(Cage), "zoo.cage:*", model_tag(Note), "zoo.note:*"}


def test_a_block_in_a_transaction_is_part_of_its_message(wire: Wire) -> None:
    with transaction.atomic():
        with writes_to(Cage):
            pass
        Note.objects.create()
        assert wire.messages() == []
    assert {"zoo.cage:*", "zoo.note"} <= wire.message().tags


def test_a_block_that_raises_may_have_committed(wire: Wire) -> None:
    with pytest.raises(LookupError), writes_to(Cage):
        raise LookupError
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*"}


def test_a_block_belongs_to_its_database(wire: Wire) -> None:
    with transaction.atomic(using="other"):
        with writes_to(Cage, using="other"):
            pass
        assert wire.messages() == []
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*"}


def test_a_block_of_a_model_with_functions_clears_everything(wire: Wire) -> None:
    with writes_to(Ticket):
        pass
    assert wire.message().everything


@pytest.mark.parametrize("models", [(), ("zoo.Cage",), (Cage, None), (Cage(),)])
def test_only_models_can_be_written_to(models: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match=r"writes_to\(Product\)"), writes_to(*models):  # type: ignore[arg-type]
        pass
