"""`@invalidates`: names computed from the row before and after a change."""

from collections.abc import Callable, Iterable, Iterator

import pytest
from django.apps import apps
from django.db import connection, models, transaction
from django.db.migrations.state import ProjectState
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from django_integration import invalidate, invalidates, tag

from ..conftest import Wire
from ..zoo.models import Animal, Cage, Exhibit, Food, Note, Photo, Skeleton, Ticket

pytestmark = pytest.mark.usefixtures("db", "functions")


@pytest.fixture
def ticket(db: None) -> Ticket:
    return Ticket.objects.create(day=1)


def test_a_new_row_is_named_after(wire: Wire) -> None:
    ticket = Ticket.objects.create(day=4)
    message = wire.message()
    assert message.keys == {"day:4"}
    assert message.tags == {"zoo.ticket", f"zoo.ticket:{ticket.pk}", "photo:None"}


def test_a_moved_row_is_named_before_and_after(ticket: Ticket, wire: Wire) -> None:
    ticket.day = 2
    ticket.save()
    assert wire.message().keys == {"day:1", "day:2"}


def test_before_is_what_the_database_holds_and_not_what_was_read(ticket: Ticket, wire: Wire) -> None:
    stale = Ticket.objects.get(pk=ticket.pk)
    ticket.day = 2
    ticket.save()
    wire.messages()
    stale.day = 3
    stale.save()
    assert wire.message().keys == {"day:2", "day:3"}


def test_a_row_built_by_hand_is_read_before_too(ticket: Ticket, wire: Wire) -> None:
    Ticket(pk=ticket.pk, day=9).save()
    assert wire.message().keys == {"day:1", "day:9"}


def test_before_is_read_from_the_database_that_is_written(wire: Wire) -> None:
    ticket = Ticket.objects.using("other").create(day=1)
    wire.messages()
    ticket.day = 2
    ticket.save(using="other")
    assert wire.message().keys == {"day:1", "day:2"}


def test_an_expression_is_named_by_its_value(ticket: Ticket, wire: Wire) -> None:
    ticket.day = F("day") + 6
    ticket.save()
    assert wire.message().keys == {"day:1", "day:7"}


def test_it_costs_one_query_and_for_a_new_row_none(ticket: Ticket) -> None:
    with CaptureQueriesContext(connection) as queries:
        ticket.save()
    assert len(queries) == 2, queries.captured_queries
    with CaptureQueriesContext(connection) as queries:
        Ticket.objects.create()
    assert len(queries) == 1, queries.captured_queries


def test_all_names_of_a_transaction_are_one_message(ticket: Ticket, wire: Wire) -> None:
    with transaction.atomic():
        for day in (2, 3):
            ticket.day = day
            ticket.save()
    assert wire.message().keys == {"day:1", "day:2", "day:3"}


def test_a_rolled_back_change_names_nothing_then_or_later(ticket: Ticket, wire: Wire) -> None:
    with transaction.atomic():
        ticket.day = 2
        ticket.save()
        transaction.set_rollback(True)
    assert wire.messages() == []
    ticket.save()
    assert wire.message().keys == {"day:1", "day:2"}


def test_a_parents_function_sees_its_children(wire: Wire) -> None:
    skeleton = Skeleton.objects.create(hall=1, bones=200)
    assert wire.message().keys == {"hall:1", "bones:200"}
    skeleton.hall = 2
    skeleton.save()
    assert wire.message().keys == {"hall:1", "hall:2", "bones:200"}


def test_a_childs_function_sees_a_save_of_the_parent(wire: Wire) -> None:
    skeleton = Skeleton.objects.create(hall=1, bones=200)
    wire.messages()
    Exhibit.objects.get(pk=skeleton.pk).save()
    assert wire.message().keys == {"hall:1", "bones:200"}


def test_a_row_named_by_hand_is_named_in_full(ticket: Ticket, wire: Wire) -> None:
    invalidate(ticket)
    assert wire.message().keys == {"day:1"}


def test_a_function_may_name_rows_models_and_tags(ticket: Ticket, wire: Wire) -> None:
    cage = Cage.objects.create()
    wire.messages()

    @invalidates(Ticket)
    def more(ticket: Ticket) -> Iterable[object]:
        return [cage, Note, tag("prices"), "key"]

    ticket.save()
    message = wire.message()
    assert {f"zoo.cage:{cage.pk}", "zoo.note", "zoo.note:*", "prices"} <= message.tags
    assert "key" in message.keys


def test_linking_asks_the_functions_of_both_sides(wire: Wire) -> None:
    @invalidates(Animal)
    def diet(animal: Animal) -> Iterator[str]:
        yield from (f"eaters-of:{food.pk}" for food in animal.foods.all())

    @invalidates(Food)
    def shelf(food: Food) -> Iterator[str]:
        yield f"shelf:{food.name}"

    animal, hay = Animal.objects.create(), Food.objects.create(name="hay")
    wire.messages()
    animal.foods.add(hay)
    assert wire.message().keys == {f"eaters-of:{hay.pk}", "shelf:hay"}
    animal.foods.remove(hay)
    assert wire.message().keys == {f"eaters-of:{hay.pk}", "shelf:hay"}
    animal.foods.add(hay)
    wire.messages()
    animal.foods.clear()
    assert wire.message().everything, "who was linked is not known"


def test_a_function_registered_later_sees_deletes(wire: Wire) -> None:
    """Its model was deleted unseen (fast) before."""

    @invalidates(Note)
    def text(note: Note) -> Iterator[str]:
        yield f"text:{note.text}"

    Note.objects.create(text="a")
    wire.messages()
    Note.objects.all().delete()
    assert wire.message().keys == {"text:a"}


def test_a_function_that_fails_clears_everything_and_raises_in_the_writer(ticket: Ticket, wire: Wire) -> None:
    """The row is committed: nobody knows what depends on it, so nobody may keep anything."""

    @invalidates(Ticket)
    def broken(ticket: Ticket) -> Iterator[str]:
        if ticket.day == 13:
            raise LookupError("thirteen")
        yield "fine"

    ticket.day = 13
    with pytest.raises(LookupError, match="thirteen"):
        ticket.save()
    assert wire.message().everything


@pytest.mark.parametrize("result", ["a string", None, 7])
def test_a_function_must_return_names(ticket: Ticket, result: object) -> None:
    invalidates(Ticket)(lambda ticket: result)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="must return a list of names"):
        ticket.save()


@pytest.mark.parametrize("model", [Ticket(), "zoo.Ticket", object, None])
def test_only_models_can_have_functions(model: object) -> None:
    with pytest.raises(TypeError, match="takes a model class"):
        invalidates(model)  # type: ignore[arg-type]


def test_an_abstract_model_cannot_have_functions() -> None:
    class Abstract(models.Model):
        class Meta:
            abstract = True
            app_label = "zoo"

    with pytest.raises(TypeError, match="has a table"):
        invalidates(Abstract)


def historical(name: str) -> type[models.Model]:
    """A model as migrations see it."""
    return ProjectState.from_apps(apps).apps.get_model("zoo", name)


WRITES_OF_MIGRATIONS: dict[str, Callable[[type[models.Model], int], object]] = {
    "save": lambda model, pk: model._default_manager.get(pk=pk).save(),
    "delete": lambda model, pk: model._default_manager.get(pk=pk).delete(),
    "fast delete": lambda model, pk: model._default_manager.filter(pk=pk).delete(),
}


@pytest.mark.parametrize("write", WRITES_OF_MIGRATIONS.values(), ids=WRITES_OF_MIGRATIONS.keys())
def test_migrations_clear_what_a_function_would_name(
    ticket: Ticket, wire: Wire, write: Callable[[type[models.Model], int], object]
) -> None:
    """A migration's model has other columns and no methods: it is not shown to the application's function."""
    write(historical("Ticket"), ticket.pk)
    assert wire.message().everything


def test_migrations_publish_the_tags_of_other_models(wire: Wire) -> None:
    note = Note.objects.create()
    wire.messages()
    historical("Note")._default_manager.get(pk=note.pk).save()
    tags = {"zoo.note", f"zoo.note:{note.pk}", "zoo.note:*"}
    assert wire.message().tags == tags, "a migration's model does not know which columns are compared today"


def test_migrations_that_set_null_clear_too(wire: Wire) -> None:
    photo = Photo.objects.create()
    Ticket.objects.create(photo=photo)
    wire.messages()
    historical("Photo")._default_manager.get(pk=photo.pk).delete()
    assert wire.message().everything
