"""Everything that reads through the ORM is recorded, while a recorder is in force."""

import asyncio
import pkgutil
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import Count, Expression, F, Func, Max, TextField
from django.db.models.expressions import RawSQL
from django.db.models.lookups import Exact
from django.db.models.query import ModelIterable
from django.db.models.signals import post_init
from django.db.models.sql.compiler import SQLCompiler

from django_integration import UnknownReads
from django_integration.dependencies import hooks
from django_integration.dependencies import recorder as recorders
from django_integration.dependencies.recorder import Recorder, recording
from tests.unit.django_integration.zoo.models import Animal, Cage, Food, Note

from .conftest import tags_of

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(autouse=True)
def no_warning_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "_warned", set())


def test_asynchronous_reads_are_recorded() -> None:
    cage = Cage.objects.create()
    recorder = Recorder()

    async def read() -> None:
        with recording(recorder):
            await Cage.objects.aget(pk=cage.pk)
            [note async for note in Note.objects.all()]
            await sync_to_async(Animal.objects.count)()

    asyncio.run(read())
    assert set(recorder.tags()) == {f"zoo.cage:{cage.pk}", "zoo.cage:*", "zoo.note", "zoo.animal"}


def test_a_query_that_fails_was_read() -> None:
    """A loader that catches the error has an answer."""

    def read() -> None:
        with pytest.raises(DatabaseError):
            list(Cage.objects.annotate(x=RawSQL("no_such_column", ())))

    assert tags_of(read) == {"zoo.cage"}


def test_a_query_sent_while_rows_are_made_is_its_own() -> None:
    """For example by a receiver of post_init."""
    cage = Cage.objects.create(name="x")

    def look_around(**_: object) -> None:
        Note.objects.count()

    post_init.connect(look_around, sender=Cage)
    try:
        assert tags_of(lambda: list(Cage.objects.filter(pk=cage.pk))) >= {f"zoo.cage:{cage.pk}", "zoo.note"}
    finally:
        post_init.disconnect(look_around, sender=Cage)


def test_the_condition_of_a_write_is_a_read() -> None:
    read = tags_of(lambda: Cage.objects.filter(pk__in=Note.objects.values("cage")).update(name="x"))
    assert "zoo.note" in read


def test_a_compiler_with_an_as_sql_of_its_own_is_recorded() -> None:
    """Some database backends write the SELECT themselves, and its FROM."""

    class Own(SQLCompiler):
        def as_sql(self, *args: Any, **kwargs: Any) -> Any:
            return SQLCompiler.as_sql.__wrapped__(self, *args, **kwargs)  # type: ignore[attr-defined]

        def get_from_clause(self) -> Any:
            return SQLCompiler.get_from_clause.__wrapped__(self)  # type: ignore[attr-defined]

    compiler = Own(Cage.objects.filter(note__text="x").values("pk").query, connection, "default")
    assert tags_of(lambda: list(compiler.results_iter())) == {"zoo.cage", "zoo.note"}


def test_without_a_recorder_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError

    for name in ("read_query", "read_whole_tables", "read_sql", "note_from", "_record", "_recorded", "_read_part"):
        monkeypatch.setattr(hooks, name, never)
    Cage.objects.create(name="x")
    list(Cage.objects.annotate(Count("note")))
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


CAGES = "SELECT MAX(name) FROM zoo_cage"

READS = {
    "raw()": lambda: list(Cage.objects.raw("SELECT * FROM zoo_cage")),
    "a cursor": lambda: _execute("SELECT name FROM zoo_cage"),
    "a part of a WITH": lambda: _execute("WITH x AS (SELECT 1 FROM zoo_cage) SELECT * FROM x"),
    "executemany": lambda: _execute_many("DELETE FROM zoo_food WHERE id IN (SELECT id FROM zoo_cage WHERE id = %s)"),
    "bytes": lambda: _execute(b"SELECT name FROM zoo_cage") if connection.vendor == "postgresql" else _execute(CAGES),
    "RawSQL": lambda: list(Note.objects.annotate(x=RawSQL(f"({CAGES})", ()))),
    "RawSQL in a write": lambda: Note.objects.update(text=RawSQL(f"({CAGES})", ())),
    "RawSQL in a subquery": lambda: list(
        Note.objects.filter(pk__in=Food.objects.annotate(x=RawSQL(f"({CAGES})", ())).filter(x="a").values("pk"))
    ),
    "extra(where)": lambda: Note.objects.extra(where=[f"({CAGES}) > 'a'"]).count(),
    "extra(select)": lambda: list(Note.objects.extra(select={"x": f"({CAGES})"})),
    "extra(tables)": lambda: list(Note.objects.extra(tables=["zoo_cage"])),
    "a template": lambda: list(Note.objects.annotate(x=Func(F("id"), template=f"({CAGES})", output_field=TextField()))),
    "a template in lower case": lambda: list(
        Note.objects.annotate(x=Func(template=f"({CAGES.lower()})", output_field=TextField()))
    ),
    "a template beside a subquery": lambda: list(
        Note.objects.filter(pk__in=Food.objects.values("pk")).annotate(
            x=Func(template=f"({CAGES})", output_field=TextField())
        )
    ),
    "a template in a subquery": lambda: list(
        Note.objects.filter(
            pk__in=Food.objects.annotate(x=Func(template=f"({CAGES})", output_field=TextField()))
            .filter(x="a")
            .values("pk")
        )
    ),
    "a template in a write": lambda: Note.objects.update(text=Func(template=f"({CAGES})", output_field=TextField())),
    "a template in an aggregate": lambda: Note.objects.aggregate(
        x=Max(Func(template=f"({CAGES})", output_field=TextField()))
    ),
    "an expression of one's own": lambda: list(Note.objects.annotate(x=Cages())),
    "a lookup of one's own": lambda: list(Note.objects.filter(Among(F("text"), "x"))),
}
"""Each reads the table of cages, by SQL in text."""


class Cages(Expression):
    """An expression as packages have them."""

    output_field = TextField()

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return f"({CAGES})", []


class Among(Exact):
    """A lookup as packages have them."""

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        left, params = self.process_lhs(compiler, connection)
        return f"{left} IN (SELECT name FROM zoo_cage)", params


class TestRaw:
    @pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
    def test_the_tables_in_text_are_read(self, read: Callable[[], Any]) -> None:
        recorder = Recorder()
        with recording(recorder):
            read()
        assert "zoo.cage" in recorder.tags()
        assert not recorder.unknown
        assert recorder.is_kept

    @pytest.mark.parametrize(
        ("read", "what"),
        [
            (
                lambda: _execute("SELECT * FROM django_migrations"),
                "the table 'django_migrations', which is no model's,",
            ),
            (lambda: list(Cage.objects.extra(tables=["django_migrations"])), "the table 'django_migrations'"),
            (
                lambda: list(Cage.objects.annotate(x=RawSQL("(SELECT 1 FROM django_migrations)", ()))),
                "django_migrations",
            ),
            (lambda: _fail(lambda: _execute("SELECT * FROM no_such_view")), "the table 'no_such_view'"),
            (lambda: _fail(lambda: _execute("SELECT total_of(1)")), "the function 'total_of'"),
            (lambda: _fail(lambda: _execute("CALL no_such_procedure()")), "the procedure 'no_such_procedure'"),
            (lambda: _fail(lambda: _call("no_such_procedure")), "the procedure 'no_such_procedure'"),
        ],
    )
    def test_what_cannot_be_told_is_warned_of_once_with_its_place(self, read: Callable[[], Any], what: str) -> None:
        def load() -> None:
            recorder = Recorder()
            with recording(recorder):
                read()
            recorder.loaded(None)

        with pytest.warns(UnknownReads, match=rf"test_hooks.py:\d+: .*{re.escape(what)}"):
            load()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load()

    @pytest.mark.parametrize(
        "sql",
        [
            *("UPDATE zoo_cage SET name = 'x'", "DELETE FROM zoo_cage", "CREATE TABLE x (y INTEGER)", "DROP TABLE x"),
            *("SELECT 1", "-- a comment\n/* another */ select 1", "WITH x AS (SELECT 1) SELECT * FROM x"),
        ],
    )
    def test_what_reads_nothing_is_not_warned_of(self, sql: str) -> None:
        recorder = Recorder()
        with recording(recorder):
            _execute(sql)
        assert not recorder.unknown
        assert recorder.tags() == []

    def test_a_write_of_the_orm_does_not_read_its_table(self) -> None:
        """A value does not depend on what its loader only writes."""

        def write() -> None:
            note = Note.objects.create(text="x")
            Note.objects.bulk_create([Note()])
            Note.objects.filter(text="x").update(text="y")
            note.text = "z"
            note.save()

        assert tags_of(write) == set()

    def test_text_that_has_no_query_in_it_reads_the_tables_around_it(self) -> None:
        recorder = Recorder()
        with recording(recorder):
            list(Cage.objects.annotate(x=RawSQL("1 + 1", ())))
        assert list(recorder.tags()) == ["zoo.cage"]
        assert not recorder.unknown

    def test_the_rows_around_a_text_stay_rows(self, cage: Cage) -> None:
        counted = RawSQL("(SELECT COUNT(*) FROM zoo_note WHERE zoo_note.cage_id = zoo_cage.id)", ())
        assert tags_of(lambda: Cage.objects.annotate(n=counted).get(pk=cage.pk)) == {
            f"zoo.cage:{cage.pk}",
            "zoo.cage:*",
            "zoo.note",
        }

    def test_a_query_sent_while_another_is_compiled_is_read(self) -> None:
        """For example by an expression that looks something up."""

        class Looking(Cages):
            def as_sql(self, compiler: Any, connection: Any) -> Any:
                _execute("SELECT name FROM zoo_food")
                return "1", []

        assert "zoo.food" in tags_of(lambda: list(Note.objects.annotate(x=Looking())))

    def test_a_query_sent_while_rows_are_made_is_read(self) -> None:
        Cage.objects.create()

        def look_around(**_: object) -> None:
            _execute("SELECT name FROM zoo_food")

        post_init.connect(look_around, sender=Cage)
        try:
            assert "zoo.food" in tags_of(lambda: list(Cage.objects.all()))
        finally:
            post_init.disconnect(look_around, sender=Cage)

    def test_what_a_backend_reads_about_its_database_is_no_dependency(self) -> None:
        recorder = Recorder()
        with recording(recorder):
            connection.introspection.table_names()
        assert not recorder.unknown


class TestOnThisDatabase:
    """The same as the drivers themselves have it."""

    def test_what_a_driver_composes_is_read(self) -> None:
        text: Any = CAGES
        if connection.vendor == "postgresql":
            sql = pkgutil.resolve_name("psycopg.sql")
            text = sql.SQL("SELECT MAX({}) FROM {}").format(sql.Identifier("name"), sql.Identifier("zoo_cage"))
        recorder = Recorder()
        with recording(recorder):
            _execute(text)
        assert recorder.tags() == ["zoo.cage"]
        assert not recorder.unknown

    def test_a_cursor_on_the_server_reads(self) -> None:
        def read() -> None:
            with connection.chunked_cursor() as cursor:
                cursor.execute(CAGES)
                cursor.fetchall()

        with transaction.atomic():
            assert tags_of(read) == {"zoo.cage"}

    def test_a_copy_reads(self) -> None:
        Cage.objects.create(name="big")

        def read() -> list[str]:
            with connection.cursor() as cursor:
                if connection.vendor != "postgresql":
                    cursor.execute("SELECT name FROM zoo_cage")
                    return [name for (name,) in cursor]
                with cursor.copy("COPY (SELECT name FROM zoo_cage) TO STDOUT") as copy:
                    return [bytes(line).decode().strip() for line in copy]

        recorder = Recorder()
        with recording(recorder):
            assert read() == ["big"]
        assert recorder.tags() == ["zoo.cage"]


class Driver:
    """A cursor with the methods of several drivers."""

    def copy(self, statement: str) -> str:
        return statement

    def stream(self, query: str) -> list[int]:
        return [1]

    def copy_expert(self, sql: str, file: object) -> None: ...

    def copy_to(self, file: object, table: str) -> None: ...

    def callfunc(self, name: str) -> None: ...


class TestMethodsOfDrivers:
    @pytest.mark.parametrize(
        "read",
        [
            lambda cursor: cursor.copy("COPY zoo_cage TO STDOUT"),
            lambda cursor: cursor.copy(statement="COPY (SELECT * FROM zoo_cage) TO STDOUT"),
            lambda cursor: cursor.stream("SELECT * FROM zoo_cage"),
            lambda cursor: cursor.copy_expert("COPY zoo_cage TO STDOUT", None),
            lambda cursor: cursor.copy_to(None, "zoo_cage"),
            lambda cursor: cursor.copy_to(None, table="zoo_cage"),
        ],
    )
    def test_they_read_tables(self, read: Callable[[CursorWrapper], Any]) -> None:
        cursor = CursorWrapper(Driver(), connection)
        assert tags_of(lambda: read(cursor)) == {"zoo.cage"}

    def test_they_return_what_they_return(self) -> None:
        cursor = CursorWrapper(Driver(), connection)
        with recording(Recorder()):
            assert cursor.copy("COPY zoo_cage TO STDOUT") == "COPY zoo_cage TO STDOUT"
            assert list(cursor.stream("SELECT 1")) == [1]

    def test_a_function_is_unknown(self) -> None:
        recorder = Recorder()
        with recording(recorder):
            CursorWrapper(Driver(), connection).callfunc("total_of")
        assert "the procedure 'total_of'" in str(recorder.unknown)

    def test_what_a_driver_does_not_have_is_missed_as_before(self) -> None:
        with recording(Recorder()), pytest.raises(AttributeError):
            CursorWrapper(object(), connection).copy  # noqa: B018


def _execute_many(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(sql, [(1,), (2,)])


def _call(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.callproc(name)


def _fail(read: Callable[[], Any]) -> None:
    with pytest.raises((DatabaseError, AttributeError)):
        read()


def _execute(sql: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_a_class_of_rows_made_by_somebody_else_is_the_table() -> None:
    """It may hand out what it likes."""

    class Own(ModelIterable):
        def __iter__(self) -> Any:
            compiler = self.queryset.query.get_compiler(using=self.queryset.db)
            for row in compiler.results_iter():
                yield row[0]

    rows = Note.objects.filter(cage=1)
    rows._iterable_class = Own
    assert tags_of(lambda: list(rows)) == {"zoo.note"}
