"""Which tags a query gives: docs/dependencies.md, line by line."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.expressions import Window
from django.db.models.functions import RowNumber

from django_integration.dependencies.queries import _read_rows
from django_integration.dependencies.recorder import Recorder
from invalidator.extending import check_tag
from tests.unit.django_integration.zoo.models import Animal, Cage, Chip, Food, Note, Pet, Seat, Word

from .conftest import tags_of

pytestmark = pytest.mark.usefixtures("db")


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

    def test_a_relation_by_its_key_is_the_row(self, ape: Animal) -> None:
        animal = Animal.objects.get(pk=ape.pk)
        assert tags_of(lambda: animal.cage) == {f"zoo.cage:{ape.cage_id}", "zoo.cage:*"}

    def test_a_key_of_uuid(self) -> None:
        chip = Chip.objects.create()
        assert tags_of(lambda: Chip.objects.get(pk=str(chip.pk))) == {f"zoo.chip:{chip.pk}", "zoo.chip:*"}

    @pytest.mark.parametrize(
        "read",
        [
            lambda: Cage.objects.filter(pk=None).first(),
            lambda: Cage.objects.filter(pk=None).exists(),
            lambda: Cage.objects.filter(pk__isnull=True).count(),
            lambda: list(Cage.objects.filter(pk=None).values()),
            lambda: Cage.objects.filter(pk=None).aggregate(Count("pk")),
            lambda: _absent(lambda: Cage.objects.get(pk=None)),
            lambda: _absent(lambda: Cage().refresh_from_db()),
            lambda: Animal.objects.select_related("cage").filter(pk=None).first(),
        ],
    )
    def test_a_row_that_has_no_key_yet_is_found_nowhere(self, read: Callable[[], Any]) -> None:
        """So only writes of unknown rows can change the result."""
        assert tags_of(read) in ({"zoo.cage:*"}, {"zoo.animal:*"})

    def test_no_key_among_keys(self, cage: Cage) -> None:
        assert tags_of(lambda: list(Cage.objects.filter(pk__in=[None, cage.pk]))) == {
            f"zoo.cage:{cage.pk}",
            "zoo.cage:*",
        }
        assert tags_of(lambda: list(Cage.objects.filter(pk__in=[None]))) == set()

    @pytest.mark.parametrize("pk", ["x" * 10_000, "", "a\0b", "a\udc80b", "a b\n*[]", "*", 5])
    def test_any_text_may_be_a_key(self, pk: object) -> None:
        recorder = Recorder()
        _read_rows(recorder, Word, [pk])
        (tag,) = set(recorder.tags()) - {"zoo.word:*"} or {"zoo.word:*"}
        assert check_tag(tag)

    @pytest.mark.parametrize("pk", [{"a": []}, object()])
    def test_a_key_that_is_none_is_the_table(self, pk: object) -> None:
        recorder = Recorder()
        _read_rows(recorder, Cage, [pk])
        assert recorder.tags() == ["zoo.cage"]

    @pytest.mark.parametrize(
        "read",
        [
            lambda: Cage.objects.filter(pk=Value(1)).first(),
            lambda: Cage.objects.filter(pk=F("id")).first(),
            lambda: list(Cage.objects.filter(pk__in=[F("id"), 1])),
            lambda: list(Cage.objects.filter(pk__isnull=False)),
            lambda: list(Cage.objects.filter(Q(pk=None) | Q(name="big"))),
            lambda: list(Cage.objects.exclude(pk=None)),
        ],
    )
    def test_a_key_that_the_database_computes_is_the_table(self, read: Callable[[], Any]) -> None:
        assert tags_of(read) == {"zoo.cage"}

    @pytest.mark.parametrize(
        "read",
        [
            lambda: Seat.objects.get(pk=(1, 2)),
            lambda: list(Seat.objects.filter(pk__in=[(1, 2), (3, 4)])),
            lambda: list(Seat.objects.filter(row=1)),
            lambda: list(Seat.objects.filter(pk=(None, 2))),
            lambda: list(Seat.objects.filter(pk__isnull=True)),
        ],
    )
    def test_a_key_of_several_columns_is_the_table(self, read: Callable[[], Any]) -> None:
        Seat.objects.create(row=1, number=2)
        assert tags_of(read) == {"zoo.seat"}


def _absent(read: Callable[[], Any]) -> None:
    with pytest.raises(Cage.DoesNotExist):
        read()


class TestByValue:
    def test_rows_their_value_and_the_columns_that_decide(self, ape: Animal) -> None:
        assert tags_of(lambda: list(Animal.objects.filter(cage=ape.cage_id, weight__gt=3))) == {
            "zoo.animal:*",
            f"zoo.animal:{ape.pk}",
            f"zoo.animal[cage_id={ape.cage_id}]",
            "zoo.animal[cage_id=*]",
            "zoo.animal[weight=*]",
        }

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

    def test_no_value_is_a_value(self, ape: Animal) -> None:
        for read in (Animal.objects.filter(cage=None), Animal.objects.filter(cage__pk=None)):
            assert "zoo.animal[cage_id=None]" in tags_of(lambda read=read: list(read))
        assert f"zoo.animal[cage_id={ape.cage_id}]" in tags_of(
            lambda: list(Animal.objects.filter(cage__in=[None, ape.cage]))
        )

    def test_no_row_on_the_other_side_is_both_tables(self) -> None:
        for read in (Cage.objects.filter(animal=None), Cage.objects.filter(animal__pk=None)):
            assert tags_of(lambda read=read: list(read)) == {"zoo.cage", "zoo.animal"}

    def test_a_proxy_is_its_model(self, ape: Animal) -> None:
        assert f"zoo.animal:{ape.pk}" in tags_of(lambda: list(Pet.objects.filter(weight=7)))


class TestOtherTables:
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
