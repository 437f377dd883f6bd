"""Which models share a row, and which rows a row links."""

import pytest
from django.apps import apps
from django.db import models
from django.db.migrations.state import ProjectState
from django.db.models import F

from django_integration.names.relations import (
    _IN_DATABASE,
    concrete_of,
    dependents_in_database,
    ends_of,
    family,
    has_expressions,
    have_one_key,
    is_historical,
    is_model,
    tables_of,
)

from ..zoo.models import Animal, Aquarium, Building, Cage, Duty, Keeper, Pet, Seat


def test_a_model_is_a_class_and_no_row() -> None:
    assert is_model(Cage)
    assert is_model(Pet)
    assert not any(map(is_model, (Cage(), "zoo.Cage", object, None)))


def test_a_proxy_is_its_concrete_model() -> None:
    assert concrete_of(Pet) is Animal
    assert tables_of(Pet) == family(Pet) == (Animal,)


def test_an_abstract_model_has_no_rows() -> None:
    class Abstract(models.Model):
        class Meta:
            abstract = True
            app_label = "zoo"

    with pytest.raises(TypeError, match="abstract"):
        concrete_of(Abstract)


def test_the_tables_of_a_row_are_its_own_and_its_parents() -> None:
    assert tables_of(Aquarium) == (Aquarium, Building)
    assert tables_of(Building) == (Building,)


def test_a_family_is_parents_and_children() -> None:
    assert family(Building) == (Building, Aquarium)
    assert family(Aquarium) == (Aquarium, Building)


def test_a_child_has_the_key_of_its_parent() -> None:
    assert have_one_key(Aquarium, Building)
    assert have_one_key(Building, Aquarium)
    assert not have_one_key(Animal, Building)


def test_only_through_tables_link_rows() -> None:
    assert [key.attname for key in ends_of(Animal.foods.through)] == ["animal_id", "food_id"]
    assert [key.related_model for key in ends_of(Duty)] == [Keeper, Cage]
    assert ends_of(Animal) == [], "its foreign key links no rows to each other"
    assert ends_of(Seat) == []


def test_the_model_of_a_migration_is_historical() -> None:
    historical = ProjectState.from_apps(apps).apps.get_model("zoo", "Cage")
    assert is_historical(historical)
    assert not is_historical(Cage)
    assert concrete_of(historical) is not Cage


def test_a_row_may_hold_an_expression_in_the_place_of_a_value() -> None:
    assert has_expressions(Animal(weight=F("weight") + 1))
    assert not has_expressions(Animal(weight=1))


def test_the_kinds_are_known_that_this_django_has() -> None:
    kinds = {name for name in dir(models) if name.startswith("DB_")}
    assert len(_IN_DATABASE) == len(kinds), "another kind: does the database do something by itself for it?"


def test_django_itself_deletes_what_its_own_cascade_takes_along() -> None:
    assert not dependents_in_database(Cage)


if hasattr(models, "DB_CASCADE"):  # Django 6.1

    def test_what_is_set_to_null_takes_nobody_along() -> None:
        herd, calf, bell, sound = (apps.get_model("zoo", name) for name in ("Herd", "Calf", "Bell", "Sound"))
        assert set(dependents_in_database(herd)) == {calf, bell, sound}
        assert set(dependents_in_database(bell)) == {sound}
        assert not dependents_in_database(sound)
