"""
What a transaction that has written may leave in a cache, or hand to other threads: nothing that a rollback would make
untrue. Every way to write, every way to find rows, every door to the caches.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, connections, transaction
from django.db.models import Count, Exists, OuterRef, Prefetch
from django.template import Context, Engine

from django_integration import bus, cache, cached, coherent_lru_cache, model_tag, row_tags
from django_integration.reads.default_cache import default_cache
from django_integration.transactions.outgoing import invalidate
from invalidator import Loaded
from tests.support import Thread

from ..conftest import WAIT_S
from ..zoo.models import Animal, Aquarium, Building, Cage, Food, Pet

pytestmark = pytest.mark.usefixtures("db", "rows")


@pytest.fixture
def rows(db: None) -> Iterator[None]:
    """One animal in a cage, that eats."""
    assert bus().wait_until_leased(WAIT_S)
    fruit = Food.objects.create(name="fruit")
    cage, _ = Cage.objects.create(name="a"), Cage.objects.create(name="b")
    Animal.objects.create(name="ape", cage=cage).foods.add(fruit)
    Aquarium.objects.create(name="pool", litres=5)
    yield
    default_cache().evict_loaded_since(0)


@contextlib.contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction that does not happen."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def elsewhere(call: Callable[[], Any]) -> Any:
    """What *call* returns in another thread, with connections of its own."""

    def run() -> Any:
        try:
            return call()
        finally:
            connections.close_all()

    return Thread(run).outcome()


def ape() -> Animal:
    return Animal.objects.get(name="ape")


def sql(text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(text)


def save(**changes: Any) -> None:
    row = ape()
    for name, value in changes.items():
        setattr(row, name, value)
    row.save()


def bulk_update() -> None:
    row = ape()
    row.cage = Cage.objects.get(name="b")
    Animal.objects.bulk_update([row], ["cage"])


WRITES: dict[str, Callable[[], object]] = {
    "delete of a row": lambda: ape().delete(),
    "delete of a query set": lambda: Animal.objects.filter(name="ape").delete(),
    "delete by a proxy": lambda: Pet.objects.all().delete(),
    "move by a save": lambda: save(cage=Cage.objects.get(name="b")),
    "move by update_fields": lambda: Animal(pk=ape().pk, cage=None).save(update_fields=["cage"]),
    "move by update": lambda: Animal.objects.filter(name="ape").update(cage=None),
    "move by bulk_update": bulk_update,
    "SQL that deletes links": lambda: sql("DELETE FROM zoo_animal_foods"),
    "SQL that moves": lambda: sql("UPDATE zoo_animal SET cage_id = NULL"),
    "a link removed": lambda: [ape().foods.clear()],
    "a cascade": lambda: [ape().foods.clear(), Cage.objects.filter(name="a").delete()],
}

READS: dict[str, Callable[[], Any]] = {
    "by a column": lambda: [names(Animal.objects.filter(cage=cage)) for cage in Cage.objects.filter(name="a")],
    "by a relation": lambda: names(Animal.objects.filter(cage__name="a")),
    "of a related manager": lambda: [names(cage.animal_set.all()) for cage in Cage.objects.filter(name="a")],
    "everything": lambda: [str((each.cage, *each.foods.all())) for each in Animal.objects.order_by("pk")],
    "count": lambda: Animal.objects.filter(cage__name="a", foods__name="fruit").count(),
    "exists": lambda: Animal.objects.filter(cage__name="a", foods__isnull=False).exists(),
    "aggregate": lambda: Cage.objects.aggregate(n=Count("animal__foods"))["n"],
    "annotation": lambda: [each.n for each in Cage.objects.annotate(n=Count("animal__foods")).order_by("name")[:1]],
    "values": lambda: list(Animal.objects.filter(foods__name="fruit").values_list("cage__name", flat=True)),
    "subquery": lambda: names(
        Cage.objects.filter(Exists(Animal.foods.through.objects.filter(animal__cage=OuterRef("pk"))))
    ),
    "prefetch": lambda: [
        [[str(food) for food in each.foods.all()] for each in cage.animal_set.all()]
        for cage in Cage.objects.filter(name="a").prefetch_related(
            Prefetch("animal_set", Animal.objects.prefetch_related("foods"))
        )
    ],
}  # fmt: skip


def names(found: Any) -> list[str]:
    return sorted(each.name for each in found)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("write", WRITES)
def test_what_a_transaction_finds_after_its_write_is_its_own(write: str, read: str) -> None:
    """A row that has left a list is known by its own tag, which a list that is read afterwards does not carry."""

    def load() -> Any:
        return cache.get_or_set("names", READS[read])

    before = READS[read]()
    with rolled_back():
        WRITES[write]()
        assert load() == READS[read](), "the transaction sees what it has written"
        assert elsewhere(load) == before, "and nobody else does"
    assert load() == before
    assert READS[read]() == before


@pytest.mark.parametrize(
    "write",
    [
        lambda: Aquarium.objects.get().delete(),
        lambda: Building.objects.update(name="other"),
        lambda: Aquarium.objects.update(litres=7),
        lambda: Aquarium.objects.filter(litres=5).update(name="other"),
        lambda: sql("UPDATE zoo_building SET name = 'other'"),
    ],
)
def test_rows_of_a_parent_and_of_its_child_are_one(write: Callable[[], object]) -> None:
    def load() -> Any:
        return cache.get_or_set(
            "names", lambda: [*names(Building.objects.filter(name="pool")), *names(Aquarium.objects.filter(litres=5))]
        )

    with rolled_back():
        write()
        load()
    assert load() == ["pool", "pool"]


def test_untouched_rows_that_are_found_by_primary_key_are_shared() -> None:
    """A page of one product is still cached by a request that has written another one."""
    a, b = Cage.objects.order_by("name")
    with transaction.atomic():
        Cage.objects.filter(pk=a.pk).first().save()
        assert cache.get_or_set("names", lambda: Cage.objects.get(pk=b.pk).name) == "b"
        assert elsewhere(lambda: cache.get("names")) == "b"
        assert cache.get_or_set("page", lambda: Cage.objects.get(pk=a.pk).name) == "a"
        assert elsewhere(lambda: cache.get("page")) is None
        transaction.set_rollback(True)
    assert [cache.get("names"), cache.get("page")] == ["b", None]


def test_another_table_is_shared() -> None:
    with rolled_back():
        Food.objects.create()
        assert cache.get_or_set("names", lambda: names(Cage.objects.filter(name="a"))) == ["a"]
        assert elsewhere(lambda: cache.get("names")) == ["a"]


# ------------------------------------------------------------------------------------------------- every door


@cached(key="names")
def apes() -> list[str]:
    return names(Animal.objects.filter(cage__name="a"))


@cached(key="outer")
def outer() -> list[str]:
    return [f"{name}!" for name in apes()]


@cached(key="outest")
def outest() -> list[str]:
    Cage.objects.get(name="a")
    return [f"{name}!" for name in outer()]


@cached(key="outer")
async def outer_async() -> list[str]:
    return [f"{name}!!" for name in await sync_to_async(apes)()]


async def in_a_task() -> list[str]:
    return await asyncio.create_task(outer_async())


@coherent_lru_cache(tags=[model_tag(Food)])
def tagged() -> list[str]:
    return [f"{name}!" for name in outer()]


@coherent_lru_cache
def untagged() -> list[str]:
    return [f"{name}!" for name in outer()]


@cached(key="page", track=False, tags=[model_tag(Food)])
def untracked() -> list[str]:
    return [f"{name}!" for name in outer()]


def in_a_template() -> list[str]:
    text = '{% load invalidator %}{% cached "names" 60 %}{% for name in names %}{{ name }}!{% endfor %}{% endcached %}'
    engine = Engine(libraries={"invalidator": "django_integration.templatetags.invalidator"})
    return [engine.from_string(text).render(Context({"names": outer}))]


DOORS: dict[str, Callable[[], list[str]]] = {
    "cached": apes,
    "nested": outer,
    "nested twice": outest,
    "async": async_to_sync(in_a_task),
    "a thread": lambda: async_to_sync(cache.aget_or_set)("page", sync_to_async(outest)),
    "get_or_set": lambda: cache.get_or_set("page", lambda: [f"{name}!" for name in outer()]),
    "Loaded": lambda: cache.get_or_set("page", lambda: Loaded([f"{name}!" for name in outer()], tags=["t"])),
    "lru with tags": tagged,
    "lru without tags": untagged,
    "not tracked": untracked,
    "template": in_a_template,
}
CALLED = {"cached": ["ape"], "nested": ["ape!"]}


@pytest.mark.parametrize("write", ["delete of a row", "move by a save"])
@pytest.mark.parametrize("savepoint", [False, True])
@pytest.mark.parametrize("door", DOORS)
def test_what_was_made_of_it_is_its_own_too(door: str, savepoint: bool, write: str) -> None:
    """The outer value carries no tag of the row that has left, and its tags do not tell of what it was made."""
    call, expected = DOORS[door], CALLED.get(door, ["ape!!"])

    def change_and_call() -> None:
        WRITES[write]()
        assert call() in ([], [""])
        assert elsewhere(call) == expected

    for function in (tagged, untagged):
        function.cache_clear()
    with transaction.atomic():
        if savepoint:
            with rolled_back():
                change_and_call()
            assert call() == expected
        else:
            change_and_call()
        transaction.set_rollback(True)
    assert call() == expected


def test_what_is_set_after_a_write_says_by_its_tags_of_what_it_was_made() -> None:
    def may(tags: list[str]) -> bool:
        with rolled_back():
            Animal.objects.create()
            return cache.set("page", 1, tags=tags)

    assert may([model_tag(Food)])
    assert may([*row_tags(Cage, 1)])
    assert not may([model_tag(Animal)])
    assert not may([])
    assert not may(["a tag of one's own"])
    assert not may([model_tag(Food), "a tag of one's own"])


def test_tags_of_ones_own_do_not_say_what_was_read() -> None:
    """Nothing is recorded, since it was read before, and it is not committed."""
    with rolled_back():
        made = Cage.objects.create(name="never")
        assert cache.get_or_set("page", lambda: made.name, tags=["mine"]) == "never"
        assert elsewhere(lambda: cache.get("page")) is None
    assert cache.get("page") is None


def test_what_a_cached_function_sets_may_be_made_of_what_it_has_read() -> None:
    def load() -> list[str]:
        found = names(Animal.objects.filter(cage__name="a"))
        cache.set("page", found, tags=[model_tag(Aquarium)])
        return found

    with rolled_back():
        ape().delete()
        cache.get_or_set("names", load)
        assert elsewhere(lambda: cache.get("page")) is None
    assert cache.get("page") is None


def test_results_of_a_function_with_tags_of_its_own_are_kept_only_before_the_first_write() -> None:
    calls = []

    @coherent_lru_cache(tags=["a tag of one's own"])
    def own() -> int:
        calls.append(1)
        return len(calls)

    with transaction.atomic():
        assert [own(), own()] == [1, 1]
        own.cache_clear()
    with rolled_back():
        Food.objects.create()
        assert [own(), own()] == [2, 3]
    assert own() == 4


# --------------------------------------------------------------------------- loads that span the end of a stretch


def test_a_load_that_has_read_before_the_write_and_ends_after_it_is_its_own() -> None:
    def load() -> list[str]:
        found = names(Animal.objects.filter(cage__name="a"))
        ape().delete()
        return found

    with rolled_back():
        cache.get_or_set("names", load)
    assert cache.get("names") is None


@pytest.mark.parametrize("is_tracked", [True, False])
@pytest.mark.parametrize("outside", [True, False])
def test_a_load_in_which_something_was_rolled_back_is_not_kept(outside: bool, is_tracked: bool) -> None:
    """When it ends, nothing is uncommitted any more, and its value holds what never happened."""

    def load() -> list[str]:
        with rolled_back():
            ape().delete()
            return names(Animal.objects.filter(cage__name="a"))

    with contextlib.nullcontext() if outside else transaction.atomic():
        assert cache.get_or_set("names", load, track=is_tracked, tags=[model_tag(Food)]) == []
        assert cache.get("names") is None
    assert cache.get("names") is None
    assert apes() == ["ape"]


def test_results_of_a_function_in_which_something_was_rolled_back_are_not_kept() -> None:
    @coherent_lru_cache(tags=[model_tag(Food)])
    def reckless() -> list[str]:
        with rolled_back():
            ape().delete()
            return names(Animal.objects.filter(cage__name="a"))

    reckless()
    assert reckless.cache_info().currsize == 0


def test_a_load_whose_inner_load_was_rolled_back_is_not_kept() -> None:
    def load() -> list[str]:
        with rolled_back():
            ape().delete()
            return apes()

    assert cache.get_or_set("page", load) == []
    assert cache.get("page") is None


def test_who_joined_a_load_is_not_given_what_it_has_rolled_back() -> None:
    joined = threading.Event()

    def load() -> list[str]:
        with rolled_back():
            ape().delete()
            found = names(Animal.objects.filter(cage__name="a"))
        other.start()
        assert joined.wait(WAIT_S)
        return found

    def join() -> None:
        default_cache()._loads._is_valid = noticed
        got.append(cache.get_or_set("names", lambda: names(Animal.objects.filter(cage__name="a"))))
        connections.close_all()

    def noticed(slots: Any, loaded_at: int) -> bool:
        joined.set()
        return valid(slots, loaded_at)

    got: list[list[str]] = []
    valid = default_cache()._loads._is_valid
    other = threading.Thread(target=join)
    try:
        assert cache.get_or_set("names", load) == []
        other.join(WAIT_S)
    finally:
        default_cache()._loads._is_valid = valid
    assert got == [["ape"]]


def test_a_rollback_elsewhere_keeps_nothing_out() -> None:
    """Threads roll back all the time; only the loads around a rollback have seen what it took back."""

    def load() -> list[str]:
        elsewhere(roll_back_elsewhere)
        return names(Animal.objects.filter(cage__name="a"))

    def roll_back_elsewhere() -> None:
        with rolled_back():
            Food.objects.create()

    cache.get_or_set("names", load)
    assert cache.get("names") == ["ape"]


def test_the_next_load_is_kept() -> None:
    with transaction.atomic():
        with rolled_back():
            ape().delete()
            apes()
        assert apes() == ["ape"]
        assert cache.get("names") == ["ape"]


def test_an_invalidation_by_hand_is_a_write_of_what_it_names() -> None:
    with rolled_back():
        invalidate(ape())
        apes()
        assert cache.get("names") is None
