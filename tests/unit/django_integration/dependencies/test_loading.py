"""Values fall when what they were made from changes, however they were loaded."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction
from django.utils.functional import SimpleLazyObject

from django_integration import Loaded, cache, cached, depends_on, invalidate, tag
from django_integration.reads.default_cache import default_cache
from invalidator.extending import COPIES
from tests.support import Thread, wait_until
from tests.unit.django_integration.zoo.models import Animal, Cage, Food, Note

pytestmark = pytest.mark.usefixtures("db", "leased")


@pytest.fixture(autouse=True)
def leased() -> Iterator[None]:
    """What a test loads is leased from the beginning."""
    assert default_cache().bus.wait_until_leased(20)
    yield
    default_cache().bus.clear()


def tags(key: str) -> set[str]:
    """What the entry of *key* carries."""
    entry = default_cache().peek(key)
    assert entry is not None, "it is not cached"
    return set(entry.tags)


def test_a_value_falls_with_what_it_was_made_from() -> None:
    cage = Cage.objects.create(name="old")
    load = lambda: Cage.objects.get(pk=cage.pk).name  # noqa: E731
    assert [cache.get_or_set("a", load) for _ in range(2)] == ["old", "old"]
    Cage.objects.create(name="another")
    assert "a" in cache
    cage.name = "new"
    cage.save()
    assert cache.get_or_set("a", load) == "new"


def test_tags_and_depends_on_add() -> None:
    def load() -> int:
        depends_on(Food, tag("prices"))
        return Cage.objects.count()

    cache.get_or_set("a", load, tags=["given"])
    assert tags("a") == {"given", "zoo.food", "prices", "zoo.cage"}


def test_what_a_loader_decides_itself_is_kept() -> None:
    cache.get_or_set("a", lambda: Loaded(Cage.objects.count(), tags=["own"]))
    assert tags("a") == {"own", "zoo.cage"}


def test_tracking_can_be_turned_off() -> None:
    cache.get_or_set("a", Cage.objects.count, tags=["t"], track=False)
    assert tags("a") == {"t"}


def test_async_loaders_are_recorded() -> None:
    async def load() -> int:
        return await Cage.objects.acount()

    assert asyncio.run(cache.aget_or_set("a", load)) == 0
    assert tags("a") == {"zoo.cage"}

    async def untracked() -> int:
        return await Cage.objects.acount()

    asyncio.run(cache.aget_or_set("b", untracked, track=False))
    assert tags("b") == set()


def test_a_failed_load_is_the_callers() -> None:
    with pytest.raises(Cage.DoesNotExist):
        cache.get_or_set("a", lambda: Cage.objects.get(pk=1))
    assert "a" not in cache


class TestNested:
    def test_a_miss_hands_up(self) -> None:
        cache.get_or_set("page", lambda: cache.get_or_set("part", Cage.objects.count))
        Cage.objects.create()
        assert "part" not in cache
        assert "page" not in cache

    @pytest.mark.parametrize(
        "use",
        [
            lambda: cache.get_or_set("part", lambda: 1 / 0),
            lambda: cache.get("part"),
            lambda: cache.get_many(["part", "other"])["part"],
            lambda: asyncio.run(_async_part()),
        ],
    )
    def test_a_hit_hands_up(self, use: Callable[[], Any]) -> None:
        cache.get_or_set("part", Cage.objects.count, tags=["own"])
        assert cache.get_or_set("page", use) == 0
        cache.get_or_set("site", lambda: cache.get("page"))
        assert "site" in cache
        Cage.objects.create()
        assert "page" not in cache
        assert "site" not in cache

    def test_the_key_of_a_part_counts(self) -> None:
        cache.get_or_set("part", lambda: 1)
        cache.get_or_set("page", lambda: cache.get("part"))
        cache.get_or_set("site", lambda: cache.get("page"))
        invalidate("part")
        assert cache.get_many(["page", "site"]) == {}

    def test_a_page_that_fell_alone_is_cached_again(self) -> None:
        cache.get_or_set("part", lambda: 1)
        for _ in range(2):
            cache.get_or_set("page", lambda: cache.get("part"))
            assert "page" in cache
            invalidate("page")

    def test_what_is_not_tracked_inside_is_not_recorded_outside(self) -> None:
        cache.get_or_set("page", lambda: cache.get_or_set("part", Cage.objects.count, track=False))
        assert tags("page") == set()
        invalidate("part")
        assert "page" not in cache

    def test_who_catches_an_error_depends_on_what_led_to_it(self) -> None:
        def load() -> str:
            try:
                return str(cache.get_or_set("part", lambda: Cage.objects.get(name="x").name))
            except Cage.DoesNotExist:
                return "none"

        assert cache.get_or_set("page", load) == "none"
        Cage.objects.create(name="x")
        assert cache.get_or_set("page", load) == "x"

    def test_also_when_another_thread_has_loaded_it(self) -> None:
        """What that one read is older than this loader."""
        begun, go_on = threading.Event(), threading.Event()

        def fail() -> None:
            begun.set()
            go_on.wait()
            raise LookupError

        def load() -> str:
            try:
                return str(cache.get_or_set("part", fail))
            except LookupError:
                return "none"

        flying = Thread(lambda: cache.get_or_set("part", fail))
        begun.wait()
        late = Thread(lambda: cache.get_or_set("page", load))
        wait_until(lambda: cache.stats().joins >= 1)
        go_on.set()
        with pytest.raises(LookupError):
            flying.outcome()
        assert late.outcome() == "none"
        assert "page" not in cache

    def test_a_miss_is_remembered_for_a_set_inside_a_loader(self) -> None:
        def load() -> bool:
            assert cache.get("inner") is None
            invalidate("inner")
            return cache.set("inner", "old")

        assert cache.get_or_set("page", load) is False


async def _async_part() -> Any:
    async def never() -> None:
        raise AssertionError

    return await cache.aget_or_set("part", never)


class TestResults:
    @pytest.mark.parametrize(
        "load",
        [
            lambda: Cage.objects.order_by("pk"),
            lambda: {"cages": [Cage.objects.all()]},
            lambda: (Cage.objects.all(), 1),
            lambda: Cage.objects.raw("SELECT * FROM zoo_cage") if depends_on(Cage) is None else None,
            lambda: Loaded(Cage.objects.all()),
        ],
    )
    def test_query_sets_are_evaluated_while_recorded(self, load: Callable[[], Any]) -> None:
        Cage.objects.create(name="old")
        rows = cache.get_or_set("a", load)
        while not hasattr(rows, "_result_cache"):
            rows = next(iter(rows.values())) if isinstance(rows, dict) else rows[0]
        assert rows._result_cache is not None
        assert "zoo.cage" in tags("a")

    def test_asynchronously_too(self) -> None:
        async def load() -> Any:
            return Cage.objects.all()

        asyncio.run(cache.aget_or_set("a", load))
        assert tags("a") == {"zoo.cage"}

    def test_a_list_within_itself_is_no_trap(self) -> None:
        def load() -> list[Any]:
            rows: list[Any] = [Cage.objects.all()]
            rows.append(rows)
            return rows

        cache.get_or_set("a", load)
        assert tags("a") == {"zoo.cage"}

    @pytest.mark.parametrize(
        "load", [lambda: (row for row in Cage.objects.all()), lambda: iter([1]), lambda: map(str, [1])]
    )
    def test_what_can_be_read_once_is_refused(self, load: Callable[[], Any]) -> None:
        with pytest.raises(TypeError, match="return a list"):
            cache.get_or_set("a", load)


class TestTransactions:
    def test_what_a_transaction_has_written_is_not_shared(self) -> None:
        cage = Cage.objects.create(name="old")
        load = lambda: Cage.objects.get(pk=cage.pk).name  # noqa: E731
        with transaction.atomic():
            cage.name = "new"
            cage.save()
            assert cache.get_or_set("a", load) == "new"
            assert Thread(lambda: cache.get("a")).outcome() is None
            transaction.set_rollback(True)
        assert cache.get_or_set("a", load) == "old"

    def test_a_loader_that_writes_is_loaded_again(self) -> None:
        @cached(key="writes")
        def load() -> int:
            Note.objects.create(text="seen")
            return Note.objects.count()

        assert [load(), load()] == [1, 2]


def test_relations_read_in_a_loader_count() -> None:
    cage = Cage.objects.create(name="old")
    ape = Animal.objects.create(cage=cage)
    load = lambda: Animal.objects.get(pk=ape.pk).cage.name  # noqa: E731
    assert cache.get_or_set("a", load) == "old"
    cage.name = "new"
    cage.save()
    assert cache.get_or_set("a", load) == "new"


LEFT_TO_READ: dict[str, tuple[Callable[[], Any], Callable[[Any], str]]] = {
    "a query set": (lambda: Cage.objects.order_by("pk"), lambda found: found[0].name),
    "in a dict": (lambda: {"rows": Cage.objects.order_by("pk")}, lambda found: found["rows"][0].name),
    "a lazy row": (lambda: SimpleLazyObject(Cage.objects.get), lambda found: found.name),
    "lazy rows in a list": (lambda: [SimpleLazyObject(Cage.objects.get)], lambda found: found[0].name),
    "a row with deferred fields": (lambda: Cage.objects.only("name").order_by("pk"), lambda found: found[0].name),
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize(("make", "name_in"), LEFT_TO_READ.values(), ids=LEFT_TO_READ)
def test_what_a_coroutine_leaves_to_be_read_is_not_read_on_the_event_loop(make, name_in, track, copy) -> None:
    """Django refuses that; nor does a hit read anything."""
    Cage.objects.create(name="big")

    async def load() -> Any:
        return make()

    @cached(key="b", track=track, copy=copy)
    async def function() -> Any:
        return make()

    async def main() -> None:
        for _ in range(2):
            for found in (await cache.aget_or_set("a", load, track=track, copy=copy), await function()):
                if track or copy != "none":  # else nobody has read it, and that is for its readers
                    assert name_in(found) == "big"

    asyncio.run(main())
