"""Saves and deletes: every row that goes is published, fast deletes stay fast."""

from collections.abc import Callable

import pytest
from django.db import connection, transaction
from django.db.models import ProtectedError
from django.db.models.deletion import Collector
from django.test.utils import CaptureQueriesContext

from django_integration.writes import saves

from ..conftest import Wire
from ..zoo.models import Animal, Aquarium, Building, Cage, Duty, Food, Keeper, Note, Pet, Photo, Ticket

pytestmark = pytest.mark.usefixtures("db")


def test_a_deleted_row_is_known(wire: Wire) -> None:
    note = Note.objects.create()
    tags = {"zoo.note", f"zoo.note:{note.pk}"}
    wire.messages()
    note.delete()
    assert wire.message().tags == tags


def test_a_fast_delete_stays_fast_and_publishes_unknown_rows(wire: Wire) -> None:
    Note.objects.create()
    wire.messages()
    with CaptureQueriesContext(connection) as queries:
        Note.objects.all().delete()
    table = connection.ops.quote_name("zoo_note")
    assert [query["sql"] for query in queries] == ["BEGIN", f"DELETE FROM {table}", "COMMIT"]
    assert wire.message().tags == {"zoo.note", "zoo.note:*"}


def test_deleting_no_row_publishes_nothing(wire: Wire) -> None:
    Note.objects.all().delete()
    assert wire.messages() == []


def test_a_rolled_back_delete_publishes_nothing(wire: Wire) -> None:
    note = Note.objects.create()
    wire.messages()
    with transaction.atomic():
        note.delete()
        transaction.set_rollback(True)
    assert wire.messages() == []


def test_deletes_of_one_transaction_are_one_message(wire: Wire) -> None:
    one, two = Note.objects.create(), Note.objects.create()
    tags = {"zoo.note", f"zoo.note:{one.pk}", f"zoo.note:{two.pk}"}
    wire.messages()
    with transaction.atomic():
        one.delete()
        two.delete()
        assert wire.messages() == []
    assert wire.message().tags == tags


def test_a_cascade_publishes_the_rows_it_knows_and_the_models_of_the_others(wire: Wire) -> None:
    cage = Cage.objects.create()
    animal = Animal.objects.create(cage=cage)
    Note.objects.create(cage=cage)
    tags = {
        *("zoo.cage", f"zoo.cage:{cage.pk}"),
        *("zoo.animal", f"zoo.animal:{animal.pk}"),
        *("zoo.note", "zoo.note:*"),
    }
    assert not Photo.objects.exists(), "its rows are set to NULL by a query that finds none"
    wire.messages()
    cage.delete()
    assert wire.message().tags == tags


def test_deleting_a_linked_row_changes_the_rows_it_was_linked_to(wire: Wire) -> None:
    """Django sends no `m2m_changed` for it."""
    animal, food = Animal.objects.create(), Food.objects.create()
    animal.foods.add(food)
    tags = {"zoo.food", f"zoo.food:{food.pk}", "zoo.animal", "zoo.animal:*", "zoo.animal_foods", "zoo.animal_foods:*"}
    wire.messages()
    food.delete()
    assert tags <= wire.message().tags


def test_deleting_a_row_with_no_links_leaves_the_other_side_alone(wire: Wire) -> None:
    food = Food.objects.create()
    tags = {"zoo.food", f"zoo.food:{food.pk}"}
    wire.messages()
    food.delete()
    assert wire.message().tags == tags


def test_deleting_a_through_row_changes_the_rows_it_linked(wire: Wire) -> None:
    keeper, cage = Keeper.objects.create(), Cage.objects.create()
    duty = Duty.objects.create(keeper=keeper, cage=cage)
    tags = {f"zoo.keeper:{keeper.pk}", f"zoo.cage:{cage.pk}", f"zoo.duty:{duty.pk}"}
    wire.messages()
    duty.delete()
    assert tags <= wire.message().tags


def test_set_null_changes_the_rows_that_stay(wire: Wire) -> None:
    cage = Cage.objects.create()
    photo = Photo.objects.create(cage=cage)
    wire.messages()
    cage.delete()
    assert {"zoo.photo", "zoo.photo:*"} <= wire.message().tags
    photo.refresh_from_db()
    assert photo.cage is None


def test_a_child_takes_its_parent_along_and_a_parent_its_child(wire: Wire) -> None:
    for delete in (lambda row: row.delete(), lambda row: Building.objects.get(pk=row.pk).delete()):
        row = Aquarium.objects.create()
        pk = row.pk
        wire.messages()
        delete(row)
        assert {f"zoo.aquarium:{pk}", f"zoo.building:{pk}"} <= wire.message().tags


def test_a_parent_that_is_kept_has_changed(wire: Wire) -> None:
    row = Aquarium.objects.create()
    pk = row.pk
    wire.messages()
    row.delete(keep_parents=True)
    assert {f"zoo.aquarium:{pk}", f"zoo.building:{pk}"} <= wire.message().tags


def test_a_proxy_deletes_rows_of_the_model(wire: Wire) -> None:
    animal = Animal.objects.create()
    wire.messages()
    Pet.objects.all().delete()
    assert {"zoo.animal", f"zoo.animal:{animal.pk}"} <= wire.message().tags


def test_a_delete_that_fails_publishes_nothing(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    note = Note.objects.create()
    wire.messages()

    def refuse(*_: object, **__: object) -> None:
        raise ProtectedError("no", {note})

    monkeypatch.setattr("django.db.models.sql.DeleteQuery.delete_batch", refuse)
    with pytest.raises(ProtectedError):
        note.delete()
    assert wire.messages() == []


DELETES: dict[str, Callable[[], object]] = {
    "a row": lambda: Cage.objects.get(name="a").delete(),
    "a query": lambda: Cage.objects.filter(name="a").delete(),
    "a fast query": lambda: Note.objects.all().delete(),
    "a fast row": lambda: Note.objects.earliest("pk").delete(),
    "a linked row": lambda: Food.objects.get().delete(),
    "a child": lambda: Aquarium.objects.get().delete(),
}


@pytest.mark.parametrize("delete", DELETES.values(), ids=DELETES.keys())
def test_deletes_take_as_many_queries_as_without_us(
    monkeypatch: pytest.MonkeyPatch, delete: Callable[[], object]
) -> None:
    def count() -> int:
        with transaction.atomic():
            cage = Cage.objects.create(name="a")
            animal = Animal.objects.create(cage=cage)
            animal.foods.add(Food.objects.create())
            Note.objects.create(cage=cage)
            Photo.objects.create(cage=cage)
            Aquarium.objects.create()
            with CaptureQueriesContext(connection) as queries:
                delete()
            transaction.set_rollback(True)
        return len(queries)

    with_us = count()
    monkeypatch.setattr(Collector, "delete", Collector.delete.__wrapped__)  # type: ignore[attr-defined]
    assert with_us == count()


def test_the_wrapper_is_put_on_once() -> None:
    before = Collector.delete
    saves.patches.install()
    assert Collector.delete is before


# -------------------------------------------------------------- models with an @invalidates function


def test_deleted_rows_are_named_by_their_functions(wire: Wire) -> None:
    Ticket.objects.create(day=1)
    Ticket.objects.create(day=2)
    wire.messages()
    Ticket.objects.all().delete()
    assert wire.message().keys == {"day:1", "day:2"}


def test_a_deleted_row_is_named_as_it_is_in_the_database(wire: Wire) -> None:
    """What the application holds was changed and not saved: it names a day that nobody has on a page."""
    ticket = Ticket.objects.create(day=1)
    wire.messages()
    ticket.day = 5
    ticket.delete()
    assert wire.message().keys == {"day:1"}


def test_a_row_set_to_null_is_named_before_and_after(wire: Wire) -> None:
    photo = Photo.objects.create()
    ticket = Ticket.objects.create(day=1, photo=photo)
    tags = {f"photo:{photo.pk}", "photo:None", f"zoo.ticket:{ticket.pk}"}
    wire.messages()
    photo.delete()
    assert tags <= wire.message().tags
    ticket.refresh_from_db()
    assert ticket.photo is None
