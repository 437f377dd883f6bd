"""Saves and many-to-many changes publish the tags of rows and models."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Lower
from django.db.models.signals import m2m_changed, post_save, pre_save
from django.test.utils import CaptureQueriesContext

from django_integration import bus, cache, invalidates
from django_integration.writes.receivers import connect

from ..conftest import WAIT_S, Wire
from ..zoo.models import Animal, Aquarium, Building, Cage, Chip, Duty, Food, Keeper, Pet, Ticket, Word

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def food(db: None) -> Food:
    return Food.objects.create()


def row(*rows: Cage | Animal | Food | Keeper) -> set[str]:
    return {tag for one in rows for tag in (one._meta.label_lower, f"{one._meta.label_lower}:{one.pk}")}


SAVES: dict[str, Callable[[Cage], object]] = {
    "save": lambda cage: cage.save(),
    "update_fields": lambda cage: cage.save(update_fields=["name"]),
    "update_or_create": lambda cage: Cage.objects.update_or_create(pk=cage.pk, defaults={"name": "x"}),
    "a row that was not read": lambda cage: Cage(pk=cage.pk, name="x").save(),
    "a row with deferred columns": lambda cage: Cage.objects.only("pk").get(pk=cage.pk).save(),
    "the base save of fixtures": lambda cage: cage.save_base(raw=True),
}


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES.keys())
def test_every_save_publishes_the_row_and_its_model(cage: Cage, wire: Wire, save: Callable[[Cage], object]) -> None:
    tags = row(cage)
    save(cage)
    message = wire.message()
    assert message.tags == tags
    assert not message.keys


COLUMNS: dict[str, tuple[Callable[[Cage], object], set[str]]] = {
    "all of them": (lambda cage: cage.save(), {"zoo.cage[id={pk}]", "zoo.cage[name=]"}),
    "update_fields": (lambda cage: cage.save(update_fields=["name"]), {"zoo.cage[name=*]"}),
    "update_or_create": (
        lambda cage: Cage.objects.update_or_create(pk=cage.pk, defaults={"name": "x"}),
        {"zoo.cage[name=*]"},
    ),
}


@pytest.mark.parametrize(("save", "columns"), COLUMNS.values(), ids=COLUMNS.keys())
def test_a_save_publishes_the_columns_it_writes(
    cage: Cage, wire: Wire, save: Callable[[Cage], object], columns: set[str]
) -> None:
    save(cage)
    assert wire.message().columns == {column.format(pk=cage.pk) for column in columns}


def test_a_row_with_deferred_columns_publishes_no_value(animal: Animal, wire: Wire) -> None:
    """What Django does not write may have changed since the row was read."""
    row = Animal.objects.defer("name").get(pk=animal.pk)
    Animal.objects.filter(pk=animal.pk).update(weight=9)
    wire.messages()
    row.save()
    assert wire.message().columns == {"zoo.animal[weight=*]", "zoo.animal[cage_id=*]"}


def test_get_or_create_publishes_what_it_creates(wire: Wire) -> None:
    cage, _ = Cage.objects.get_or_create(name="new")
    assert wire.message().tags == row(cage)
    Cage.objects.get_or_create(name="new")
    assert wire.messages() == []


def test_a_save_sends_no_query_of_ours(cage: Cage) -> None:
    with CaptureQueriesContext(connection) as queries:
        cage.save()
        Cage.objects.create()
    assert len(queries) == 2, queries.captured_queries


@pytest.mark.parametrize("around", [contextlib.nullcontext, transaction.atomic])
def test_a_receiver_of_the_application_reads_what_was_saved(cage: Cage, around: Callable[[], Any]) -> None:
    """Those that a module of models connects are there before ours, and would read the row as it was."""
    names = []

    def name() -> str:
        return str(cache.get_or_set("name", lambda: Cage.objects.get(pk=cage.pk).name))

    def receiver(**_: object) -> None:
        names.append(name())

    assert bus().wait_until_leased(WAIT_S)
    assert name() == ""
    cage.name = "new"
    post_save.connect(receiver, sender=Cage)
    try:
        post_save.receivers.insert(0, post_save.receivers.pop())
        connect()
        with around():
            cage.save()
    finally:
        post_save.disconnect(receiver, sender=Cage)
    assert names == ["new"]


def test_many_saves_in_a_transaction_are_one_message(wire: Wire) -> None:
    with transaction.atomic():
        cages = [Cage.objects.create() for _ in range(3)]
        cages[0].save()
    assert wire.message().tags == row(*cages)


def test_a_failed_save_publishes_nothing(cage: Cage, wire: Wire) -> None:
    with pytest.raises(IntegrityError):
        Cage.objects.create(pk=cage.pk)
    assert wire.messages() == []


def test_a_save_to_another_database_waits_for_its_commit(wire: Wire) -> None:
    with transaction.atomic(using="other"):
        cage = Cage.objects.using("other").create()
        assert wire.messages() == []
    assert wire.message().tags == row(cage)


def test_a_save_through_a_proxy_is_a_save_of_the_model(animal: Animal, wire: Wire) -> None:
    Pet.objects.get(pk=animal.pk).save()
    assert wire.message().tags == row(animal)


def test_a_child_saves_its_parent_too_and_both_are_one_message(wire: Wire) -> None:
    aquarium = Aquarium.objects.create(name="shark")
    expected = {f"zoo.{name}{suffix}" for name in ("building", "aquarium") for suffix in ("", f":{aquarium.pk}")}
    assert wire.message().tags == expected
    Building.objects.get(pk=aquarium.pk).save()
    assert wire.message().tags == expected


def test_a_row_with_a_key_of_its_own_making(wire: Wire) -> None:
    chip = Chip.objects.create()
    assert wire.message().tags == {"zoo.chip", f"zoo.chip:{chip.pk}"}


def test_an_expression_is_saved_like_a_value(animal: Animal, wire: Wire) -> None:
    animal.weight = F("weight") + 1
    animal.save()
    assert wire.message().tags == row(animal)


def test_fixtures_publish_what_they_load(cage: Cage, wire: Wire, tmp_path: Path) -> None:
    fixture = tmp_path / "zoo.json"
    fixture.write_text(serializers.serialize("json", [cage]))
    call_command("loaddata", str(fixture), verbosity=0)
    assert wire.message().tags == row(cage)


def test_fixtures_of_a_model_with_functions_clear_everything(wire: Wire, tmp_path: Path) -> None:
    """While a fixture is loaded, what a row points at may not be there yet, so no function is asked."""
    fixture = tmp_path / "zoo.json"
    fixture.write_text(serializers.serialize("json", [Ticket(pk=1, day=1, photo_id=5)]))
    Ticket.objects.all().delete()
    wire.messages()
    with connection.constraint_checks_disabled(), pytest.raises(IntegrityError):
        call_command("loaddata", str(fixture), verbosity=0)
    assert wire.messages() == []
    fixture.write_text(serializers.serialize("json", [Ticket(pk=1, day=1)]))
    call_command("loaddata", str(fixture), verbosity=0)
    assert wire.message().everything


# ------------------------------------------------------------------------------------------- many-to-many

THROUGH = {"zoo.animal_foods", "zoo.animal_foods:*"}


def test_links_change_both_sides_and_the_table_between(animal: Animal, food: Food, wire: Wire) -> None:
    animal.foods.add(food)
    assert wire.message().tags == row(animal, food) | THROUGH
    animal.foods.add(food)
    assert wire.messages() == [], "it was there already"
    animal.foods.remove(food)
    assert row(animal, food) | THROUGH <= wire.message().tags


def test_links_from_the_other_side_are_the_same(animal: Animal, food: Food, wire: Wire) -> None:
    food.animal_set.add(animal)
    assert wire.message().tags == row(animal, food) | THROUGH
    food.animal_set.set([])
    assert row(animal, food) | THROUGH <= wire.message().tags


def test_clearing_links_changes_rows_nobody_has_read(animal: Animal, food: Food, wire: Wire) -> None:
    animal.foods.add(food)
    wire.messages()
    animal.foods.clear()
    assert row(animal) | THROUGH | {"zoo.food", "zoo.food:*"} <= wire.message().tags


def test_setting_links_is_one_message(animal: Animal, food: Food, wire: Wire) -> None:
    other = Food.objects.create()
    animal.foods.add(other)
    wire.messages()
    animal.foods.set([food])
    assert row(animal, food, other) | THROUGH <= wire.message().tags


def test_links_of_a_rolled_back_transaction_are_not_published(animal: Animal, food: Food, wire: Wire) -> None:
    with transaction.atomic():
        animal.foods.add(food)
        transaction.set_rollback(True)
    assert wire.messages() == []


def test_a_through_model_changes_the_rows_it_links(cage: Cage, wire: Wire) -> None:
    keeper = Keeper.objects.create()
    wire.messages()
    duty = Duty.objects.create(keeper=keeper, cage=cage)
    assert wire.message().tags == row(keeper, cage) | {"zoo.duty", f"zoo.duty:{duty.pk}"}
    other = Cage.objects.create()
    wire.messages()
    keeper.cages.add(other, through_defaults={"day": 3})
    assert row(keeper, other) <= wire.message().tags


def test_a_primary_key_may_be_saved_as_an_expression(wire: Wire) -> None:
    """Its value is known if the statement returns it, as on some databases from Django 6.0 on."""
    Word(text=Lower(Value("APE"))).save(force_insert=True)
    tags = wire.message().tags
    assert "zoo.word" in tags
    assert not tags.isdisjoint({"zoo.word:*", "zoo.word:ape"})
    assert Word.objects.get().pk == "ape"


def test_a_link_may_be_saved_as_an_expression(wire: Wire) -> None:
    """As above."""
    keepers, cages = [Keeper.objects.create(pk=pk) for pk in (1, 2)], [Cage.objects.create(pk=pk) for pk in (1, 2)]
    duty = Duty.objects.create(keeper=keepers[0], cage=cages[1])
    wire.messages()
    duty.keeper_id = F("cage_id")
    duty.save()
    tags = wire.message().tags
    assert "zoo.keeper" in tags
    assert not tags.isdisjoint({"zoo.keeper:*", "zoo.keeper:2"})
    duty.refresh_from_db()
    assert duty.keeper == keepers[1]


# ------------------------------------------------------------------------------------------------ signals by hand


BY_HAND: dict[str, tuple[Callable[[Cage], object], bool]] = {
    "with all that Django gives": (
        lambda cage: post_save.send(sender=Cage, instance=cage, created=False, raw=False, using="default"),
        True,
    ),
    "with a row": (lambda cage: post_save.send(sender=Cage, instance=cage), True),
    "with a row that was never saved": (lambda cage: post_save.send(sender=Cage, instance=Cage()), False),
    "without a row": (lambda cage: post_save.send(sender=Cage), False),
}


@pytest.mark.parametrize(("send", "is_known"), BY_HAND.values(), ids=BY_HAND.keys())
def test_a_signal_that_the_application_sends_is_a_change_of_the_row(
    send: Callable[[Cage], object], is_known: bool, cage: Cage, wire: Wire
) -> None:
    """After an `update()`, say, so that other receivers see it. Which columns have changed is not known."""
    send(cage)
    message = wire.message()
    assert message.tags == (row(cage) if is_known else {"zoo.cage", "zoo.cage:*"})
    assert message.columns == ({"zoo.cage[id=*]", "zoo.cage[name=*]"} if is_known else set())


def test_a_signal_that_is_not_of_a_row_is_not_ours(wire: Wire) -> None:
    """Packages send Django's signals for classes of their own."""
    for signal in (pre_save, post_save):
        signal.send(sender=object, instance=object())
        signal.send(sender=object)
    pre_save.send(sender=Cage)
    assert not wire.messages()


@pytest.mark.usefixtures("functions")
def test_links_that_the_application_reports_need_no_more_than_what_they_are(
    animal: Animal, food: Food, wire: Wire
) -> None:
    invalidates(Food)(lambda food: [f"food:{food.pk}"])
    for rest in ({"pk_set": {food.pk}}, {}):
        m2m_changed.send(sender=Animal.foods.through, instance=animal, action="post_add", model=Food, **rest)
    known, unknown = wire.messages()
    assert known.keys == {f"food:{food.pk}"}
    assert unknown.everything
