"""A row that is handed out live keeps what its loader has loaded, and nothing that a reader follows."""

import copy
import pickle
import threading
from typing import Any

import pytest
from django.db import connection, models
from django.db.models import prefetch_related_objects
from django.test.utils import CaptureQueriesContext

from django_integration import bus, cache, cached, coherent_lru_cache
from django_integration.copies import live_rows
from django_integration.copies.live_rows import LoadedRelations
from invalidator import NearCache

from ..zoo.models import Animal, Aquarium, Building, Cage, Crate, Food, Label

pytestmark = pytest.mark.usefixtures("db")


def animal() -> Animal:
    return Animal.objects.get()


def of_the_library(load: Any) -> Any:
    near = NearCache(bus())
    return lambda: near.get_or_set("live", load)


DOORS: dict[str, Any] = {
    "cached": cached(key="live", copy="none"),
    "get_or_set": lambda load: lambda: cache.get_or_set("live", load, copy="none"),
    "coherent_lru_cache": coherent_lru_cache,
    "a near cache of the library": of_the_library,
}


@pytest.fixture(params=DOORS)
def live(request, db: None) -> Any:
    """What returns one live row, again and again."""
    cage = Cage.objects.create(name="old")
    Animal.objects.create(name="a", cage=cage)
    return DOORS[request.param]


def queries(function: Any) -> int:
    with CaptureQueriesContext(connection) as caught:
        function()
    return len(caught.captured_queries)


class TestARelationThatAReaderFollows:
    def test_forward(self, live) -> None:
        get = live(animal)
        get()
        assert get() is get()
        for _ in range(2):
            assert get().cage.name == "old"
        Cage.objects.update(name="new")
        assert get().cage.name == "new"

    def test_backward_to_one(self, live) -> None:
        Building.objects.create(name="b")
        get = live(Building.objects.get)
        get()
        with pytest.raises(Aquarium.DoesNotExist):
            get().aquarium  # noqa: B018
        Aquarium.objects.create(building_ptr=Building.objects.get(), name="b", litres=3)
        assert get().aquarium.litres == 3

    def test_generic(self, live) -> None:
        crate = Crate.objects.create()
        label = Label.objects.create(labelled=crate)
        get = live(lambda: Label.objects.get(pk=label.pk))
        get()
        assert get().labelled is not get().labelled

    def test_prefetched(self, live) -> None:
        get = live(animal)
        get()
        prefetch_related_objects([get()], "foods", "cage")
        get().foods.all()
        animal().foods.add(Food.objects.create(name="hay"))
        Cage.objects.update(name="new")
        assert [food.name for food in get().foods.all()] == ["hay"]
        assert get().cage.name == "new"

    def test_followed_in_another_thread(self, live) -> None:
        get = live(animal)
        get()
        row = get()

        def follow() -> None:
            try:
                row.cage  # noqa: B018
            finally:
                connection.close()

        thread = threading.Thread(target=follow)
        thread.start()
        thread.join()
        Cage.objects.update(name="new")
        assert get().cage.name == "new"


class TestWhatTheLoaderHasLoaded:
    def test_it_stays(self, live) -> None:
        get = live(lambda: Animal.objects.select_related("cage").prefetch_related("foods").get())
        get()
        assert queries(lambda: (get().cage.name, list(get().foods.all()))) == 0

    def test_rows_anywhere_in_the_value(self, live) -> None:
        get = live(lambda: {"rows": list(Animal.objects.select_related("cage"))})
        get()
        [row] = get()["rows"]
        assert isinstance(row._state.fields_cache, LoadedRelations)
        assert isinstance(row.cage._state.fields_cache, LoadedRelations)


class TestTheCache:
    def test_a_copy_of_it_is_an_ordinary_one(self) -> None:
        relations = LoadedRelations({"a": 1}, Animal, is_read_back=True)
        for plain in (
            *(relations.copy(), copy.copy(relations), copy.deepcopy(relations)),
            pickle.loads(pickle.dumps(relations)),
        ):
            assert type(plain) is dict
            assert plain == {"a": 1}

    def test_a_change_of_what_is_there_is_a_change(self) -> None:
        relations = LoadedRelations({"a": 1}, Animal, is_read_back=True)
        relations["a"] = 2
        assert relations == {"a": 2}

    def test_who_has_missed_and_fetched_finds_it_once(self) -> None:
        relations = LoadedRelations({}, Animal, is_read_back=True)
        with pytest.raises(KeyError):
            relations["a"]
        relations["a"] = 1
        assert relations["a"] == 1
        with pytest.raises(KeyError):
            relations["a"]

    def test_who_has_not_missed_it_finds_nothing(self) -> None:
        relations = LoadedRelations({}, Animal, is_read_back=True)
        relations["a"] = 1
        with pytest.raises(KeyError):
            relations["a"]

    def test_what_nobody_has_read_back_at_once_is_forgotten(self, monkeypatch) -> None:
        now = [1.0]
        monkeypatch.setattr(live_rows.time, "monotonic", lambda: now[0])
        relations = LoadedRelations({}, Animal, is_read_back=True)
        with pytest.raises(KeyError):
            relations["a"]
        relations["a"] = 1
        now[0] += 1
        with pytest.raises(KeyError):
            relations["a"]

    def test_a_cache_that_is_not_read_back_keeps_nothing(self) -> None:
        relations = LoadedRelations({}, Animal, is_read_back=False)
        with pytest.raises(KeyError):
            relations["a"]
        relations["a"] = 1
        with pytest.raises(KeyError):
            relations["a"]


if hasattr(models, "FETCH_PEERS"):  # Django 6.1

    def test_a_live_row_fetches_for_itself_alone() -> None:
        for name in "ab":
            Animal.objects.create(name=name, cage=Cage.objects.create(name=name))
        rows = Animal.objects.order_by("name").fetch_mode(models.FETCH_PEERS)
        get = cached(key="live", copy="none")(lambda: list(rows.all()))
        get()
        with CaptureQueriesContext(connection) as caught:
            assert [row.cage.name for row in get()] == ["a", "b"]
        assert not any(" IN (" in query["sql"] for query in caught.captured_queries)
        Cage.objects.update(name="new")
        assert [row.cage.name for row in get()] == ["new", "new"]
