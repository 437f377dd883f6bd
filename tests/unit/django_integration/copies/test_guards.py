"""The guard of the setting, and its signal."""

import logging
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import caches
from django.db.models import F
from django.test import override_settings

from django_integration import cache, cached, value_changed
from django_integration.copies import guards
from django_integration.testing import isolated
from invalidator import Guard

from ..zoo.models import Animal, Cage
from .test_rows import Document

OURS = "django_integration.backend.NearCacheBackend"


def share(**changed: Any) -> float:
    with override_settings(**changed):
        found = guards.guard()
    return found.share if isinstance(found, Guard) else found


class TestTheSetting:
    def test_it_is_off_in_production_and_on_under_debug(self) -> None:
        assert share(DEBUG=False) == 0
        assert share(DEBUG=True) == 1

    def test_a_share_that_is_given_counts_everywhere(self) -> None:
        for debug in (False, True):
            assert share(DEBUG=debug, INVALIDATOR={**settings.INVALIDATOR, "GUARD": 0.25}) == 0.25
            assert share(DEBUG=debug, INVALIDATOR={**settings.INVALIDATOR, "GUARD": 0}) == 0

    def test_it_is_on_in_the_test_helpers(self) -> None:
        with isolated():
            assert share() == 1
        with isolated(GUARD=0):
            assert share() == 0


@pytest.fixture
def changes(db: None) -> Any:
    found: list[dict[str, Any]] = []

    def note(sender: object, signal: object, **facts: Any) -> None:
        found.append(facts)

    value_changed.connect(note)
    with isolated(), override_settings(CACHES={"default": {"BACKEND": OURS, "OPTIONS": {"COPY": "none"}}}):
        yield found
    value_changed.disconnect(note)


class TestWhatIsFound:
    def test_a_change_of_a_live_row_in_a_cached_function(self, changes, caplog) -> None:
        Animal.objects.create(name="a")
        get = cached(key="animal", copy="none")(Animal.objects.get)
        get()
        get().name = "changed"
        with caplog.at_level(logging.WARNING, "invalidator.guard"):
            assert get().name == "a"
        [found] = changes
        assert (found["key"], found["where"]) == ("animal", ".name")
        assert found["handed_out_at"].startswith(__file__)
        assert found["type"].endswith("zoo.models.Animal")

    def test_a_change_of_what_a_cache_backend_hands_out(self, changes) -> None:
        caches["default"].set("k", {"a": [1]})
        caches["default"].get("k")["a"].append(2)
        assert caches["default"].get("k") is None
        assert changes[0]["where"] == "['a'][1]"

    @pytest.mark.parametrize(
        ("do", "where"),
        [
            (lambda row: setattr(row, "double", 7), ".double"),
            (lambda row: setattr(row, "backend", "x"), ".backend"),
            (lambda row: setattr(row.cage, "name", "x"), ".cage.name"),
        ],
        ids=["an annotation", "a new attribute", "a related row"],
    )
    def test_changes_of_rows(self, changes, do, where) -> None:
        Animal.objects.create(name="a", cage=Cage.objects.create(name="c"))

        def load() -> Animal:
            return Animal.objects.annotate(double=F("weight") * 2).select_related("cage").get()

        cache.get_or_set("row", load, copy="none")
        do(cache.get("row"))
        cache.get("row")
        assert [change["where"] for change in changes] == [where]

    def test_looking_is_no_change(self, changes) -> None:
        """A deferred column is loaded when it is looked at, and a relation that was followed is not kept."""
        Animal.objects.create(name="a", cage=Cage.objects.create(name="c"))
        cache.get_or_set("row", lambda: Animal.objects.only("cage").get(), copy="none")
        for _ in range(3):
            row = cache.get("row")
            assert (row.name, row.cage.name, list(row.foods.all())) == ("a", "c", [])
        assert not changes

    def test_looking_at_a_file_is_no_change(self, changes) -> None:
        """Its name becomes an object then."""
        cache.get_or_set("file", lambda: Document(pk=1, file="a.txt"), copy="none")
        for _ in range(3):
            assert cache.get("file").file.name == "a.txt"
        assert not changes
        cache.get("file").file = "b.txt"
        assert cache.get("file") is None
        assert changes[0]["where"] == ".file"

    def test_clones_are_not_watched(self, changes) -> None:
        cache.get_or_set("list", lambda: [1])
        cache.get("list").append(2)
        assert cache.get("list") == [1]
        assert not changes
