"""Django's cache API over a near cache: options, room, coroutines, and what Django's own tests do not ask."""

import asyncio
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from django.conf import settings
from django.core.cache import CacheKeyWarning, caches
from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

from django_integration import bus, invalidate, tag
from django_integration.backend import NearCacheBackend, settling

from ..conftest import WAIT_S
from ..zoo.models import Cage
from .conftest import ONE_LEVEL, OURS


@pytest.fixture(autouse=True)
def cache(one_level):
    return one_level


@pytest.mark.parametrize("options", [{"COPY": "shallow"}, {"MAXSIZE": 5}])
def test_unknown_options_are_refused(options) -> None:
    with pytest.raises(ImproperlyConfigured, match=next(iter(options))):
        NearCacheBackend("", {"OPTIONS": options})


class TestRoom:
    def test_it_is_bounded_by_default_as_the_setting_says(self) -> None:
        assert NearCacheBackend("", {})._max_entries == 50_000
        with override_settings(INVALIDATOR={**settings.INVALIDATOR, "MAXSIZE": 7}):
            assert NearCacheBackend("", {})._max_entries == 7

    def test_what_is_used_stays(self) -> None:
        small = NearCacheBackend("small", {"OPTIONS": {"MAX_ENTRIES": 9}})
        for number in range(9):
            small.get_or_set(number, number)
        for number in range(6):
            assert small.get(number) == number
        small.set("another", 1)
        assert [number for number in range(9) if number in small] == list(range(6))

    def test_at_most_so_many_leave_at_once(self, monkeypatch) -> None:
        monkeypatch.setattr("django_integration.backend.backend.MOST_CULLED", 2)
        small = NearCacheBackend("bounded", {"OPTIONS": {"MAX_ENTRIES": 30}})
        for number in range(31):
            small.set(number, number)
        assert len(small._place.near) == 29


class TestAsync:
    def test_what_is_in_memory_needs_no_thread(self, cache, monkeypatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a thread was used")

        cache.set_many({"a": [1], "b": 2})

        async def main() -> None:
            monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
            assert await cache.aget("a") == [1]
            assert await cache.aget_many(["a", "b"]) == {"a": [1], "b": 2}
            assert await cache.ahas_key("a")
            assert await cache.aget_or_set("a", 5) == [1]
            assert await cache.aget("absent", 7) == 7
            await cache.aset("absent", 8)  # a fill
            assert await cache.aget_or_set("loaded", lambda: 9) == 9
            monkeypatch.undo()

        asyncio.run(main())

    def test_publishing_does_not_hold_the_loop_up(self, cache, monkeypatch) -> None:
        """Redis may take its time."""
        begun, may_go_on = threading.Event(), threading.Event()
        publish = bus()._link.publish

        def slow(*arguments: Any) -> Any:
            begun.set()
            may_go_on.wait(WAIT_S)
            return publish(*arguments)

        monkeypatch.setattr(bus()._link, "publish", slow)

        async def main() -> None:
            writing = asyncio.create_task(cache.aset("a", 1))
            while not begun.is_set():  # noqa: ASYNC110 - a thread sets it
                await asyncio.sleep(0)
            assert not writing.done()
            assert await cache.aget("a") == 1, "it is in force here"
            may_go_on.set()
            await writing

        asyncio.run(main())

    def test_a_coroutine_function_may_load(self, cache) -> None:
        async def load() -> int:
            await asyncio.sleep(0)
            return 5

        async def main() -> list[int]:
            return await asyncio.gather(*(cache.aget_or_set("a", load) for _ in range(3)))

        assert asyncio.run(main()) == [5, 5, 5]


@dataclass(frozen=True)
class Frozen:
    """Cannot be changed, but what it holds can."""

    rows: Any


class Answer(NamedTuple):
    """Likewise."""

    rows: Any


class ReadsWhenPickled:
    """What Django knows nothing of."""

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (Cage.objects.get().name,)


def rows() -> QuerySet[Cage]:
    return Cage.objects.order_by("pk")


UNREAD: dict[str, tuple[Callable[[], Any], Callable[[Any], str]]] = {
    "a query set": (rows, lambda found: found[0].name),
    "values": (lambda: rows().values_list("name", flat=True), lambda found: found[0]),
    "a query set in a dict": (lambda: {"rows": rows()}, lambda found: found["rows"][0].name),
    "in a named tuple": (lambda: Answer(rows()), lambda found: found.rows[0].name),
    "in a frozen dataclass": (lambda: Frozen(rows()), lambda found: found.rows[0].name),
    "a lazy row": (lambda: SimpleLazyObject(Cage.objects.get), lambda found: found.name),
    "lazy rows in a list": (lambda: [SimpleLazyObject(Cage.objects.get)], lambda found: found[0].name),
    "an object that reads when it is pickled": (ReadsWhenPickled, str),
}
"""What asks the database when it is copied; and how to find the name of a cage in what is handed out."""


async def aset_after_a_miss(cache: NearCacheBackend, value: Any) -> None:
    assert await cache.aget("k") is None
    await cache.aset("k", value)


async def aadd_after_a_miss(cache: NearCacheBackend, value: Any) -> None:
    assert await cache.aget("k") is None
    assert await cache.aadd("k", value)


async def aload(cache: NearCacheBackend, value: Any) -> None:
    async def load() -> Any:
        return value

    await cache.aget_or_set("k", load)


STORING: dict[str, Callable[[NearCacheBackend, Any], Awaitable[Any]]] = {
    "aset": lambda cache, value: cache.aset("k", value),
    "aset after a miss": aset_after_a_miss,
    "aset_many": lambda cache, value: cache.aset_many({"k": value, "l": 1}),
    "aadd": lambda cache, value: cache.aadd("k", value),
    "aadd after a miss": aadd_after_a_miss,
    "aget_or_set": lambda cache, value: cache.aget_or_set("k", value),
    "aget_or_set of a function": lambda cache, value: cache.aget_or_set("k", lambda: value),
    "aget_or_set of a coroutine function": aload,
}


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Caches that copy in different ways, and one with a second level."""
    monkeypatch.setattr(settling, "GRACE_NS", 0)
    below = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "below"}
    live = {"BACKEND": OURS, "LOCATION": "live", "OPTIONS": {"COPY": "none"}}
    over = {"BACKEND": OURS, "LOCATION": "over", "OPTIONS": {"L2": "below"}}
    with override_settings(CACHES={**ONE_LEVEL, "live": live, "over": over, "below": below}):
        yield
        settling.abandon()


class TestCopyingOnAnEventLoop:
    """A query set that was not read yet, or a lazy object such as `request.user`, is read in a thread."""

    @pytest.fixture
    def cage(self, db: None) -> Cage:
        return Cage.objects.create(name="big")

    @pytest.mark.parametrize("store", STORING.values(), ids=STORING)
    @pytest.mark.parametrize(("make", "name_in"), UNREAD.values(), ids=UNREAD)
    @pytest.mark.parametrize("alias", ["default", "over"])
    def test_what_reads_when_it_is_copied(self, copying, cage, alias, make, name_in, store) -> None:
        cache = caches[alias]

        async def main() -> None:
            await cache.aclear()
            await store(cache, make())
            for _ in range(2):  # below, and near
                assert name_in(await cache.aget("k")) == "big", "a hit asks no database"

        asyncio.run(main())

    @pytest.mark.parametrize("store", STORING.values(), ids=STORING)
    @pytest.mark.parametrize("kind", ["a query set", "a lazy row"])
    def test_what_is_not_copied_is_left_to_its_readers(self, copying, cage, kind, store) -> None:
        """With COPY="none" nothing has to be read."""
        make, name_in = UNREAD[kind]
        cache = caches["live"]
        cache.clear()
        asyncio.run(store(cache, make()))
        assert name_in(cache.get("k")) == "big"

    @pytest.mark.parametrize("alias", ["default", "over"])
    def test_a_row_with_deferred_fields(self, copying, cage, alias) -> None:
        row = Cage.objects.defer("name").get()

        async def main() -> None:
            await caches[alias].aset("k", row)
            assert (await caches[alias].aget("k")).get_deferred_fields() == {"name"}

        asyncio.run(main())

    def test_what_cannot_read_stays_on_the_loop(self, cache, monkeypatch) -> None:
        """A thread for each `aset` of a number would cost more than all else."""

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a thread was used")

        async def main() -> None:
            monkeypatch.setattr("django_integration.backend.levels.sync_to_async", refuse)
            for value in (1, "text", None, {"a": [1.5, (b"2", frozenset({3}))]}, datetime.now(UTC), Decimal(1)):
                assert await cache.aget("k") is None
                await cache.aset("k", value)
                assert await cache.aget("k") == value
                await cache.adelete("k")
            monkeypatch.undo()

        asyncio.run(main())

    def test_what_was_invalidated_while_a_query_set_was_read_is_not_stored(self, cache) -> None:
        """The change is published all the same: what is cached elsewhere is older still."""

        class ReadsSlowly:
            def __reduce__(self) -> tuple[Any, ...]:
                bus().invalidate(":1:k")
                return str, ("old",)

        async def main() -> None:
            await cache.aset("k", ReadsSlowly())
            assert await cache.aget("k") is None

        asyncio.run(main())
        cache.set("k", ReadsSlowly())
        assert cache.get("k") is None


@pytest.mark.parametrize("how", ["get", "get_many", "get_or_set", "aget", "aget_many"])
def test_what_a_reader_changes_does_not_change_the_cache(cache, how) -> None:
    cache.set("a", {"list": [1]})
    read = {
        "get": lambda: cache.get("a"),
        "get_many": lambda: cache.get_many(["a"])["a"],
        "get_or_set": lambda: cache.get_or_set("a", 5),
        "aget": lambda: asyncio.run(cache.aget("a")),
        "aget_many": lambda: asyncio.run(cache.aget_many(["a"]))["a"],
    }[how]
    read()["list"].append(2)
    assert read() == {"list": [1]}


def test_timeouts(cache) -> None:
    for key, timeout in (("zero", 0), ("negative", -5), ("zero float", 0.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheKeyWarning)
            cache.set(key, 1, timeout)
            assert cache.get(key) is None
            assert cache.get_or_set(key, 2, timeout) == 2
            assert cache.get(key) is None
    cache.set("a", 1, float("inf"))
    assert cache._place.near.peek(":1:a").expires_at == 2**63 - 1
    forever = NearCacheBackend("forever", {"TIMEOUT": None})
    forever.set("a", 1)
    assert forever._place.near.peek(":1:a").expires_at == 2**63 - 1


class TestTags:
    def test_every_entry_carries_them(self) -> None:
        cache = NearCacheBackend("tagged", {"OPTIONS": {"TAGS": ["prices"]}})
        ways = {"a": lambda: cache.set("a", 1), "b": lambda: cache.add("b", 1), "c": lambda: cache.get_or_set("c", 1)}
        for key, fill in ways.items():
            for missed in (True, False):
                cache.get(key) if missed else None
                fill()
                assert cache.get(key) == 1
                invalidate(tag("prices"))
                assert cache.get(key) is None
        cache.get("d")
        cache.set("d", 1)
        cache.clear()
        assert cache.get("d") is None

    def test_a_clear_publishes_its_own_tag_alone(self) -> None:
        cache = NearCacheBackend("tagged", {"OPTIONS": {"TAGS": ["prices"]}})
        since = bus().clock()
        cache.clear()
        assert not bus().was_invalidated((), ["prices"], since=since)

    @pytest.mark.parametrize(
        ("options", "what"),
        [({"TAGS": "prices"}, "prices"), ({"TAGS": [""]}, "empty"), ({"TAGS": ["a"], "L2": "x"}, "knows no tags")],
    )
    def test_what_cannot_work(self, options: dict[str, object], what: str) -> None:
        with pytest.raises(ImproperlyConfigured, match=what):
            NearCacheBackend("", {"OPTIONS": options})
