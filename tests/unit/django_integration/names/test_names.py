"""What a change is called; and what an entry that depends on it carries."""

import enum
import uuid
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import connection, connections, models
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

from django_integration import invalidate, model_tag, row_tag, row_tags, writes_to
from django_integration.names import Names, add_target, is_watched, plan_of_row, tags
from django_integration.names.plan import forget_plans, plan_of
from invalidator import InvalidName, tag

from ..conftest import Wire, apart
from ..zoo.models import Animal, Aquarium, Building, Cage, Chip, Duty, Food, Keeper, Pet, Seat, Word

pytestmark = pytest.mark.usefixtures("db")


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


def test_tags_are_the_lower_case_label_and_the_primary_key() -> None:
    assert model_tag(Cage) == "zoo.cage"
    assert row_tag(Cage, 42) == row_tag(Cage(pk=42)) == "zoo.cage:42"
    assert row_tags(Cage, 42) == row_tags(Cage(pk=42)) == ("zoo.cage:42", "zoo.cage:*")


@pytest.mark.parametrize("pk", [42, "42", Decimal(42)])
def test_a_primary_key_has_one_spelling(pk: object) -> None:
    """A view passes the string of its URL; the row that changes holds the number."""
    assert row_tag(Cage, pk) == "zoo.cage:42"


def test_a_uuid_has_one_spelling() -> None:
    key = uuid.uuid4()
    assert row_tag(Chip, str(key)) == row_tag(Chip, key.hex) == row_tag(Chip(pk=key)) == f"zoo.chip:{key}"


def test_a_member_of_an_enum_is_spelled_as_it_is_stored() -> None:
    """Python writes `Kind.VERB` for it, and who reads the row finds "verb"."""

    class Kind(str, enum.Enum):  # noqa: UP042 - this one, and not StrEnum, is the trap
        VERB = "verb"

    assert row_tag(Word(text=Kind.VERB)) == row_tag(Word, "verb") == "zoo.word:verb"


def test_a_composite_key_is_all_its_columns() -> None:
    assert row_tag(Seat, (1, 2)) == row_tag(Seat(row=1, number=2)) == "zoo.seat:1,2"


def test_a_key_too_long_for_a_tag_is_hashed_and_saved_all_the_same(wire: Wire) -> None:
    long = "é" * 600
    name = row_tag(Word, long)
    assert name.startswith("zoo.word:~")
    assert len(name) < 100
    assert name != row_tag(Word, long + "é")
    Word.objects.create(text=long)
    assert name in wire.message().tags


@pytest.mark.parametrize("other", ["a", "A ", "á"])
def test_where_two_texts_may_be_one_key_a_row_is_not_the_only_one_meant(wire: Wire, other: str) -> None:
    """MariaDB finds "A" for "a": who holds the one must hear of a write of the other."""
    Word.objects.create(text="A")
    held = row_tags(Word, "A")
    wire.messages()
    changed = Word.objects.filter(pk=other).update(day=1)
    assert changed == (connection.vendor == "mysql")
    if changed:
        assert wire.message().tags & set(held)
    Word(text=other, day=2).save()
    assert Word.objects.filter(pk="A").count() == 1
    assert bool(wire.message().tags & set(held)) == (connection.vendor == "mysql")


@pytest.mark.parametrize(
    ("collation", "vendor", "exact"),
    [
        (None, "sqlite", True),
        (None, "postgresql", True),
        (None, "mysql", False),
        (None, "microsoft", False),
        ("nocase", "sqlite", False),
        ("BINARY", "sqlite", True),
        ("und-x-icu", "postgresql", False),
        ("C", "postgresql", True),
        ("utf8mb4_bin", "mysql", False),  # "a" is "a "
        ("utf8mb4_nopad_bin", "mysql", True),
        ("utf8mb4_0900_bin", "mysql", True),
    ],
)
def test_a_collation_that_is_known_to_be_exact_names_no_unknown_rows(
    collation: str | None, vendor: str, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Word._meta.get_field("text"), "db_collation", collation)
    monkeypatch.setattr(connections["other"], "vendor", vendor)
    monkeypatch.setattr(connection, "vendor", "sqlite")
    for cached in (tags._collations_of_key, tags._all_texts_are_exact):
        cached.cache_clear()
    try:
        forget_plans()
        written = Names()
        plan_of(Word, None).add_rows(written, ["a"])
        assert set(written.tags) == {"zoo.word", "zoo.word:a"} | (set() if exact else {"zoo.word:*"})
    finally:
        monkeypatch.undo()
        for cached in (tags._collations_of_key, tags._all_texts_are_exact):
            cached.cache_clear()
        forget_plans()


def test_a_row_without_a_key_has_no_tag() -> None:
    with pytest.raises(InvalidName, match="no primary key yet"):
        row_tag(Cage())


def test_an_abstract_model_has_no_tag() -> None:
    class Abstract(models.Model):
        class Meta:
            abstract = True
            app_label = "zoo"

    with pytest.raises(TypeError, match="abstract"):
        model_tag(Abstract)


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


def test_rows_too_many_become_unknown_rows_and_the_rest_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_integration.names.names.MAX_NAMES", 20)
    names = Names()
    names.add_name("key")
    names.add_name(tag("shop.product:1"))  # is no model's
    for pk in range(100):
        add_written(names, Cage(pk=pk, name="a"))
        assert len(names) <= 20
    assert not names.everything
    assert "zoo.cage:*" in names.tags
    assert "shop.product:1" in names.tags
    assert "key" in names.keys


def test_names_too_many_become_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_integration.names.names.MAX_NAMES", 20)
    names = Names()
    for number in range(21):
        names.add_name(tag(f"zoo.cages:{number}"))
    assert names.everything
    assert len(names) == 0


def test_no_tag_costs_a_query(no_queries: None) -> None:
    """A column that was not loaded is not known, rather than fetched."""
    row = Duty.from_db("default", ["id"], [1])
    assert "cage_id" in row.get_deferred_fields()
    assert tags_of(row) == {"zoo.duty", "zoo.duty:1", "zoo.keeper", "zoo.keeper:*", "zoo.cage", "zoo.cage:*"}
    names = Names()
    add_written(names, row)
    assert "zoo.duty[cage_id=*]" in names.tags


def test_rows_tables_tags_and_keys_can_be_invalidated_together(wire: Wire) -> None:
    cage = Cage(pk=7)
    invalidate("key", cage, Keeper, tag("prices"))
    message = wire.message()
    assert message.keys == {"key"}
    assert message.tags == {"zoo.cage", "zoo.cage:7", "zoo.keeper", "zoo.keeper:*", "prices"}


def test_sessions_and_migrations_are_not_watched() -> None:
    assert not is_watched(MigrationRecorder.Migration)
    assert is_watched(Cage)
    assert is_watched(Animal.foods.through)


WATCHED: dict[str, tuple[dict[str, list[str]], dict[type[models.Model], bool]]] = {
    "an exclusion": ({"exclude": ["zoo.Cage"]}, {Cage: False, Food: True, MigrationRecorder.Migration: False}),
    "an inclusion": ({"include": ["ZOO.cage"]}, {Cage: True, Food: False, MigrationRecorder.Migration: False}),
    "wildcards": ({"include": ["zoo.*"], "exclude": ["*.?ood"]}, {Cage: True, Food: False}),
    "both: the exclusion wins": ({"include": ["zoo.Cage"], "exclude": ["zoo.*"]}, {Cage: False}),
    "all is not all": ({"include": ["*"]}, {Cage: True, MigrationRecorder.Migration: False}),
    "named is named": (
        {"include": ["*", "migrations.*"]},
        {Cage: True, MigrationRecorder.Migration: True},
    ),
    "a table between goes with its model": (
        {"include": ["zoo.Animal"]},
        {Animal.foods.through: True, Duty: False, Pet: True},
    ),
    "a table between that is named": ({"exclude": ["zoo.animal_foods"]}, {Animal.foods.through: False, Animal: True}),
    "a child goes with its parent": ({"include": ["zoo.Building"]}, {Aquarium: True, Cage: False}),
    "a parent does not go with its child": ({"exclude": ["zoo.Building"]}, {Building: False, Aquarium: True}),
}


@pytest.mark.parametrize(("setting", "watched"), WATCHED.values(), ids=WATCHED.keys())
def test_which_models_are_watched_is_one_setting(
    setting: dict[str, list[str]], watched: dict[type[models.Model], bool]
) -> None:
    with override_settings(INVALIDATOR={**settings.INVALIDATOR, "MODELS": setting}):
        assert {model: is_watched(model) for model in watched} == watched
    assert is_watched(Cage), "as before"


def test_a_model_that_is_not_watched_is_written_in_silence(wire: Wire) -> None:
    with override_settings(INVALIDATOR={**settings.INVALIDATOR, "MODELS": {"exclude": ["zoo.cage"]}}):
        cage = Cage.objects.create()
        cage.save()
        Cage.objects.update(name="b")
        Cage.objects.bulk_create([Cage()])
        with connection.cursor() as cursor:
            cursor.execute("UPDATE zoo_cage SET name = 'c'")
        Cage.objects.all().delete()
    with writes_to(Cage):
        pass
    assert [message.tags for message in wire.messages()] == [{"zoo.cage", "zoo.cage:*"}], "that was asked for"
