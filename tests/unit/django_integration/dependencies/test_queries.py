"""Which tags a query gives: docs/dependencies.md, line by line."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, models
from django.db.models import Count, Exists, F, FilteredRelation, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.expressions import Window
from django.db.models.functions import RowNumber, Upper
from django.test.utils import isolate_apps

from django_integration.dependencies import queries
from django_integration.dependencies.recorder import MAX_NAMES, Recorder, recording
from tests.unit.django_integration.zoo.models import Animal, Aquarium, Cage, Chip, Duty, Food, Keeper, Label, Note, Pet

pytestmark = pytest.mark.usefixtures("db")

Tags = Callable[[Callable[[], Any]], set[str]]


@pytest.fixture
def cage() -> Cage:
    return Cage.objects.create(name="big")


@pytest.fixture
def ape(cage: Cage) -> Animal:
    return Animal.objects.create(name="ape", weight=7, cage=cage)


def tags_of(read: Callable[[], Any]) -> set[str]:
    """What *read* depends on."""
    recorder = Recorder()
    with recording(recorder):
        read()
    return set(recorder.tags())


class TestByPrimaryKey:
    @pytest.mark.parametrize(
        "read",
        [
            lambda pk: Cage.objects.get(pk=pk),
            lambda pk: Cage.objects.filter(pk=str(pk)).first(),
            lambda pk: Cage.objects.filter(pk__in=[pk, None]).count(),
            lambda pk: Cage.objects.filter(pk=pk).exists(),
            lambda pk: list(Cage.objects.filter(pk=pk).values("name")),
            lambda pk: list(Cage.objects.filter(Q(pk=pk) & Q(name="big"))),
            lambda pk: Cage.objects.filter(pk=pk).aggregate(Count("pk")),
            lambda pk: list(Cage.objects.filter(pk=pk, name__startswith="x")[1:2]),
            lambda pk: Cage.objects.in_bulk([pk]),
            lambda pk: Cage(pk=pk).refresh_from_db(),
            lambda pk: Cage.objects.only("pk").get(pk=pk).name,
        ],
    )
    def test_it_is_the_row_whatever_the_shape(self, cage: Cage, read: Callable[[int], Any]) -> None:
        assert tags_of(lambda: read(cage.pk)) == {f"zoo.cage:{cage.pk}", "zoo.cage:*"}

    def test_a_row_that_is_not_there_is_waited_for(self) -> None:
        assert tags_of(lambda: Cage.objects.filter(pk=99).first()) == {"zoo.cage:99", "zoo.cage:*"}

    @pytest.mark.parametrize("condition", [~Q(pk=1), Q(pk=1) | Q(name="x"), Q(pk=F("id")), Q(pk__gt=1)])
    def test_not_if_other_rows_may_be_in_it(self, condition: Q) -> None:
        assert tags_of(lambda: list(Cage.objects.filter(condition))) == {"zoo.cage"}

    def test_many_keys_are_the_table(self) -> None:
        many = list(range(queries.MAX_VALUES + 1))
        assert tags_of(lambda: list(Cage.objects.filter(pk__in=many))) == {"zoo.cage"}

    def test_other_tables_count_as_wholes(self, cage: Cage) -> None:
        read = tags_of(lambda: Cage.objects.filter(pk=cage.pk, note__text="x").count())
        assert read == {f"zoo.cage:{cage.pk}", "zoo.cage:*", "zoo.note"}

    def test_a_relation_by_its_key_is_the_row(self, ape: Animal) -> None:
        animal = Animal.objects.get(pk=ape.pk)
        assert tags_of(lambda: animal.cage) == {f"zoo.cage:{ape.cage_id}", "zoo.cage:*"}

    def test_a_parents_table_is_the_same_row(self) -> None:
        tank = Aquarium.objects.create(name="tank")
        assert tags_of(lambda: Aquarium.objects.get(pk=tank.pk)) == {f"zoo.aquarium:{tank.pk}", "zoo.aquarium:*"}

    def test_a_key_of_uuid(self) -> None:
        chip = Chip.objects.create()
        assert tags_of(lambda: Chip.objects.get(pk=str(chip.pk))) == {f"zoo.chip:{chip.pk}", "zoo.chip:*"}


class TestByValue:
    def test_rows_their_value_and_the_columns_that_decide(self, ape: Animal) -> None:
        assert tags_of(lambda: list(Animal.objects.filter(cage=ape.cage_id, weight__gt=3))) == {
            "zoo.animal:*",
            f"zoo.animal:{ape.pk}",
            f"zoo.animal[cage_id={ape.cage_id}]",
            "zoo.animal[cage_id=*]",
            "zoo.animal[weight=*]",
        }

    def test_order_counts_before_a_limit(self, ape: Animal) -> None:
        rows = Animal.objects.filter(cage=ape.cage_id).order_by("-weight")
        assert "zoo.animal[weight=*]" not in tags_of(lambda: list(rows.all()))
        assert "zoo.animal[weight=*]" in tags_of(lambda: list(rows[:3]))
        assert tags_of(lambda: list(rows.order_by("cage__name")[:3])) == {"zoo.animal", "zoo.cage"}
        assert tags_of(lambda: list(rows.order_by(Upper("name"))[:3])) == {"zoo.animal"}

    @pytest.mark.parametrize(
        ("condition", "names"),
        [
            (Q(weight=7), {"weight=7"}),
            (Q(weight__in=[7, 8]), {"weight=7", "weight=8"}),
            (Q(cage=None), {"cage_id=None"}),
            (Q(cage__isnull=True), {"cage_id=None"}),
        ],
    )
    def test_each_kind_of_equality(self, condition: Q, names: set[str]) -> None:
        tags = tags_of(lambda: list(Animal.objects.filter(condition)))
        assert {tag.partition("[")[2][:-1] for tag in tags if "[" in tag and "*" not in tag} == names

    def test_text_where_a_database_tells_small_from_capital_letters(self) -> None:
        tags = tags_of(lambda: list(Animal.objects.filter(name="ape")))
        assert ("zoo.animal[name=ape]" in tags) == (connection.vendor in queries.EXACT_TEXT)

    def test_text_elsewhere_is_not_compared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """MariaDB, as it comes, finds "Ape" when asked for "ape"."""
        monkeypatch.setattr(queries, "EXACT_TEXT", frozenset())
        monkeypatch.setattr(queries, "_is_comparable", queries._is_comparable.__wrapped__)  # which remembers
        assert tags_of(lambda: list(Animal.objects.filter(name="ape"))) == {"zoo.animal"}

    def test_the_value_with_the_fewest_rows_is_taken(self, cage: Cage) -> None:
        tags = tags_of(lambda: list(Animal.objects.filter(weight=3, cage=cage)))
        assert f"zoo.animal[cage_id={cage.pk}]" in tags
        assert "zoo.animal[weight=3]" not in tags

    @pytest.mark.parametrize(
        "read",
        [
            lambda rows: rows.count(),
            lambda rows: rows.exists(),
            lambda rows: list(rows.values()),
            lambda rows: list(rows.values_list("pk", flat=True)),
            lambda rows: list(rows.order_by("pk")[1:3]),
            lambda rows: list(rows.annotate(Count("cage__note"))),
            lambda rows: list(rows.annotate(n=Window(RowNumber()))),
            lambda rows: list(rows.extra(where=["1=1"])),
            lambda rows: list(rows.extra(select={"x": "1"})),
            lambda rows: list(rows.union(Animal.objects.filter(pk=1))),
            lambda rows: rows.aggregate(Count("pk")),
            lambda rows: list(rows.filter(Exists(Note.objects.filter(cage=OuterRef("cage"))))),
        ],
    )
    def test_anything_but_whole_rows_is_the_table(self, read: Callable[[Any], Any]) -> None:
        assert "zoo.animal" in tags_of(lambda: read(Animal.objects.filter(weight=7)))

    @pytest.mark.parametrize(
        "condition", [~Q(weight=7), Q(weight=7) | Q(weight=8), Q(weight=F("cage")), Q(weight__lt=7)]
    )
    def test_not_if_rows_with_other_values_may_be_in_it(self, condition: Q) -> None:
        assert tags_of(lambda: list(Animal.objects.filter(condition))) == {"zoo.animal"}

    def test_a_value_in_a_parents_table_is_the_tables(self) -> None:
        assert tags_of(lambda: list(Aquarium.objects.filter(name="x"))) == {"zoo.aquarium", "zoo.building"}

    def test_a_join_beyond_a_parents_table_looks_at_the_parent(self) -> None:
        tags = tags_of(lambda: list(Aquarium.objects.filter(litres=1, name="x")))
        assert {"zoo.building", "zoo.aquarium[litres=1]"} <= tags
        assert "zoo.aquarium" not in tags

    def test_the_near_side_of_a_join_decides(self) -> None:
        assert "zoo.animal[cage_id=*]" in tags_of(lambda: list(Animal.objects.filter(weight=1, cage__name="x")))

    def test_a_proxy_is_its_model(self, ape: Animal) -> None:
        assert f"zoo.animal:{ape.pk}" in tags_of(lambda: list(Pet.objects.filter(weight=7)))

    def test_the_conditions_of_joins_decide_who_is_in(self, cage: Cage, ape: Animal) -> None:
        """A row that meets them only now joins, and its `update_fields` tells no value that it was found by."""
        heavy = FilteredRelation("foods", condition=Q(weight__gt=3))
        rows = Animal.objects.annotate(eaten=heavy).filter(eaten__name="hay", cage=cage)
        assert {f"zoo.animal[cage_id={cage.pk}]", "zoo.animal[weight=*]"} <= tags_of(lambda: list(rows))
        labels = Label.objects.filter(object_id=1, crate__pk__gt=0)  # whose ON says of which type a label is
        assert {"zoo.label[object_id=1]", "zoo.label[content_type_id=*]"} <= tags_of(lambda: list(labels))

    def test_rows_that_are_not_looked_at_are_not_named(self, ape: Animal) -> None:
        Animal.objects.create(weight=7)
        tags = tags_of(lambda: next(Animal.objects.filter(weight=7).order_by("pk").iterator(chunk_size=1)))
        assert {tag for tag in tags if ":" in tag} == {"zoo.animal:*", f"zoo.animal:{ape.pk}"}

    def test_many_rows_are_the_table(self) -> None:
        Cage.objects.bulk_create([Cage(name="x") for _ in range(MAX_NAMES + 1)])
        Note.objects.bulk_create([Note(text="x", cage=cage) for cage in Cage.objects.all()])
        first = Cage.objects.first()
        assert tags_of(lambda: list(Cage.objects.filter(pk__lte=0) or Note.objects.filter(cage=first))) >= {"zoo.cage"}
        Note.objects.update(cage=first)
        assert tags_of(lambda: list(Note.objects.filter(cage=first))) == {"zoo.note"}


class TestOtherTables:
    def test_select_related_is_the_rows(self, ape: Animal) -> None:
        tags = tags_of(lambda: list(Animal.objects.select_related("cage")))
        assert tags == {"zoo.animal", "zoo.cage:*", f"zoo.cage:{ape.cage_id}"}

    def test_also_two_steps_away(self, ape: Animal) -> None:
        duty = Duty.objects.create(keeper=Keeper.objects.create(), cage=ape.cage)
        tags = tags_of(lambda: Duty.objects.select_related("cage", "keeper").get(pk=duty.pk))
        assert {f"zoo.cage:{ape.cage_id}", f"zoo.keeper:{duty.keeper_id}", f"zoo.duty:{duty.pk}"} <= tags
        assert tags.isdisjoint({"zoo.cage", "zoo.keeper", "zoo.duty"})

    def test_a_target_that_anything_looks_at_is_a_table(self, ape: Animal) -> None:
        rows = Animal.objects.select_related("cage")
        for looking in (rows.filter(cage__name="big"), rows.order_by("cage__name"), rows.annotate(n=F("cage__name"))):
            assert "zoo.cage" in tags_of(lambda looking=looking: list(looking))

    def test_a_target_beyond_which_anything_looks_is_a_table(self, ape: Animal) -> None:
        """Another cage may come to have that note."""
        assert "zoo.cage" in tags_of(lambda: list(Animal.objects.select_related("cage").filter(cage__note__text="x")))

    @pytest.mark.parametrize(
        "read",
        [
            lambda: list(Cage.objects.filter(pk__in=Note.objects.values("cage"))),
            lambda: list(Cage.objects.filter(Exists(Note.objects.filter(cage=OuterRef("pk"))))),
            lambda: list(
                Cage.objects.annotate(n=Subquery(Note.objects.filter(cage=OuterRef("pk")).values("text")[:1]))
            ),
            lambda: list(Cage.objects.annotate(n=Count("note"))),
            lambda: Cage.objects.annotate(n=Count("note")).aggregate(Count("n")),
            lambda: list(Cage.objects.values("pk").union(Note.objects.values("pk"))),
            lambda: list(Cage.objects.values("note__text")),
            lambda: list(Cage.objects.prefetch_related("note_set")) or list(Note.objects.all()),
            lambda: list(Cage.objects.exclude(note__text="x")),
            lambda: Cage.objects.filter(pk__in=Note.objects.values("cage")).exists(),
        ],
    )
    def test_every_query_in_a_query_counts(self, read: Callable[[], Any]) -> None:
        assert {"zoo.cage", "zoo.note"} <= tags_of(read)

    def test_a_many_to_many_relation_is_its_table_and_the_other_side(self, ape: Animal) -> None:
        assert tags_of(lambda: list(ape.foods.all())) == {"zoo.animal_foods", "zoo.food"}

    def test_prefetched_targets_are_rows(self, ape: Animal) -> None:
        tags = tags_of(lambda: list(Animal.objects.filter(weight=7).prefetch_related("cage")))
        assert f"zoo.cage:{ape.cage_id}" in tags
        assert "zoo.cage" not in tags

    def test_prefetched_sources_are_found_by_value(self, ape: Animal) -> None:
        tags = tags_of(lambda: list(Cage.objects.filter(pk=ape.cage_id).prefetch_related("animal_set")))
        assert {f"zoo.animal[cage_id={ape.cage_id}]", f"zoo.animal:{ape.pk}"} <= tags
        assert "zoo.animal" not in tags

    def test_a_join_that_was_not_needed_is_not_read(self, cage: Cage) -> None:
        assert "zoo.cage" not in tags_of(lambda: list(Animal.objects.filter(cage__pk=cage.pk)))

    def test_an_aggregate_over_rows_is_the_table(self) -> None:
        assert tags_of(lambda: Food.objects.distinct().aggregate(Count("pk"))) == {"zoo.food"}


class TestNothing:
    @pytest.mark.parametrize("rows", [lambda: Cage.objects.filter(pk__in=[]), Cage.objects.none])
    def test_what_cannot_match_reads_nothing(self, rows: Callable[[], QuerySet[Cage]]) -> None:
        assert tags_of(lambda: (list(rows()), rows().count(), rows().exists(), rows().first())) == set()

    def test_half_of_it_is_not_nothing(self) -> None:
        empty = Q(pk__in=[])
        assert tags_of(lambda: list(Cage.objects.filter(empty | Q(name__gt="a")))) == {"zoo.cage"}
        union = Cage.objects.filter(empty).union(Cage.objects.all())
        assert tags_of(lambda: list(union)) == {"zoo.cage"}

    def test_a_constant_beside_rows_is_no_column(self) -> None:
        assert tags_of(lambda: list(Cage.objects.annotate(one=Value(1)).filter(pk=1))) == {"zoo.cage:*", "zoo.cage:1"}


def test_a_model_outside_of_the_registry_is_known_by_its_query() -> None:
    """Such as a migration's."""
    with isolate_apps("tests.unit.django_integration.zoo"):

        class Old(models.Model):
            class Meta:
                app_label = "zoo"
                db_table = "zoo_old"

            def __str__(self) -> str:
                return "old"

    with connection.schema_editor() as editor:
        editor.create_model(Old)
    try:
        assert tags_of(lambda: list(Old._base_manager.all())) == {"zoo.old"}
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Old)
