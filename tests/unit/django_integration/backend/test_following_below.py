"""How values in a second level follow the transactions that have set them; test_following.py has what all levels do."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections, transaction

from django_integration.backend import following_below, settling
from tests.support import Thread

from ..conftest import WAIT_S
from ..faulty import FaultyCache
from ..zoo.models import Cage
from .conftest import KEY

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(autouse=True)
def cache(two_levels) -> Any:
    return two_levels


def roll_back() -> None:
    transaction.set_rollback(True)


class TestASecondLevelThatIsAway:
    def test_at_a_rollback_the_delete_is_owed(self, cache) -> None:
        with transaction.atomic():
            Cage.objects.create()
            cache.set("k", "uncommitted")
            FaultyCache.down = True
            roll_back()
        FaultyCache.down = False
        assert settling.settle(WAIT_S)
        assert cache.get("k") is None

    def test_at_a_commit_what_cannot_be_compared_is_deleted(self, cache) -> None:
        """It may be a fill of the old row."""
        with transaction.atomic():
            Cage.objects.create()
            cache.set("k", "committed")
            FaultyCache.down = True
        FaultyCache.down = False
        assert settling.settle(WAIT_S)
        assert cache.get("k") is None


class TestWhatLiesThere:
    """Another server may have written it; values do not say by whom they were set."""

    @pytest.mark.parametrize(
        ("mine", "there", "stays"),
        [
            ({"a": 1}, {"a": 1}, True),
            ({"a": (1,)}, {"a": [1]}, True),  # it has been through JSON
            ({"a": 1}, {"a": 2}, False),
            (1, True, False),
            ("old", None, False),
        ],
    )
    def test_after_a_commit_the_same_value_stays(self, cache, second, mine: Any, there: Any, stays: bool) -> None:
        with transaction.atomic():
            Cage.objects.create()
            cache.set("k", mine)
            second.set(KEY, there)
        assert second.get(KEY, "nothing") == (there if stays else "nothing")

    def test_a_row_that_was_filled_from_before_the_commit_goes(self, cache, second) -> None:
        """Rows are equal if their primary keys are."""
        cage = Cage.objects.create(name="old")
        with transaction.atomic():
            Cage.objects.update(name="new")
            cache.set("k", Cage.objects.get())
            second.set(KEY, cage)
        assert second.get(KEY) is None

    @pytest.mark.parametrize(
        ("there", "stays"), [({"a": 1}, False), ({"a": 2}, True), (b"what may be anything", True), (object, False)]
    )
    def test_after_a_rollback_only_another_value_stays(self, cache, second, there: Any, stays: bool) -> None:
        with transaction.atomic():
            Cage.objects.create()
            cache.set("k", {"a": 1})
            second.set(KEY, there)
            roll_back()
        assert (second.get(KEY) is not None) == stays

    def test_what_the_application_changes_after_it_was_set_is_still_known(self, cache) -> None:
        value = [1]
        with transaction.atomic():
            Cage.objects.create()
            cache.set("k", value)
            value.append(2)
            roll_back()
        assert cache.get("k") is None


def test_near_copies_on_other_servers_go_at_a_rollback(cache, second, wire) -> None:
    """They have read the value where it lay."""
    with transaction.atomic():
        Cage.objects.create()
        cache.set("k", "uncommitted")
        wire.messages()
        roll_back()
    assert wire.message().keys == {KEY}


def test_a_fill_that_arrives_after_the_commit_is_taken_back(cache, second) -> None:
    """It has read the old row before, and its process learns of the key from the second message."""
    Cage.objects.create(name="old")

    def load() -> str:
        name = Cage.objects.get().name
        with transaction.atomic():
            cache.delete("k")
            Cage.objects.update(name="new")
        connections.close_all()
        return name

    assert Thread(lambda: cache.get_or_set("k", load)).outcome() == "old"
    assert settling.settle(WAIT_S)
    assert cache.get_or_set("k", lambda: Cage.objects.get().name) == "new"


def test_of_too_many_values_nothing_is_kept_to_compare_with(cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following_below, "MOST_VALUES", 2)
    names = ["a", "b", "c", "d"]
    with transaction.atomic():
        Cage.objects.create()
        for name in names:
            cache.set(name, "committed")
    assert cache.get_many(names) == {"a": "committed", "b": "committed"}, "in doubt a value is deleted"
    with transaction.atomic():
        Cage.objects.create()
        for name in names:
            cache.set(name, "uncommitted")
        roll_back()
    assert cache.get_many(names) == {}
