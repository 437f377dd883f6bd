"""The tables that a query joins: as wholes, but for rows that only its SELECT list uses."""

import pytest
from django.db.models import F

from tests.unit.django_integration.zoo.models import Animal, Aquarium, Cage, Duty, Keeper

from .conftest import tags_of

pytestmark = pytest.mark.usefixtures("db")


def test_other_tables_count_as_wholes(cage: Cage) -> None:
    read = tags_of(lambda: Cage.objects.filter(pk=cage.pk, note__text="x").count())
    assert read == {f"zoo.cage:{cage.pk}", "zoo.cage:*", "zoo.note"}


def test_a_parents_table_is_the_same_row() -> None:
    tank = Aquarium.objects.create(name="tank")
    assert tags_of(lambda: Aquarium.objects.get(pk=tank.pk)) == {f"zoo.aquarium:{tank.pk}", "zoo.aquarium:*"}


def test_a_value_in_a_parents_table_is_the_tables() -> None:
    assert tags_of(lambda: list(Aquarium.objects.filter(name="x"))) == {"zoo.aquarium", "zoo.building"}


def test_a_join_that_begins_at_a_parents_table_uses_the_parent() -> None:
    tags = tags_of(lambda: list(Aquarium.objects.filter(litres=1, name="x")))
    assert {"zoo.building", "zoo.aquarium[litres=1]"} <= tags
    assert "zoo.aquarium" not in tags


def test_select_related_is_the_rows(ape: Animal) -> None:
    tags = tags_of(lambda: list(Animal.objects.select_related("cage")))
    assert tags == {"zoo.animal", "zoo.cage:*", f"zoo.cage:{ape.cage_id}"}


def test_also_two_steps_away(ape: Animal) -> None:
    duty = Duty.objects.create(keeper=Keeper.objects.create(), cage=ape.cage)
    tags = tags_of(lambda: Duty.objects.select_related("cage", "keeper").get(pk=duty.pk))
    assert {f"zoo.cage:{ape.cage_id}", f"zoo.keeper:{duty.keeper_id}", f"zoo.duty:{duty.pk}"} <= tags
    assert tags.isdisjoint({"zoo.cage", "zoo.keeper", "zoo.duty"})


def test_a_target_that_anything_else_uses_is_a_table(ape: Animal) -> None:
    rows = Animal.objects.select_related("cage")
    for looking in (rows.filter(cage__name="big"), rows.order_by("cage__name"), rows.annotate(n=F("cage__name"))):
        assert "zoo.cage" in tags_of(lambda looking=looking: list(looking))


def test_a_target_that_a_used_join_begins_at_is_a_table(ape: Animal) -> None:
    """Another cage may come to have that note."""
    assert "zoo.cage" in tags_of(lambda: list(Animal.objects.select_related("cage").filter(cage__note__text="x")))


def test_a_many_to_many_relation_is_its_table_and_the_other_side(ape: Animal) -> None:
    assert tags_of(lambda: list(ape.foods.all())) == {"zoo.animal_foods", "zoo.food"}


def test_prefetched_targets_are_rows(ape: Animal) -> None:
    tags = tags_of(lambda: list(Animal.objects.filter(weight=7).prefetch_related("cage")))
    assert f"zoo.cage:{ape.cage_id}" in tags
    assert "zoo.cage" not in tags


def test_prefetched_sources_are_found_by_value(ape: Animal) -> None:
    tags = tags_of(lambda: list(Cage.objects.filter(pk=ape.cage_id).prefetch_related("animal_set")))
    assert {f"zoo.animal[cage_id={ape.cage_id}]", f"zoo.animal:{ape.pk}"} <= tags
    assert "zoo.animal" not in tags


def test_a_join_that_was_not_needed_is_not_read(cage: Cage) -> None:
    assert "zoo.cage" not in tags_of(lambda: list(Animal.objects.filter(cage__pk=cage.pk)))
