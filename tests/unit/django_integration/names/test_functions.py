"""The register of `@invalidates` functions: which there are for a model, and what they may return."""

from collections.abc import Iterator

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_integration.names import functions
from django_integration.names.functions import Target, add, any_for, call, children_wanted, of_rows, read_rows

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
def test_rows_are_read_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "ROWS_PER_QUERY", 2)
    pks = [Cage.objects.create().pk for _ in range(5)]
    with CaptureQueriesContext(connection) as queries:
        read = [[row.pk for row in rows.order_by("pk")] for rows in read_rows(Cage, "id", pks, "default", lock=False)]
    assert read == [pks[:2], pks[2:4], pks[4:]]
    assert len(queries) == 3


@pytest.mark.usefixtures("db")
def test_rows_are_locked_in_a_transaction_where_the_database_can() -> None:
    cage = Cage.objects.create()
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        [rows] = read_rows(Cage, "id", [cage.pk], "default", lock=True)
        assert list(rows) == [cage]
    locks = " FOR " in queries[0]["sql"]
    assert locks == connection.features.has_select_for_update
