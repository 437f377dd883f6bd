"""
A write plan: what a written row makes stale, for every kind of model.

The tables spell names out; at the end a second reading of the rules, written as plainly as possible, is compared with
the plan for rows of many kinds, with columns that are not in memory and values that only the database knows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.apps.registry import Apps
from django.conf import settings
from django.db import connection, models
from django.db.migrations.state import ProjectState
from django.db.models import F
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_integration import invalidates, row_tags
from django_integration.names import Names, add_target, plan_of, plan_of_row
from django_integration.names.columns import is_comparable
from invalidator import InvalidName, tag

from ..conftest import apart
from ..zoo.models import (
    Animal,
    Aquarium,
    Building,
    Cage,
    Chip,
    Duty,
    Exhibit,
    Food,
    Keeper,
    Note,
    Pet,
    Seat,
    Skeleton,
    Specimen,
    Ticket,
    Word,
)

FOODS = Animal.foods.through


def tags_of(*targets: object) -> frozenset[str]:
    """Of rows and tables."""
    return apart(names_of(*targets).tags)[0]


def columns_of(*targets: object) -> frozenset[str]:
    return apart(names_of(*targets).tags)[1]


def names_of(*targets: object) -> Names:
    names = Names()
    for target in targets:
        add_target(names, target)  # type: ignore[arg-type]
    return names


def add_written(names: Names, row: models.Model) -> None:
    plan_of_row(row).add_written(names, row)


def test_a_proxy_is_its_concrete_model() -> None:
    assert row_tags(Pet, 1) == row_tags(Animal, 1)
    assert tags_of(Pet(pk=1)) == tags_of(Animal(pk=1)) == {"zoo.animal", "zoo.animal:1"}


def test_a_child_is_a_row_of_its_parent_too() -> None:
    assert tags_of(Aquarium(building_ptr_id=3, id=3)) == {
        "zoo.aquarium",
        "zoo.aquarium:3",
        "zoo.building",
        "zoo.building:3",
    }


def test_a_parent_is_a_row_of_its_child_too() -> None:
    """Whoever caches an aquarium caches its building's name."""
    assert tags_of(Building(pk=3)) == {"zoo.aquarium", "zoo.aquarium:3", "zoo.building", "zoo.building:3"}


def test_a_class_stands_for_rows_nobody_knows() -> None:
    assert tags_of(Cage) == {"zoo.cage", "zoo.cage:*"}
    assert tags_of(Building) == tags_of(Aquarium)


def test_a_through_row_changes_the_rows_it_links() -> None:
    assert tags_of(Duty(pk=1, keeper_id=2, cage_id=3)) == {
        *("zoo.duty", "zoo.duty:1"),
        *("zoo.keeper", "zoo.keeper:2"),
        *("zoo.cage", "zoo.cage:3"),
    }
    assert {"zoo.keeper:*", "zoo.cage:*", "zoo.duty:*"} <= tags_of(Duty)


def test_a_row_named_by_hand_may_have_changed_in_any_column() -> None:
    """What is in memory may be older than what changed the row."""
    assert columns_of(Cage(pk=7, name="old")) == {"zoo.cage[id=*]", "zoo.cage[name=*]"}
    assert columns_of(Cage) == frozenset(), "unknown rows are in every entry's tags"


def test_a_child_that_was_written_has_its_values_in_each_of_its_tables() -> None:
    names = Names()
    add_written(names, Aquarium(building_ptr_id=3, id=3, name="shark", litres=5))
    assert apart(names.tags)[1] == {
        *("zoo.building[id=3]", "zoo.building[name=shark]"),
        *("zoo.aquarium[building_ptr_id=3]", "zoo.aquarium[litres=5]"),
    }


def test_a_linked_row_has_changed_in_no_column() -> None:
    names = Names()
    add_written(names, Duty(pk=1, keeper_id=2, cage_id=3))
    assert {tag.partition("[")[0] for tag in apart(names.tags)[1]} == {"zoo.duty"}


def test_no_tag_costs_a_query(no_queries: None) -> None:
    """A column that was not loaded is not known, rather than fetched."""
    row = Duty.from_db("default", ["id"], [1])
    assert "cage_id" in row.get_deferred_fields()
    assert tags_of(row) == {"zoo.duty", "zoo.duty:1", "zoo.keeper", "zoo.keeper:*", "zoo.cage", "zoo.cage:*"}
    names = Names()
    add_written(names, row)
    assert "zoo.duty[cage_id=*]" in names.tags


# ------------------------------------------------------------------------------------- the rules, as a table


def historical(name: str) -> type[models.Model]:
    """A model as migrations see it."""
    return ProjectState.from_apps(apps).apps.get_model("zoo", name)


def linked(row: models.Model) -> set[str]:
    """The tags of a row whose key may be any text."""
    return {*row_tags(row)} if connection.vendor == "mysql" else {row_tags(row)[0]}


CHIP = Chip()
WRITTEN: dict[str, tuple[Callable[[], models.Model], list[str] | None, set[str]]] = {
    "a row that was written whole": (
        lambda: Cage(pk=1, name="a"),
        None,
        {"zoo.cage", "zoo.cage:1", "zoo.cage[id=1]", "zoo.cage[name=a]"},
    ),
    "some of its columns": (
        lambda: Cage(pk=1, name="a"),
        ["name"],
        {"zoo.cage", "zoo.cage:1", "zoo.cage[name=*]"},
    ),
    "none of its columns": (lambda: Cage(pk=1, name="a"), [], {"zoo.cage", "zoo.cage:1"}),
    "a value that only the database knows": (
        lambda: Cage(pk=1, name=F("name")),
        None,
        {"zoo.cage", "zoo.cage:1", "zoo.cage[id=1]", "zoo.cage[name=*]"},
    ),
    "a foreign key is no link": (
        lambda: Animal(pk=1, name="a", weight=5, cage_id=7),
        None,
        {
            *("zoo.animal", "zoo.animal:1"),
            *("zoo.animal[id=1]", "zoo.animal[name=a]", "zoo.animal[weight=5]", "zoo.animal[cage_id=7]"),
        },
    ),
    "a foreign key by its name": (
        lambda: Animal(pk=1, cage_id=7),
        ["cage"],
        {"zoo.animal", "zoo.animal:1", "zoo.animal[cage_id=*]"},
    ),
    "a proxy": (
        lambda: Pet(pk=1, name="a", weight=5),
        ["weight"],
        {"zoo.animal", "zoo.animal:1", "zoo.animal[weight=*]"},
    ),
    "a child": (
        lambda: Aquarium(building_ptr_id=3, id=3, name="shark", litres=5),
        None,
        {
            *("zoo.building", "zoo.building:3", "zoo.building[id=3]", "zoo.building[name=shark]"),
            *("zoo.aquarium", "zoo.aquarium:3", "zoo.aquarium[building_ptr_id=3]", "zoo.aquarium[litres=5]"),
        },
    ),
    "a column of a parent": (
        lambda: Aquarium(building_ptr_id=3, id=3, name="shark", litres=5),
        ["name"],
        {*("zoo.building", "zoo.building:3", "zoo.building[name=*]"), *("zoo.aquarium", "zoo.aquarium:3")},
    ),
    "a parent, which is in its child": (
        lambda: Building(pk=3, name="shark"),
        None,
        {
            *("zoo.building", "zoo.building:3", "zoo.building[id=3]", "zoo.building[name=shark]"),
            *("zoo.aquarium", "zoo.aquarium:3"),
        },
    ),
    "a table between two models": (
        lambda: FOODS(pk=1, animal_id=2, food_id=3),
        None,
        {
            *("zoo.animal_foods", "zoo.animal_foods:1", "zoo.animal_foods[id=1]"),
            *("zoo.animal_foods[animal_id=2]", "zoo.animal_foods[food_id=3]"),
            *("zoo.animal", "zoo.animal:2", "zoo.food", "zoo.food:3"),
        },
    ),
    "a model between two models": (
        lambda: Duty(pk=1, keeper_id=2, cage_id=3, day=4),
        ["day"],
        {
            *("zoo.duty", "zoo.duty:1", "zoo.duty[day=*]"),
            *("zoo.keeper", "zoo.keeper:2", "zoo.cage", "zoo.cage:3"),
        },
    ),
    "a link to a row that only the database knows": (
        lambda: Duty(pk=1, keeper_id=F("cage_id"), cage_id=3),
        ["keeper"],
        {
            *("zoo.duty", "zoo.duty:1", "zoo.duty[keeper_id=*]"),
            *("zoo.keeper", "zoo.keeper:*", "zoo.cage", "zoo.cage:3"),
        },
    ),
    "a key of two columns": (
        lambda: Seat(row=1, number=2),
        None,
        {"zoo.seat", "zoo.seat:1,2", "zoo.seat[row=1]", "zoo.seat[number=2]"},
    ),
    "a key of two columns, half known": (
        lambda: Seat(row=1, number=None),
        ["row"],
        {"zoo.seat", "zoo.seat:*", "zoo.seat[row=*]"},
    ),
    "a key that is spelled": (
        lambda: Chip(pk=str(CHIP.pk)),
        None,
        {"zoo.chip", f"zoo.chip:{CHIP.pk}", f"zoo.chip[id={CHIP.pk}]"},
    ),
    "a key of any text": (
        lambda: Word(text="ape", day=1),
        ["day"],
        {"zoo.word", *linked(Word(text="ape")), "zoo.word[day=*]"},
    ),
    "a generated column": (
        lambda: Specimen(pk=1),
        ["number"],
        {"zoo.specimen", "zoo.specimen:1", "zoo.specimen[number=*]", "zoo.specimen[double=*]"},
    ),
    "a migration's model, which knows other columns than we compare": (
        lambda: historical("Cage")(pk=1, name="a"),
        ["name"],
        {"zoo.cage", "zoo.cage:1", "zoo.cage:*"},
    ),
}


@pytest.mark.parametrize(("row", "columns", "expected"), WRITTEN.values(), ids=WRITTEN.keys())
def test_what_a_written_row_makes_stale(
    row: Callable[[], models.Model], columns: list[str] | None, expected: set[str]
) -> None:
    names = Names()
    plan_of_row(row()).add_written(names, row(), columns)
    assert set(names.tags) == expected
    assert not names.keys
    assert not names.everything


def test_only_the_models_own_table_may_have_been_written() -> None:
    """A fixture's child: Django saves its parents as rows of their own."""
    names = Names()
    plan_of(Aquarium, None).add_written(names, Aquarium(building_ptr_id=3, id=3, name="a", litres=5), own_table=True)
    assert apart(names.tags)[1] == {"zoo.aquarium[building_ptr_id=3]", "zoo.aquarium[litres=5]"}
    assert "zoo.building:3" in names.tags, "its row is still theirs"


ROWS: dict[str, tuple[type[models.Model], list[object] | None, dict[str, list[object]] | None, set[str]]] = {
    "known": (Cage, [1, 2], None, {"zoo.cage", "zoo.cage:1", "zoo.cage:2"}),
    "none": (Cage, [], None, set()),
    "not known": (Cage, None, None, {"zoo.cage", "zoo.cage:*"}),
    "of a child": (
        Aquarium,
        [3],
        None,
        {"zoo.aquarium", "zoo.aquarium:3", "zoo.building", "zoo.building:3"},
    ),
    "links of which the ends are known": (
        Duty,
        [1],
        {"keeper_id": [2, 4], "cage_id": [3]},
        {
            *("zoo.duty", "zoo.duty:1", "zoo.keeper", "zoo.keeper:2", "zoo.keeper:4"),
            *("zoo.cage", "zoo.cage:3"),
        },
    ),
    "links of which one end is known": (
        Duty,
        None,
        {"keeper_id": [2]},
        {"zoo.duty", "zoo.duty:*", "zoo.keeper", "zoo.keeper:2", "zoo.cage", "zoo.cage:*"},
    ),
}


@pytest.mark.parametrize(("model", "pks", "ends", "expected"), ROWS.values(), ids=ROWS.keys())
def test_what_rows_known_by_their_keys_make_stale(
    model: type[models.Model],
    pks: list[object] | None,
    ends: dict[str, list[object]] | None,
    expected: set[str],
) -> None:
    names = Names()
    plan_of(model, None).add_rows(names, pks, ends)
    assert set(names.tags) == expected


def test_a_link_by_another_column_than_the_primary_key_leads_to_rows_nobody_knows() -> None:
    class Badge(models.Model):
        keeper = models.ForeignKey(Keeper, models.CASCADE, to_field="badge", related_name="+")

        class Meta:
            apps = Apps()
            app_label = "zoo"
            auto_created = Keeper

        def __str__(self) -> str:
            return "badge"

    names = Names()
    plan_of(Badge, None).add_row(names, Badge(pk=1, keeper_id=7))
    assert set(names.tags) == {"zoo.badge", "zoo.badge:1", "zoo.keeper", "zoo.keeper:*"}


# --------------------------------------------------------------------------------------- what an application names


@pytest.mark.parametrize("target", [7, None, b"bytes", ["list"], object])
def test_what_is_no_name_is_refused(target: object) -> None:
    with pytest.raises(TypeError, match="can be invalidated"):
        names_of(target)


def test_a_row_that_was_never_saved_has_no_names() -> None:
    with pytest.raises(InvalidName, match="no primary key yet"):
        names_of(Cage())


def test_keys_and_tags_are_their_own_names() -> None:
    assert names_of("key", tag("prices")) == Names(keys={"key": None}, tags={"prices": None})


# --------------------------------------------------------------------------------------------------- functions


def functions_of(row: models.Model) -> set[str]:
    names = Names()
    plan_of_row(row).add_functions(names, row)
    return {*names.keys, *names.tags}


def test_functions_name_a_row_of_their_model_and_of_its_children() -> None:
    assert functions_of(Ticket(day=1, photo_id=2)) == {"day:1", "photo:2"}
    assert functions_of(Skeleton(hall=1, bones=9)) == {"hall:1", "bones:9"}
    assert functions_of(Exhibit(hall=1)) == {"hall:1"}
    assert functions_of(Cage(pk=1)) == set()


@pytest.mark.usefixtures("db")
def test_functions_of_a_child_name_the_row_that_the_parent_is() -> None:
    skeleton = Skeleton.objects.create(hall=1, bones=9)
    names, of_children = Names(), Names()
    plan_of(Exhibit, None).add_functions_in_database(names, [skeleton.pk])
    plan_of(Exhibit, None).add_functions_in_database(of_children, [skeleton.pk], only_children=True)
    assert set(names.keys) == {"hall:1", "bones:9"}
    assert "bones:9" in of_children.keys


def test_a_plan_knows_whether_functions_want_its_rows() -> None:
    assert [plan_of(model, None).has_functions for model in (Ticket, Exhibit, Skeleton, Cage)] == [True] * 3 + [False]
    assert plan_of(historical("Ticket"), None).has_functions, "by name: its rows cannot be shown, so all is cleared"


@pytest.mark.usefixtures("db", "functions")
def test_a_function_that_is_registered_later_is_in_the_plan() -> None:
    assert not plan_of(Food, None).has_functions
    assert not plan_of(FOODS, None).links_wanted()

    @invalidates(Food)
    def shelf(food: Food) -> Iterator[str]:
        yield f"shelf:{food.name}"

    assert plan_of(Food, None).has_functions
    assert plan_of(FOODS, None).links_wanted()
    assert functions_of(Food(name="hay")) == {"shelf:hay"}


# ---------------------------------------------------------------------------------------------------- one plan


def test_a_plan_is_made_once_for_each_model_and_database() -> None:
    assert plan_of(Cage, None) is plan_of(Cage, "default") is plan_of_row(Cage())
    assert plan_of(Cage, "other") is not plan_of(Cage, None)
    assert plan_of(Cage, "other") is plan_of(Cage, "other")
    assert plan_of(Pet, None).model is Animal


def test_a_plan_follows_the_setting() -> None:
    before = plan_of(Cage, None)
    assert before.is_watched
    with override_settings(INVALIDATOR={**settings.INVALIDATOR, "MODELS": {"exclude": ["zoo.cage"]}}):
        assert not plan_of(Cage, None).is_watched
    assert plan_of(Cage, None).is_watched


# ----------------------------------------------------------------------------- the rules, read a second time


KINDS = (Animal, Aquarium, Building, Cage, Duty, FOODS, Keeper, Note, Pet, Seat)
ENDS: dict[type[models.Model], dict[str, type[models.Model]]] = {
    Duty: {"keeper_id": Keeper, "cage_id": Cage},
    FOODS: {"animal_id": Animal, "food_id": Food},
}
NOT_IN_MEMORY = object()


def key_text(key: object) -> str:
    parts = key if isinstance(key, tuple) else (key,)
    return "*" if None in parts or any(isinstance(part, F) for part in parts) else ",".join(map(str, parts))


def value_text(value: object) -> str:
    return "*" if value is NOT_IN_MEMORY or isinstance(value, F) else str(value)


def by_the_rules(row: models.Model, columns: Collection[str] | None) -> set[str]:
    """The names of a written row, by the rules of `names/plan.py`, without caches or shared steps."""
    model = row._meta.concrete_model
    assert model is not None
    sharing = [
        other
        for other in apps.get_models(include_auto_created=True)
        if not other._meta.proxy and (issubclass(other, model) or issubclass(model, other))
    ]
    changed: list[tuple[type[models.Model], object]] = [(other, row.pk) for other in sharing]
    changed += [(end, row.__dict__.get(attname)) for attname, end in ENDS.get(model, {}).items()]
    names = set()
    for other, key in changed:
        names |= {other._meta.label_lower, f"{other._meta.label_lower}:{key_text(key)}"}
    for field in model._meta.concrete_fields:
        column = f"{field.model._meta.label_lower}[{field.attname}="
        if columns is None and is_comparable(field):
            names.add(f"{column}{value_text(row.__dict__.get(field.attname, NOT_IN_MEMORY))}]")
        elif columns is not None and {field.name, field.attname} & set(columns):
            names.add(f"{column}*]")
    return names


@st.composite
def written_rows(draw: st.DrawFn) -> tuple[models.Model, list[str] | None]:
    model: type[models.Model] = draw(st.sampled_from(KINDS))
    key = draw(st.none() | st.integers(1, 9))
    row = model()
    fields: list[Any] = list(model._meta.concrete_fields)
    for field in fields:
        is_key = field.primary_key or field.name in ("id", "row", "number")
        kind = st.text("ab", max_size=3) if isinstance(field, models.CharField) else st.integers(0, 9)
        value = key if is_key else draw(kind | st.none() | st.just(F("other")) | st.just(NOT_IN_MEMORY))
        if value is NOT_IN_MEMORY:
            del row.__dict__[field.attname]
        else:
            row.__dict__[field.attname] = value
    attributes = [attribute for field in fields for attribute in {field.name, field.attname}]
    return row, draw(st.none() | st.lists(st.sampled_from(attributes), unique=True))


@given(written_rows())
def test_the_plan_of_every_kind_of_row_follows_the_rules(written: tuple[models.Model, list[str] | None]) -> None:
    row, columns = written
    names = Names()
    plan_of_row(row).add_written(names, row, columns)
    assert set(names.tags) == by_the_rules(row, columns)
