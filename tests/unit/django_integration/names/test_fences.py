"""Whatever fails while a write is named, the write succeeds, and what it made stale is void."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, ProgrammingError, connection, transaction

from django_integration import invalidates
from django_integration.names import Names, columns, fence, plan, plan_of, relations, tags
from django_integration.names.fences import _logged
from django_integration.names.plan import WritePlan, forget_plans
from django_integration.writes import raw_sql, receivers, saves, statements

from ..conftest import Wire, empty
from ..zoo.models import Animal, Aquarium, Cage, Food, Note, Photo, Ticket

pytestmark = pytest.mark.usefixtures("db", "fresh")


class Ours(Exception):
    """An error that nobody expects."""


def broken(*_: object, **__: object) -> Any:
    raise Ours


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing was logged before, and no plan is kept."""
    forget_plans()
    _logged.clear()
    yield
    forget_plans()
    _logged.clear()


PARTS: dict[str, tuple[Any, str]] = {
    "a row that was written": (WritePlan, "add_written"),
    "a row": (WritePlan, "add_row"),
    "rows by their keys": (WritePlan, "add_rows"),
    "columns": (WritePlan, "add_columns"),
    "what the database changes itself": (WritePlan, "add_dependents"),
    "whether functions want links": (WritePlan, "links_wanted"),
    "the plan": (WritePlan, "__init__"),
    "the tag of a row": (tags, "_join"),
    "the tag of a row in a plan": (plan, "known_row_tag"),
    "values": (plan, "tags_of_values"),
    "names of columns": (plan, "tags_of_columns"),
    "a column": (columns, "_column"),
    "the family": (plan, "family"),
    "its tables": (plan, "tables_of"),
    "a known key": (plan, "_known"),
    "expressions": (plan, "has_expressions"),
    "whether links are by primary keys": (receivers, "_are_pks"),
    "a clone": (relations, "clone_of"),
    "a clone of a statement": (statements, "clone_of"),
    "a clone of a save": (saves, "clone_of"),
    "values in a WHERE": (statements, "_values_in"),
    "the ends of links": (statements, "_ends"),
    "reading keys": (statements, "_select_keys"),
    "rows of a delete": (saves, "_add_rows"),
    "models of a delete": (saves, "_models_of"),
    "parsing SQL": (raw_sql, "read"),
    "tables in SQL": (raw_sql, "_add_names"),
}
"""What may fail: where, and the name."""


def set_name(animal: Animal) -> None:
    animal.name = "b"
    animal.save()


def sql(_: Animal) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE zoo_animal SET name = 'b'")


WRITES: dict[str, Callable[[Animal], object]] = {
    "save": set_name,
    "save of a column": lambda animal: animal.save(update_fields=["name"]),
    "create": lambda animal: Animal.objects.create(name="b"),
    "create of a child": lambda animal: Aquarium.objects.create(name="b"),
    "delete": lambda animal: animal.delete(),
    "delete with rows that point at it": lambda animal: Cage.objects.all().delete(),
    "fast delete": lambda animal: Note.objects.all().delete(),
    "update": lambda animal: Animal.objects.filter(pk=animal.pk).update(name="b"),
    "update of all": lambda animal: Animal.objects.update(name="b"),
    "bulk_create": lambda animal: Animal.objects.bulk_create([Animal(name="b"), Animal(name="c")]),
    "bulk_update": lambda animal: Animal.objects.bulk_update([animal], ["name"]),
    "links": lambda animal: animal.foods.add(Food.objects.create()),
    "links taken away": lambda animal: animal.foods.clear(),
    "SQL": sql,
    "a row with functions": lambda animal: Ticket.objects.create(day=2),
    "update with functions": lambda animal: Ticket.objects.filter(day=1).update(price=2),
    "bulk_create with functions": lambda animal: Ticket.objects.bulk_create([Ticket(day=2)]),
    "a row that is set to null, with functions": lambda animal: Photo.objects.all().delete(),
}
CHANGED = {
    "create of a child": "zoo.aquarium",
    "delete with rows that point at it": "zoo.cage",
    "fast delete": "zoo.note",
    "a row with functions": "zoo.ticket",
    "update with functions": "zoo.ticket",
    "bulk_create with functions": "zoo.ticket",
    "a row that is set to null, with functions": "zoo.ticket",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_write_succeeds_and_voids_what_it_changed_though_we_fail(
    part: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, write in WRITES.items():
        cage = Cage.objects.create()
        animal = Animal.objects.create(name="a", cage=cage)
        animal.foods.add(Food.objects.create())
        Note.objects.create(cage=cage)
        ticket = Ticket.objects.create(day=1, photo=Photo.objects.create())
        label = CHANGED.get(kind, "zoo.animal")
        pk = {"zoo.animal": animal, "zoo.cage": cage, "zoo.ticket": ticket}.get(label, animal).pk
        wire.messages()
        forget_plans()
        with monkeypatch.context() as patch:
            patch.setattr(*PARTS[part], broken)
            write(animal)

        said = wire.messages()
        named = frozenset[str]().union(*(message.tags | message.columns for message in said))
        joins = any(name.startswith(f"{label}[") for name in named)  # what a new row names
        is_void = label in named and (f"{label}:*" in named or f"{label}:{pk}" in named or joins)
        assert is_void or any(message.everything for message in said), kind
        empty("default")


def test_it_is_logged_once_for_each_kind_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(WritePlan, "add_written", broken)
    with caplog.at_level(logging.ERROR, logger="django_integration.names.fences"):
        for name in "ab":
            Cage.objects.create(name=name)
        Food.objects.create()
    assert [record.getMessage() for record in caplog.records] == [
        "naming_failed model=zoo.Cage error=Ours",
        "naming_failed model=zoo.Food error=Ours",
    ]
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[0] is Ours


def test_what_was_logged_is_not_remembered_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_integration.names.fences.MOST_LOGGED", 2)
    kinds = [type(f"Error{number}", (Exception,), {}) for number in range(5)]
    for kind in kinds:
        with fence(Names(), None):
            raise kind
    assert len(_logged) <= 2


def test_without_a_plan_everything_is_stale() -> None:
    names = Names()
    with fence(names, None):
        raise Ours
    assert names.everything


def test_with_a_plan_all_that_a_write_of_the_model_can_change_is_stale() -> None:
    names = Names()
    with fence(names, plan_of(Aquarium, None)):
        raise Ours
    assert set(names.tags) == {"zoo.aquarium", "zoo.aquarium:*", "zoo.building", "zoo.building:*"}
    of_functions = Names()
    with fence(of_functions, plan_of(Ticket, None)):
        raise Ours
    assert of_functions.everything, "no function has seen the row"


@pytest.mark.parametrize("error", [ImproperlyConfigured, OperationalError, KeyboardInterrupt, SystemExit])
def test_what_is_the_application_s_passes(error: type[BaseException]) -> None:
    """A broken setting; a database that is away or has chosen us as a victim; an end of the process."""
    with pytest.raises(error), fence(Names(), plan_of(Cage, None)):
        raise error


def test_a_time_limit_that_strikes_while_we_name_passes_and_voids(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task queue's handler raises an Exception of its own wherever it strikes: the task has to end."""

    def handler(number: int, frame: object) -> None:
        raise Ours

    def struck(*_: object, **__: object) -> None:
        handler(14, sys._getframe())

    cage = Cage.objects.create()
    wire.messages()
    for write in (cage.save, lambda: Cage.objects.filter(pk=cage.pk).update(name="x")):
        with monkeypatch.context() as patch:
            for name in ("add_written", "add_columns"):
                patch.setattr(WritePlan, name, struck)
            with pytest.raises(Ours):
                write()
        said = wire.message()
        assert said.everything or {"zoo.cage", "zoo.cage:*"} <= said.tags
    assert not _logged


def test_an_error_that_ends_the_transaction_passes() -> None:
    """After it, PostgreSQL answers nothing: the application has to know why."""
    passes = connection.vendor == "postgresql"
    names = Names()
    try:
        with transaction.atomic(), fence(names, plan_of(Cage, None)), connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM there_is_no_such_table")
    except ProgrammingError:
        assert passes
    except OperationalError:
        assert connection.vendor == "sqlite", "which has no other name for it"
    else:
        assert not passes
        assert names.tags
    with fence(names, plan_of(Cage, None)):
        raise ProgrammingError


@pytest.mark.usefixtures("functions")
def test_an_error_of_an_invalidates_function_reaches_the_writer(wire: Wire) -> None:
    """It is the application's own code. What it would have named is not known, so everything is stale."""

    @invalidates(Food)
    def shelf(food: Food) -> list[str]:
        raise Ours

    with pytest.raises(Ours):
        Food.objects.create()
    assert wire.message().everything
    with pytest.raises(Ours):
        Food.objects.bulk_create([Food()])
    assert not wire.messages(), "rolled back with the transaction in which functions see rows"
    assert Food.objects.count() == 1


@pytest.mark.usefixtures("functions")
def test_rows_for_functions_that_cannot_be_read_make_everything_stale(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_integration.names.functions.read_rows", broken)
    ticket = Ticket.objects.create(day=1)
    wire.messages()
    ticket.save()
    assert wire.message().everything


def test_a_model_that_cannot_be_understood_changes_everything(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "family", broken)
    forget_plans()
    understood = plan_of(Cage, None)
    assert understood.is_watched
    assert understood is plan_of(Cage, None), "it is not tried for each write"
    names = Names()
    for add in (understood.add_table, understood.add_dependents, understood.add_coarsely):
        add(names)
        assert names.everything
        names.clear()
    assert not understood.links_wanted()
    Cage.objects.create()
    assert wire.message().everything
