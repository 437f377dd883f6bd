"""Writes without signals: every statement of the ORM publishes the rows it changed, and adds no query."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.db import IntegrityError, OperationalError, connection, migrations, models, transaction
from django.db.migrations.state import ProjectState
from django.db.models import F, Q
from django.db.models.signals import post_delete, post_save, pre_delete
from django.db.models.sql.compiler import SQLUpdateCompiler
from django.test.utils import CaptureQueriesContext, register_lookup

from django_integration import invalidates
from django_integration.writes import statements
from django_integration.writes.statements import KNOWN_ROWS

from ..conftest import Wire
from ..zoo.models import Animal, Aquarium, Cage, Duty, Food, Keeper, Note, Photo, Seat, Specimen, Ticket, Word

pytestmark = pytest.mark.usefixtures("db")


# ------------------------------------------------------------------------------------------------ updates


def test_an_update_by_primary_key_names_its_rows_and_columns(animal: Animal, wire: Wire) -> None:
    Animal.objects.filter(pk=animal.pk).update(weight=3)
    message = wire.message()
    assert message.tags == {"zoo.animal", f"zoo.animal:{animal.pk}"}
    assert message.columns == {"zoo.animal[weight=*]"}


def test_an_update_of_several_keys_names_each(wire: Wire) -> None:
    one, two, _ = (Animal.objects.create() for _ in range(3))
    wire.messages()
    Animal.objects.filter(pk__in=[one.pk, two.pk]).exclude(weight=9).update(weight=F("weight") + 1, name="x")
    message = wire.message()
    assert message.tags == {"zoo.animal", f"zoo.animal:{one.pk}", f"zoo.animal:{two.pk}"}
    assert message.columns == {"zoo.animal[weight=*]", "zoo.animal[name=*]"}


UNKNOWN: dict[str, Callable[[int], object]] = {
    "all": lambda pk: Animal.objects.update(weight=3),
    "by a column": lambda pk: Animal.objects.filter(weight=0).update(weight=3),
    "by a key or a column": lambda pk: Animal.objects.filter(Q(pk=pk) | Q(weight=0)).update(weight=3),
    "by another key": lambda pk: Animal.objects.exclude(pk=pk + 1).update(weight=3),
    "by a query": lambda pk: Animal.objects.filter(pk__in=Animal.objects.values("pk")).update(weight=3),
    "by an expression": lambda pk: Animal.objects.filter(pk=F("weight") + pk).update(weight=3),
    "by another table's key": lambda pk: Animal.objects.filter(cage__pk=None).update(weight=3),
    "by too many keys": lambda pk: Animal.objects.filter(pk__in=range(pk, pk + KNOWN_ROWS + 1)).update(weight=3),
    "of the key itself": lambda pk: Animal.objects.filter(pk=pk).update(id=pk + 100),
}


@pytest.mark.parametrize("update", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_other_updates_publish_unknown_rows(animal: Animal, wire: Wire, update: Callable[[int], object]) -> None:
    update(animal.pk)
    assert wire.message().tags == {"zoo.animal", "zoo.animal:*"}


def test_an_update_of_no_row_publishes_nothing(animal: Animal, wire: Wire) -> None:
    Animal.objects.filter(weight=99).update(weight=3)
    Animal.objects.none().update(weight=3)
    Animal.objects.filter(pk__in=[]).delete()
    assert wire.messages() == []


def test_a_child_updates_the_tables_of_its_parents(wire: Wire) -> None:
    row = Aquarium.objects.create()
    wire.messages()
    expected = {f"zoo.{name}{suffix}" for name in ("building", "aquarium") for suffix in ("", f":{row.pk}")}
    with transaction.atomic():
        Aquarium.objects.filter(litres=0).update(name="shark", litres=3)
    assert wire.message().tags == expected, "Django itself reads which rows these are"
    Aquarium.objects.filter(pk=row.pk).update(name="ray")
    message = wire.message()
    assert message.tags == expected
    assert message.columns == {"zoo.building[name=*]"}


def test_a_key_of_two_columns_is_not_looked_for(wire: Wire) -> None:
    Seat.objects.create(row=1, number=2)
    wire.messages()
    Seat.objects.filter(pk=(1, 2)).update(number=3)
    assert wire.message().tags == {"zoo.seat", "zoo.seat:*"}


def test_a_rolled_back_update_publishes_nothing(animal: Animal, wire: Wire) -> None:
    with transaction.atomic():
        Animal.objects.update(weight=3)
        transaction.set_rollback(True)
    assert wire.messages() == []


def test_async_updates_are_the_same(animal: Animal, wire: Wire) -> None:
    async_to_sync(Animal.objects.filter(pk=animal.pk).aupdate)(weight=3)
    assert wire.message().tags == {"zoo.animal", f"zoo.animal:{animal.pk}"}


def test_reverse_relations_update_the_rows_they_name(cage: Cage, animal: Animal, wire: Wire) -> None:
    cage.animal_set.add(animal)
    message = wire.message()
    assert message.tags == {"zoo.animal", f"zoo.animal:{animal.pk}"}
    assert message.columns == {"zoo.animal[cage_id=*]"}
    cage.animal_set.remove(animal)
    assert f"zoo.animal:{animal.pk}" in wire.message().tags
    cage.animal_set.set([animal])
    assert f"zoo.animal:{animal.pk}" in wire.message().tags
    cage.animal_set.clear()
    assert wire.message().tags == {"zoo.animal", "zoo.animal:*"}


# ------------------------------------------------------------------------------------------------ inserts


def test_bulk_create_names_every_row_and_its_values(cage: Cage, wire: Wire) -> None:
    rows = Animal.objects.bulk_create([Animal(name="a", cage=cage), Animal(pk=90, name="b")])
    message = wire.message()
    assert message.tags == {"zoo.animal", f"zoo.animal:{rows[0].pk}", "zoo.animal:90"}
    assert {f"zoo.animal[cage_id={cage.pk}]", "zoo.animal[name=a]", "zoo.animal[name=b]"} <= message.columns


def test_bulk_create_of_many_rows_publishes_unknown_rows(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "KNOWN_ROWS", 2)
    Cage.objects.bulk_create([Cage(), Cage(), Cage()])
    message = wire.message()
    assert message.tags == {"zoo.cage", "zoo.cage:*"}
    assert not message.columns


def test_values_that_the_database_makes_are_not_known(wire: Wire) -> None:
    Specimen.objects.bulk_create([Specimen(number=5)])
    columns = wire.message().columns
    assert {"zoo.specimen[rank=*]", "zoo.specimen[number=5]"} <= columns
    assert "zoo.specimen[rank=7]" not in columns


def test_ignored_conflicts_leave_the_rows_unknown(cage: Cage, wire: Wire) -> None:
    Cage.objects.bulk_create([Cage(name="n")], ignore_conflicts=True)
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*"}
    Cage.objects.bulk_create([Cage(pk=cage.pk)], ignore_conflicts=True)
    assert wire.messages() == [], "the database says that no row was inserted"


def target(column: str) -> list[str] | None:
    """The column of a conflict, where it can be named."""
    return [column] if connection.features.supports_update_conflicts_with_target else None


def test_updated_conflicts_name_the_row_that_was_there(cage: Cage, wire: Wire) -> None:
    Cage.objects.bulk_create(
        [Cage(pk=cage.pk, name="new")], update_conflicts=True, update_fields=["name"], unique_fields=target("pk")
    )
    message = wire.message()
    # Where neither the conflict's column can be named nor the row returned, it may be any.
    known = {"zoo.cage", f"zoo.cage:{cage.pk}"}
    assert message.tags == known or (not target("pk") and message.tags == {"zoo.cage", "zoo.cage:*"})
    assert {"zoo.cage[name=*]", "zoo.cage[name=new]"} <= message.columns


def test_a_conflict_of_another_column_is_a_row_that_has_another_key(wire: Wire) -> None:
    """The row there keeps its key; that of the object in memory means nothing."""
    Word.objects.create(text="old")
    row = Keeper.objects.create(name="a", badge=1)
    wire.messages()
    Keeper.objects.bulk_create(
        [Keeper(pk=row.pk + 50, name="b", badge=1)],
        update_conflicts=True,
        update_fields=["name"],
        unique_fields=target("badge"),
    )
    assert Keeper.objects.get().pk == row.pk
    tags = wire.message().tags
    assert f"zoo.keeper:{row.pk}" in tags or "zoo.keeper:*" in tags


def test_rows_of_a_through_model_change_what_they_link(cage: Cage, wire: Wire) -> None:
    keeper = Keeper.objects.create()
    wire.messages()
    Duty.objects.bulk_create([Duty(keeper=keeper, cage=cage)])
    assert {f"zoo.keeper:{keeper.pk}", f"zoo.cage:{cage.pk}"} <= wire.message().tags
    Duty.objects.filter(keeper=keeper).update(day=3)
    assert {f"zoo.keeper:{keeper.pk}", "zoo.cage:*", "zoo.duty:*"} <= wire.message().tags
    other = Cage.objects.create()
    wire.messages()
    Duty.objects.filter(keeper=keeper, cage=cage).update(cage=other)
    assert {f"zoo.keeper:{keeper.pk}", f"zoo.cage:{cage.pk}", f"zoo.cage:{other.pk}"} <= wire.message().tags
    Duty.objects.update(day=cage.pk)
    wire.messages()
    Duty.objects.filter(cage=other).update(cage=F("day"))
    assert "zoo.cage:*" in wire.message().tags


# ------------------------------------------------------------------------------------------------ deletes


def test_a_delete_by_primary_key_names_its_rows(wire: Wire) -> None:
    note = Note.objects.create()
    for delete in (
        lambda: Note.objects.filter(pk=note.pk).delete(),
        lambda: Note.objects.filter(pk=note.pk)._raw_delete("default"),  # type: ignore[attr-defined]
    ):
        Note.objects.bulk_create([note], ignore_conflicts=True)
        wire.messages()
        delete()
        assert wire.message().tags == {"zoo.note", f"zoo.note:{note.pk}"}


def test_removed_links_name_the_rows_on_both_sides(animal: Animal, wire: Wire) -> None:
    foods = [Food.objects.create() for _ in range(2)]
    animal.foods.set(foods)
    wire.messages()
    animal.foods.remove(foods[0])
    links = {"zoo.animal_foods", "zoo.animal_foods:*"}
    assert wire.message().tags == links | {
        *("zoo.animal", f"zoo.animal:{animal.pk}"),
        *("zoo.food", f"zoo.food:{foods[0].pk}"),
    }


def test_the_table_between_can_be_written_by_hand(animal: Animal, wire: Wire) -> None:
    """Django sends no signal for a model that it has made itself."""
    food = Food.objects.create()
    wire.messages()
    link = Animal.foods.through(animal=animal, food=food)
    link.save()
    ends = {f"zoo.animal:{animal.pk}", f"zoo.food:{food.pk}", f"zoo.animal_foods:{link.pk}"}
    assert ends <= wire.message().tags
    link.delete()
    assert {f"zoo.animal:{animal.pk}", f"zoo.food:{food.pk}"} <= wire.message().tags


# ------------------------------------------------------------ what the caller publishes, and failures


def test_what_receivers_write_meanwhile_is_published(cage: Cage, wire: Wire) -> None:
    """A save and a delete handle their own statements, and no others of the same table."""
    bystander = Cage.objects.create()

    def write(**_: object) -> None:
        Cage.objects.filter(pk=bystander.pk).update(name="written")

    wire.messages()
    for signal in (post_save, pre_delete, post_delete):
        signal.connect(write, sender=Cage)
    try:
        cage.save()
        assert f"zoo.cage:{bystander.pk}" in set().union(*(message.tags for message in wire.messages()))
        cage.delete()
        assert f"zoo.cage:{bystander.pk}" in wire.message().tags
    finally:
        for signal in (post_save, pre_delete, post_delete):
            signal.disconnect(write, sender=Cage)


def test_what_a_field_writes_while_it_is_prepared_is_published(
    cage: Cage, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The save has marked its own update, and the field's comes first."""
    bystander = Cage.objects.create()
    field = Cage._meta.get_field("name")
    original = field.get_db_prep_save

    def prepare(value: object, connection: object) -> object:
        if value == "outer":
            Cage.objects.filter(pk=bystander.pk).update(name="inner")
        return original(value, connection)

    monkeypatch.setattr(field, "get_db_prep_save", prepare)
    wire.messages()
    cage.name = "outer"
    cage.save()
    tags = set().union(*(message.tags for message in wire.messages()))
    assert {f"zoo.cage:{bystander.pk}", f"zoo.cage:{cage.pk}"} <= tags


def test_a_save_is_published_when_a_receiver_before_ours_fails(cage: Cage, wire: Wire) -> None:
    def fail(**_: object) -> None:
        raise LookupError("receiver")

    receivers = post_save.receivers
    post_save.connect(fail, sender=Cage)
    post_save.receivers.insert(0, post_save.receivers.pop())
    post_save.sender_receivers_cache.clear()
    try:
        cage.name = "written"
        with pytest.raises(LookupError):
            cage.save()
    finally:
        post_save.disconnect(fail, sender=Cage)
    assert post_save.receivers is receivers
    assert Cage.objects.get().name == "written"
    assert wire.message().tags == {"zoo.cage", f"zoo.cage:{cage.pk}"}


def test_the_values_published_are_those_that_were_written(cage: Cage, wire: Wire) -> None:
    """A receiver may change the row in memory before ours sees it."""

    def change(instance: Cage, **_: object) -> None:
        instance.name = "in memory"

    post_save.connect(change, sender=Cage)
    post_save.receivers.insert(0, post_save.receivers.pop())
    post_save.sender_receivers_cache.clear()
    try:
        cage.name = "written"
        cage.save()
    finally:
        post_save.disconnect(change, sender=Cage)
    assert "zoo.cage[name=written]" in wire.message().columns


def test_a_write_that_fails_publishes_nothing(cage: Cage, wire: Wire) -> None:
    with pytest.raises(IntegrityError):
        Cage.objects.bulk_create([Cage(pk=cage.pk)])
    with pytest.raises(IntegrityError):
        Animal.objects.bulk_create([Animal(cage_id=10**6)])
    assert wire.messages() == []


LOST: dict[str, Callable[[Cage], object]] = {
    "update": lambda cage: Cage.objects.filter(pk=cage.pk).update(name="x"),
    "save": lambda cage: cage.save(),
}


@pytest.mark.parametrize("write", LOST.values(), ids=LOST.keys())
def test_a_write_whose_answer_was_lost_may_have_worked(cage: Cage, wire: Wire, write: Callable[[Cage], object]) -> None:
    def lose(execute: Callable[..., object], *args: object) -> object:
        execute(*args)
        raise OperationalError("server closed the connection unexpectedly")

    with connection.execute_wrapper(lose), pytest.raises(OperationalError):
        write(cage)
    assert "zoo.cage" in wire.message().tags
    with pytest.raises(OperationalError), transaction.atomic(), connection.execute_wrapper(lose):
        write(cage)
    assert wire.messages() == [], "that was rolled back"


class TimeLimit(BaseException):
    """No error of a database, and no Exception: a soft time limit, a greenlet's time-out, Ctrl-C."""


class LimitOfATask(Exception):
    """As task queues have it: an Exception, which a signal handler raises."""


STRUCK: dict[str, Callable[[Cage], object]] = {
    "update": lambda cage: Cage.objects.update(name="x"),
    "update with functions": lambda cage: Ticket.objects.update(day=2),
    "save": lambda cage: cage.save(),
    "create": lambda cage: Cage.objects.create(),
    "bulk_create": lambda cage: Cage.objects.bulk_create([Cage()]),
    "bulk_update": lambda cage: Cage.objects.bulk_update([cage], ["name"]),
    "delete": lambda cage: Note.objects.get().delete(),
    "fast delete": lambda cage: Note.objects.all().delete(),
}


@pytest.mark.parametrize("kind", [TimeLimit, LimitOfATask])
@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("write", STRUCK)
def test_a_write_that_something_ends_after_its_statement_is_published(
    write: str, in_transaction: bool, kind: type[BaseException], cage: Cage, wire: Wire
) -> None:
    """The statement has run; outside of a transaction it is committed, and in one the application may go on."""

    def strike(execute: Callable[..., object], sql: str, *rest: Any) -> None:
        execute(sql, *rest)
        if sql.startswith(("UPDATE", "INSERT", "DELETE")):
            raise kind

    Note.objects.create()
    Ticket.objects.create(day=1)
    wire.messages()
    with transaction.atomic() if in_transaction else contextlib.nullcontext():
        with connection.execute_wrapper(strike), pytest.raises(kind):
            STRUCK[write](cage)
        if connection.needs_rollback:  # a transaction of Django's own was in between
            transaction.set_rollback(False)
    label = {"update with functions": "zoo.ticket"}.get(write, "zoo.note" if "delete" in write else "zoo.cage")
    messages = wire.messages()
    # Some have a transaction of their own.
    own = {"bulk_create", "bulk_update", "delete", "fast delete", "update with functions"}
    is_rolled_back = not in_transaction and not messages and write in own
    assert is_rolled_back or any(message.everything or label in message.tags for message in messages)


def test_a_write_that_fails_before_its_statement_publishes_nothing(cage: Cage, wire: Wire) -> None:
    for fail in (
        lambda: Cage.objects.update(name=[object()], id="x"),
        lambda: Animal.objects.create(weight="heavy"),
        lambda: Animal.objects.bulk_create([Animal(weight="heavy")]),
    ):
        with pytest.raises((ValueError, TypeError)):
            fail()
    assert not wire.messages()


def test_the_wrappers_are_put_on_once() -> None:
    before = SQLUpdateCompiler.execute_sql
    statements.patches.install()
    assert SQLUpdateCompiler.execute_sql is before


# -------------------------------------------------------------- models with an @invalidates function


def test_an_update_names_its_rows_before_and_after(wire: Wire) -> None:
    for day in (1, 2):
        Ticket.objects.create(day=day)
    other = Ticket.objects.create(day=9)
    wire.messages()
    Ticket.objects.filter(day__lt=5).update(day=F("day") + 10)
    message = wire.message()
    assert message.keys == {"day:1", "day:2", "day:11", "day:12"}
    assert "zoo.ticket:*" not in message.tags, "they were read, so they are known"
    assert f"zoo.ticket:{other.pk}" not in message.tags


def test_an_update_of_joined_tables_names_its_rows_too(wire: Wire) -> None:
    photo = Photo.objects.create(name="a")
    Ticket.objects.create(day=1, photo=photo)
    wire.messages()
    Ticket.objects.filter(photo__name="a").update(day=2)
    assert wire.message().keys == {"day:1", "day:2"}


SHAPES: dict[str, Callable[[], Any]] = {
    "distinct": Ticket.objects.distinct,
    "ordered by what may be null": lambda: Ticket.objects.order_by("photo__name"),
    "joined to what may be null": lambda: Ticket.objects.select_related("photo").filter(photo__name=None),
    "counting": lambda: Ticket.objects.annotate(n=models.Count("photo")),
    "with a window": lambda: Ticket.objects.annotate(n=models.Window(models.Count("pk"))).filter(day=1),
    "with a subquery": lambda: Ticket.objects.filter(
        ~models.Exists(Photo.objects.filter(ticket=models.OuterRef("pk")))
    ),
    "with another table": lambda: Ticket.objects.extra(where=["NOT EXISTS (SELECT 1 FROM zoo_photo)"]),
    "locking another table": lambda: Ticket.objects.select_related("photo").select_for_update(of=("self",)),
    "locking, and passing over locked rows": lambda: Ticket.objects.select_for_update(of=("self",)),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_an_update_of_any_shape_names_its_rows(shape: Callable[[], Any], wire: Wire) -> None:
    """PostgreSQL locks no rows of an outer join, of DISTINCT, of GROUP BY or of windows: they are read all the same."""
    Ticket.objects.create(day=1)
    wire.messages()
    assert shape().update(day=2) == 1
    assert wire.message().keys == {"day:1", "day:2"}


def test_bulk_update_names_its_rows_before_and_after(wire: Wire) -> None:
    tickets = [Ticket.objects.create(day=day) for day in (1, 2)]
    wire.messages()
    for ticket in tickets:
        ticket.day += 5
    Ticket.objects.bulk_update(tickets, ["day"])
    assert wire.message().keys == {"day:1", "day:2", "day:6", "day:7"}


def test_bulk_create_asks_the_functions_for_each_object(wire: Wire) -> None:
    Ticket.objects.bulk_create([Ticket(day=3), Ticket(day=4)])
    message = wire.message()
    assert message.keys == {"day:3", "day:4"}
    assert not message.everything


def test_a_function_sees_the_key_that_the_database_gave(functions: None, wire: Wire) -> None:
    @invalidates(Note)
    def own_page(note: Note) -> Iterator[str]:
        yield f"note:{note.pk}"

    [note] = Note.objects.bulk_create([Note()])
    assert wire.message().keys == {f"note:{note.pk}"}


TOO_MUCH: dict[str, Callable[[], object]] = {
    "more rows than are read": lambda: Ticket.objects.update(price=1),
    "a raw delete of these": lambda: Ticket.objects.all()._raw_delete("default"),  # type: ignore[attr-defined]
    "conflicts": lambda: Ticket.objects.bulk_create([Ticket(pk=999)], ignore_conflicts=True),
    "a migration's update": lambda: historical("Ticket")._default_manager.update(price=1),
    "a migration's insert": lambda: historical("Ticket")._default_manager.bulk_create([historical("Ticket")(pk=998)]),
}


def historical(name: str) -> type[Ticket]:
    model: type[Ticket] = ProjectState.from_apps(apps).apps.get_model("zoo", name)
    return model


@pytest.mark.parametrize("write", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_what_the_functions_cannot_be_asked_clears_everything(
    monkeypatch: pytest.MonkeyPatch, wire: Wire, write: Callable[[], object]
) -> None:
    monkeypatch.setattr(statements, "KNOWN_ROWS", 2)
    for day in range(3):
        Ticket.objects.create(day=day)
    wire.messages()
    write()
    assert wire.message().everything


def test_a_row_that_comes_between_reading_and_writing_clears_everything(
    monkeypatch: pytest.MonkeyPatch, wire: Wire
) -> None:
    """Another transaction may commit one in between; no function has seen it as it was."""
    one, _ = (Ticket.objects.create(day=day) for day in (1, 2))
    monkeypatch.setattr(statements, "_select_keys", lambda *_: [one.pk])
    wire.messages()
    Ticket.objects.update(price=5)
    assert wire.message().everything


def test_a_raw_delete_reads_the_rows_for_their_functions(wire: Wire) -> None:
    Ticket.objects.create(day=1)
    wire.messages()
    Ticket.objects.filter(day=1)._raw_delete("default")  # type: ignore[attr-defined]
    assert wire.message().keys == {"day:1"}


def test_a_migration_that_links_clears_what_a_function_would_name(functions: None, wire: Wire) -> None:
    @invalidates(Food)
    def shelf(food: Food) -> Iterator[str]:
        yield f"shelf:{food.name}"

    state = ProjectState.from_apps(apps).apps
    animal = state.get_model("zoo", "Animal")._default_manager.create()
    food = Food.objects.create()
    wire.messages()
    animal.foods.add(food.pk)
    assert wire.message().everything


def test_reading_for_functions_happens_in_one_transaction(wire: Wire) -> None:
    Ticket.objects.create(day=1)
    with CaptureQueriesContext(connection) as queries:
        Ticket.objects.filter(day=1).update(day=2)
    verbs = [query["sql"].split()[0] for query in queries]
    assert verbs == ["BEGIN", "SELECT", "SELECT", "UPDATE", "SELECT", "COMMIT"]


# ----------------------------------------------------------------- what the database deletes by itself (Django 6.1)


if hasattr(models, "DB_CASCADE"):

    def delete_by_sql() -> None:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM zoo_herd")

    CASCADES: dict[str, Callable[[Any], object]] = {
        "a row": lambda herd: herd.delete(),
        "a query": lambda herd: type(herd)._default_manager.all().delete(),
        "a raw delete": lambda herd: type(herd)._default_manager.all()._raw_delete("default"),
        "SQL": lambda herd: delete_by_sql(),
    }

    @pytest.mark.parametrize("delete", CASCADES.values(), ids=CASCADES.keys())
    def test_a_delete_is_a_change_of_what_the_database_deletes_with_it(
        wire: Wire, delete: Callable[[Any], object]
    ) -> None:
        herd = apps.get_model("zoo", "Herd")._default_manager.create()
        calves = apps.get_model("zoo", "Calf")._default_manager
        apps.get_model("zoo", "Bell")._default_manager.create(calf=calves.create(herd=herd))
        wire.messages()
        delete(herd)
        assert not calves.exists()
        tags = wire.message().tags
        assert {"zoo.herd", "zoo.calf", "zoo.calf:*", "zoo.bell", "zoo.bell:*", "zoo.sound", "zoo.sound:*"} <= tags


class SameLetters(models.lookups.Exact):
    """Somebody's own kind of equality."""

    lookup_name = "same_letters"

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        (left, left_params), (right, right_params) = (
            self.process_lhs(compiler, connection),
            self.process_rhs(compiler, connection),
        )
        return f"LOWER({left}) = LOWER({right})", [*left_params, *right_params]


def test_an_equality_of_somebody_elses_names_no_rows(wire: Wire) -> None:
    Word.objects.create(text="Ape")
    wire.messages()
    with register_lookup(models.CharField, SameLetters):
        assert Word.objects.filter(text__same_letters="aPE").update(day=1) == 1
    assert wire.message().tags == {"zoo.word", "zoo.word:*"}


# ---------------------------------------------------------------------------------------------- models of the past


WITH_A_PAST: dict[str, Callable[[Any], object]] = {
    "bulk_create": lambda gone: gone.objects.bulk_create([gone(number=3), gone(number=4)]),
    "bulk_update": lambda gone: gone.objects.bulk_update([gone.objects.get()], ["number"]),
    "save": lambda gone: gone.objects.get().save(),
    "update": lambda gone: gone.objects.update(number=2),
    "delete": lambda gone: gone.objects.get().delete(),
    "delete of all": lambda gone: gone.objects.all().delete(),
    "links": lambda gone: gone.objects.get().others.add(gone.objects.create(number=5)),
    "a link set to null": lambda gone: gone.objects.create(number=6, parent=gone.objects.get()).parent.delete(),
    "updated conflicts": lambda gone: gone.objects.bulk_create(
        [gone(id=1, number=1)],
        update_conflicts=True,
        update_fields=["number"],
        unique_fields=["id"] if connection.features.supports_update_conflicts_with_target else None,
    ),
    "ignored conflicts": lambda gone: gone.objects.bulk_create([gone(id=99, number=1)], ignore_conflicts=True),
}


@pytest.fixture
def gone() -> Iterator[type[models.Model]]:
    """A migration's model that is not there any more, with one row."""
    past, before = ProjectState(), ProjectState()
    create = migrations.CreateModel(
        "Gone",
        [
            ("id", models.BigAutoField(primary_key=True)),
            ("number", models.IntegerField()),
            ("parent", models.ForeignKey("zoo.Gone", models.SET_NULL, null=True)),
            ("others", models.ManyToManyField("zoo.Gone")),
        ],
    )
    create.state_forwards("zoo", past)
    with connection.schema_editor() as editor:
        create.database_forwards("zoo", editor, before, past)
    model: Any = past.apps.get_model("zoo", "Gone")
    model.objects.create(number=1)
    yield model
    with connection.schema_editor() as editor:
        create.database_backwards("zoo", editor, past, before)


@pytest.mark.parametrize("write", WITH_A_PAST.values(), ids=WITH_A_PAST.keys())
@pytest.mark.parametrize("has_functions", [False, True])
def test_a_migration_writes_to_a_model_that_is_gone(
    write: Callable[[Any], object], has_functions: bool, functions: None, gone: Any, wire: Wire
) -> None:
    """Its rows cannot be copied by `copy.copy`, which asks for the model of today."""
    if has_functions:
        invalidates(gone)(lambda row: [f"number:{row.number}"])
    wire.messages()
    write(gone)
    messages = wire.messages()
    assert all(message.everything for message in messages) if has_functions else messages
    assert any(message.everything or "zoo.gone" in message.tags for message in messages)
