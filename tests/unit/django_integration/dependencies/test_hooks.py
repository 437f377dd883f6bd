"""Everything that reads through the ORM is recorded, while a recorder is in force."""

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection
from django.db.models import Count
from django.db.models.expressions import RawSQL
from django.db.models.query import ModelIterable
from django.db.models.signals import post_init
from django.db.models.sql.compiler import SQLCompiler

from django_integration import UnknownReads
from django_integration.dependencies import hooks
from django_integration.dependencies import recorder as recorders
from django_integration.dependencies.recorder import Recorder, recording
from tests.unit.django_integration.zoo.models import Animal, Cage, Note

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

    for name in ("read_query", "read_tables", "note_from", "_note_unknown", "_recorded"):
        monkeypatch.setattr(hooks, name, never)
    Cage.objects.create(name="x")
    list(Cage.objects.annotate(Count("note")))
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


class TestRaw:
    @pytest.mark.parametrize(
        "read",
        [
            lambda: list(Cage.objects.raw("SELECT * FROM zoo_cage")),
            lambda: _execute("SELECT 1"),
            lambda: _execute("-- a comment\n/* another */ select 1"),
            lambda: _execute("WITH x AS (SELECT 1) SELECT * FROM x"),
            lambda: list(Cage.objects.annotate(x=RawSQL("(SELECT 1)", ()))),
            lambda: list(Cage.objects.extra(where=["id IN (SELECT 1)"])),
            lambda: list(Cage.objects.extra(select={"x": "(SELECT 1)"})),
            lambda: list(Cage.objects.extra(tables=["django_migrations"])),
        ],
    )
    def test_sql_in_text_is_warned_of_once_with_its_place(self, read: Callable[[], Any]) -> None:
        def load() -> None:
            recorder = Recorder()
            with recording(recorder):
                read()
            recorder.loaded(None)

        with pytest.warns(UnknownReads, match=r"test_hooks.py:\d+"):
            load()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load()

    @pytest.mark.parametrize(
        "sql", ["UPDATE zoo_cage SET name = 'x'", "DELETE FROM zoo_cage", "CREATE TABLE x (y INTEGER)", "DROP TABLE x"]
    )
    def test_what_reads_nothing_is_not_warned_of(self, sql: str) -> None:
        recorder = Recorder()
        with recording(recorder):
            _execute(sql)
        assert not recorder.unknown

    def test_text_that_has_no_query_in_it_reads_the_tables_around_it(self) -> None:
        recorder = Recorder()
        with recording(recorder):
            list(Cage.objects.annotate(x=RawSQL("1 + 1", ())))
        assert list(recorder.tags()) == ["zoo.cage"]
        assert not recorder.unknown


def _execute(sql: str) -> None:
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
