"""What the conditions of a query say about the rows that it finds."""

import pytest
from django.db import connection
from django.db.models import F, FilteredRelation, Q
from django.db.models.functions import Upper

from django_integration.dependencies import conditions
from tests.unit.django_integration.zoo.models import Animal, Cage, Label

from .conftest import tags_of

pytestmark = pytest.mark.usefixtures("db")


@pytest.mark.parametrize("condition", [~Q(pk=1), Q(pk=1) | Q(name="x"), Q(pk=F("id")), Q(pk__gt=1)])
def test_not_if_other_rows_may_be_in_it(condition: Q) -> None:
    assert tags_of(lambda: list(Cage.objects.filter(condition))) == {"zoo.cage"}


def test_many_keys_are_the_table() -> None:
    many = list(range(conditions.MAX_VALUES + 1))
    assert tags_of(lambda: list(Cage.objects.filter(pk__in=many))) == {"zoo.cage"}


def test_order_counts_before_a_limit(ape: Animal) -> None:
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
def test_each_kind_of_equality(condition: Q, names: set[str]) -> None:
    tags = tags_of(lambda: list(Animal.objects.filter(condition)))
    assert {tag.partition("[")[2][:-1] for tag in tags if "[" in tag and "*" not in tag} == names


def test_text_where_a_database_distinguishes_small_from_capital_letters() -> None:
    tags = tags_of(lambda: list(Animal.objects.filter(name="ape")))
    assert ("zoo.animal[name=ape]" in tags) == (connection.vendor in conditions.EXACT_TEXT)


def test_text_elsewhere_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """MariaDB, as it comes, finds "Ape" when asked for "ape"."""
    monkeypatch.setattr(conditions, "EXACT_TEXT", frozenset())
    monkeypatch.setattr(conditions, "is_comparable_on", conditions.is_comparable_on.__wrapped__)  # which remembers
    assert tags_of(lambda: list(Animal.objects.filter(name="ape"))) == {"zoo.animal"}


@pytest.mark.parametrize("condition", [~Q(weight=7), Q(weight=7) | Q(weight=8), Q(weight=F("cage")), Q(weight__lt=7)])
def test_not_if_rows_with_other_values_may_be_in_it(condition: Q) -> None:
    assert tags_of(lambda: list(Animal.objects.filter(condition))) == {"zoo.animal"}


def test_the_near_side_of_a_join_decides() -> None:
    assert "zoo.animal[cage_id=*]" in tags_of(lambda: list(Animal.objects.filter(weight=1, cage__name="x")))


def test_the_conditions_of_joins_decide_who_is_in(cage: Cage, ape: Animal) -> None:
    """A row that meets them only now joins, and `update_fields` publishes no value by which it was found."""
    heavy = FilteredRelation("foods", condition=Q(weight__gt=3))
    rows = Animal.objects.annotate(eaten=heavy).filter(eaten__name="hay", cage=cage)
    assert {f"zoo.animal[cage_id={cage.pk}]", "zoo.animal[weight=*]"} <= tags_of(lambda: list(rows))
    labels = Label.objects.filter(object_id=1, crate__pk__gt=0)  # whose ON compares the type of a label
    assert {"zoo.label[object_id=1]", "zoo.label[content_type_id=*]"} <= tags_of(lambda: list(labels))
