"""A query set is handed out with its rows, and with a query that nobody else has."""

import pickle
from typing import Any

import pytest
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Prefetch
from django.test.utils import CaptureQueriesContext

from django_integration import cached
from invalidator.extending import hand_out, keep

from ..zoo.models import Animal, Cage

pytestmark = pytest.mark.usefixtures("db")


def queries(function: Any) -> int:
    with CaptureQueriesContext(connection) as caught:
        function()
    return len(caught.captured_queries)


@pytest.fixture
def cage(db: None) -> Cage:
    cage = Cage.objects.create(name="cage")
    for name in "ab":
        Animal.objects.create(name=name, cage=cage)
    return cage


def evaluated(rows: Any) -> Any:
    len(rows)
    return rows


@pytest.mark.usefixtures("cage")
class TestEvaluated:
    def test_its_rows_are_the_readers_own(self) -> None:
        kept = keep(evaluated(Animal.objects.order_by("name")))
        mine = hand_out(kept)
        assert queries(lambda: list(mine)) == 0
        mine[0].name = "changed"
        mine._result_cache.pop()
        assert [row.name for row in hand_out(kept)] == ["a", "b"]

    def test_it_can_be_refined_and_evaluated_anew(self) -> None:
        kept = keep(evaluated(Animal.objects.order_by("name")))
        for _ in range(2):
            mine = hand_out(kept)
            mine.query.clear_ordering(force=True)
            assert [row.name for row in mine.filter(name="b")] == ["b"]
            assert mine.count() == 2
        assert hand_out(kept).query.order_by == ("name",)

    def test_a_query_set_of_a_related_manager_leads_to_its_row(self, cage) -> None:
        rows = evaluated(cage.animal_set.order_by("name"))
        mine = hand_out(keep(rows))
        assert queries(lambda: mine[0].cage.name) == 0
        assert mine[0].cage is mine[1].cage is not cage
        assert mine._hints["instance"] is mine[0].cage

    def test_other_results_than_rows(self) -> None:
        for rows in (
            Animal.objects.order_by("name").values("name"),
            Animal.objects.order_by("name").values_list("name", flat=True),
            Animal.objects.order_by("name").values_list("name", "pk", named=True),
        ):
            mine = hand_out(keep(evaluated(rows)))
            assert queries(lambda: list(mine)) == 0  # noqa: B023
            assert list(mine) == list(rows)

    def test_a_raw_query(self) -> None:
        rows = Animal.objects.raw("SELECT * FROM zoo_animal ORDER BY name")
        mine = hand_out(keep(evaluated(rows)))
        assert queries(lambda: [row.name for row in mine]) == 0
        assert mine.query.cursor is None
        assert [row.name for row in mine.using("default")] == ["a", "b"]

    def test_a_clone_can_be_pickled(self) -> None:
        mine = hand_out(keep(evaluated(Cage.objects.prefetch_related("animal_set"))))
        assert [cage.name for cage in pickle.loads(pickle.dumps(mine))] == ["cage"]


@pytest.mark.usefixtures("cage")
class TestNotEvaluated:
    def test_each_reader_evaluates_it(self) -> None:
        """Nothing of it gets into what others are handed out."""
        kept = keep(Animal.objects.order_by("name"))
        assert len(hand_out(kept)) == 2
        Animal.objects.filter(name="a").delete()
        assert len(hand_out(kept)) == 1

    def test_a_cache_may_evaluate_it_when_it_is_stored(self) -> None:
        """As Django's own caches do, wherever it is in the value."""
        for rows in (Animal.objects.all(), Animal.objects.raw("SELECT * FROM zoo_animal")):
            kept = keep({"rows": rows}, fetch=True)
            assert queries(lambda: list(hand_out(kept)["rows"])) == 0  # noqa: B023

    def test_with_prefetches_of_its_own(self) -> None:
        rows = Cage.objects.prefetch_related(Prefetch("animal_set", Animal.objects.filter(name="a"), to_attr="as_"))
        kept = keep(rows)
        for _ in range(2):
            assert [row.name for row in hand_out(kept)[0].as_] == ["a"]
        mine = hand_out(keep(evaluated(rows)))
        assert [row.name for row in mine[0].as_] == ["a"]
        assert mine._prefetch_related_lookups[0] is rows._prefetch_related_lookups[0], "nobody changes it"


@pytest.mark.usefixtures("cage")
def test_a_page_of_a_paginator() -> None:
    page = Paginator(Animal.objects.order_by("name"), 1).page(2)
    evaluated(page.object_list)
    kept = keep(page)
    mine = hand_out(kept)
    assert queries(lambda: [row.name for row in mine]) == 0
    assert mine.has_previous()
    mine[0].name = "changed"
    assert hand_out(kept)[0].name == "b"


@cached(ttl=300)
def cages() -> Any:
    return Cage.objects.prefetch_related("animal_set")


@pytest.mark.usefixtures("cage")
def test_a_cached_query_set_sees_no_reader() -> None:
    for _ in range(2):
        mine = cages()
        mine[0].animal_set.all()[0].name = "changed"
        assert {animal.name for animal in cages()[0].animal_set.all()} == {"a", "b"}
