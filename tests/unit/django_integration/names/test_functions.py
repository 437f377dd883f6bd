"""The register of `@invalidates` functions: which there are for a model, and what they may return."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from django.db import connection, models, transaction
from django.test.utils import CaptureQueriesContext

from django_integration import invalidates
from django_integration.names import functions
from django_integration.names.functions import Target, add, any_for, call, children_wanted, of_rows, read_rows

from ..conftest import Wire
from ..zoo.invalidation import bones_of, day_of, hall_of
from ..zoo.models import Animal, Cage, Exhibit, Pet, Skeleton, Ticket


def herd_of(animal: Animal) -> Iterator[Target]:
    yield f"herd:{animal.pk}"


def test_functions_of_apps_are_found_at_start() -> None:
    assert "zoo.ticket" in functions._functions


def test_a_childs_row_is_shown_to_the_functions_of_its_parents_too() -> None:
    assert of_rows(Exhibit) == (hall_of,)
    assert set(of_rows(Skeleton)) == {hall_of, bones_of}
    assert of_rows(Ticket) == (day_of,)
    assert of_rows(Cage) == ()


def test_a_parents_row_may_be_one_that_a_childs_function_wants_to_see() -> None:
    assert any_for(Exhibit)
    assert any_for(Skeleton)
    assert not any_for(Cage)
    assert children_wanted(Exhibit) == (Skeleton,)
    assert children_wanted(Skeleton) == ()


@pytest.mark.usefixtures("db", "functions")
def test_a_proxys_functions_are_those_of_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[str] = []
    monkeypatch.setattr(functions, "_on_added", [*functions._on_added, lambda: added.append("a function")])
    add(Pet, herd_of)
    assert of_rows(Animal) == of_rows(Pet) == (herd_of,)
    assert added == ["a function"]


@pytest.mark.parametrize("result", ["a string", None, 7])
def test_what_is_no_list_of_names_is_refused(result: object) -> None:
    def wrong(row: object) -> object:
        return result

    with pytest.raises(TypeError, match="wrong must return a list of names"):
        call(wrong, Ticket())  # type: ignore[arg-type]


def test_a_function_may_return_names_or_yield_them() -> None:
    assert list(call(herd_of, Animal(pk=1))) == ["herd:1"]
    assert list(call(lambda animal: ["a"], Animal())) == ["a"]


@pytest.mark.usefixtures("db")
def test_rows_are_locked_in_a_transaction_where_the_database_can() -> None:
    cage = Cage.objects.create()
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        assert list(read_rows(Cage, "id", [cage.pk], "default", lock=True)) == [cage]
    locks = " FOR " in queries[0]["sql"]
    assert locks == connection.features.has_select_for_update


class Joining(models.Manager[models.Model]):
    def get_queryset(self) -> models.QuerySet[models.Model]:
        return super().get_queryset().select_related("cage")


class Distinct(models.Manager[models.Model]):
    def get_queryset(self) -> models.QuerySet[models.Model]:
        return super().get_queryset().distinct()


class Counting(models.Manager[models.Model]):
    def get_queryset(self) -> models.QuerySet[models.Model]:
        return super().get_queryset().annotate(models.Count("cage"))


class Hiding(models.Manager[models.Model]):
    def get_queryset(self) -> models.QuerySet[models.Model]:
        return super().get_queryset().filter(number=1)


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize("in_transaction", [True, False])
@pytest.mark.parametrize("manager", [models.Manager, Joining, Distinct, Counting, Hiding])
def test_rows_are_read_whatever_the_models_own_manager_and_order_do(
    manager: type[models.Manager[models.Model]],
    in_transaction: bool,
    make_table: Callable[[type[models.Model]], None],
    wire: Wire,
) -> None:
    """
    PostgreSQL locks no row of an outer join, of DISTINCT or of GROUP BY. And a row that a manager hides has changed
    all the same.
    """

    class Ranked(models.Model):
        number = models.IntegerField(default=0)
        cage = models.ForeignKey(Cage, models.CASCADE, null=True)
        objects = manager()

        class Meta:
            app_label = "zoo"
            base_manager_name = "objects"
            ordering = ("cage__name",)

        def __str__(self) -> str:
            return f"number {self.number}"

    make_table(Ranked)
    invalidates(Ranked)(lambda row: [f"number:{row.number}"])
    row = Ranked(number=1)
    row.save()
    row.number = 2
    wire.messages()
    with transaction.atomic() if in_transaction else contextlib.nullcontext():
        row.save()
    assert wire.message().keys == {"number:1", "number:2"}
    rows = models.QuerySet(Ranked)
    with transaction.atomic() if in_transaction else contextlib.nullcontext():
        assert rows.filter(number=2).update(number=3) == 1
    assert wire.message().keys == {"number:2", "number:3"}
    with transaction.atomic() if in_transaction else contextlib.nullcontext():
        row.delete()
    assert wire.message().keys == {"number:3"}


@pytest.mark.usefixtures("new_models")
def test_a_row_of_a_view_is_read_without_a_lock_where_it_cannot_be_locked() -> None:
    """PostgreSQL locks rows of a view as those of its tables, and refuses that for one that groups."""

    class Grouped(models.Model):
        name = models.CharField(max_length=80)

        class Meta:
            app_label = "zoo"
            db_table = "zoo_grouped"
            managed = False

        def __str__(self) -> str:
            return self.name

    cage = Cage.objects.create(name="a")
    with connection.cursor() as cursor:
        cursor.execute("CREATE VIEW zoo_grouped AS SELECT id, max(name) AS name FROM zoo_cage GROUP BY id")
    try:
        with transaction.atomic():
            [row] = read_rows(Grouped, "id", [cage.pk], "default", lock=True)
            assert Cage.objects.count() == 1, "the transaction goes on"
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP VIEW zoo_grouped")
    assert row.name == "a"
