"""One that watches a near cache sees everything, may take a load over, and costs nothing when it is gone."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from invalidator.decorator import ABOUT_TO_LOAD
from invalidator.entry import AnyEntry, Entry
from invalidator.near_cache import NearCache
from invalidator.observer import AsyncLoader, Loader, Observer
from invalidator.variants import variant_of
from tests.support import Thread


class Log:
    """Writes down what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.past: set[str] = set()
        """Keys that callers are to load in any case."""

    def loads_anyway(self, key: str, entry: AnyEntry | None) -> bool:
        return key in self.past

    def hit(self, key: str, entry: AnyEntry) -> None:
        self.calls.append(("hit", key, entry.value))

    def missed(self, key: str) -> None:
        self.calls.append(("missed", key))

    def load(self, key: str, loader: Loader, load: Callable[[Loader], AnyEntry]) -> AnyEntry:
        self.calls.append(("load", key))
        if key in self.past:
            return Entry(("aside", loader()), loaded_at=0, slots=())
        return load(lambda: (loader(), self.calls.append(("loaded", key)))[0])

    async def aload(
        self, key: str, loader: AsyncLoader, load: Callable[[AsyncLoader], Awaitable[AnyEntry]]
    ) -> AnyEntry:
        self.calls.append(("load", key))
        if key in self.past:
            return Entry(("aside", await loader()), loaded_at=0, slots=())
        return await load(loader)


@pytest.fixture
def log(it) -> Log:
    it.cache.observer = log = Log()
    return log


def one() -> int:
    return 1


async def async_one() -> int:
    return 1


def test_it_is_one() -> None:
    observer: Observer = Log()
    assert observer


class TestWatching:
    def test_a_cache_has_no_observer_unless_it_is_given_one(self, it, make) -> None:
        assert it.cache.observer is None
        log = Log()
        other = make(observer=log)
        assert other.cache.observer is log
        other.cache.get("a")
        assert log.calls == [("missed", "a")]

    def test_it_sees_hits_misses_and_loads(self, it, log) -> None:
        assert it.cache.get("a") is None
        assert [it.cache.get_or_set("a", one) for _ in range(2)] == [1, 1]
        assert it.cache.get_many(["a", "b"]) == {"a": 1}
        assert it.cache.get_entry("a").value == 1
        assert log.calls == [
            ("missed", "a"),
            *[("missed", "a"), ("load", "a"), ("loaded", "a"), ("hit", "a", 1)],
            *[("hit", "a", 1), ("missed", "b")],
            ("hit", "a", 1),
        ]

    def test_it_sees_the_names_of_variants(self, it, log) -> None:
        """By which they can be invalidated, and printed."""
        one_of_a = variant_of("a", "1")
        assert it.cache.get_or_set(one_of_a, one) == it.cache.get("a") == 1
        assert log.calls == [("missed", "a"), ("load", "a"), ("loaded", "a"), ("hit", "a", 1)]
        assert {key for _, key, *_ in log.calls} == {"a"}

    def test_it_sees_coroutines(self, it, log) -> None:
        async def ask() -> list[Any]:
            return [await it.cache.aget_or_set("a", async_one) for _ in range(2)]

        assert asyncio.run(ask()) == [1, 1]
        assert log.calls == [("missed", "a"), ("load", "a"), ("hit", "a", 1)]

    def test_it_sees_no_peek(self, it, log) -> None:
        it.cache.set("a", 1)
        assert it.cache.peek("a").value == 1
        assert "a" in it.cache
        assert log.calls == []

    def test_every_count_is_what_it_would_be(self, make) -> None:
        watched, plain = make(observer=Log()), make()
        for it in (watched, plain):
            it.cache.get("a")
            it.cache.get_or_set("a", one)
            it.cache.get_or_set("a", one)
            it.cache.get_entry("a")
            it.cache.get_many(["a", "b"])
        assert watched.cache.stats() == plain.cache.stats()

    def test_an_invalidated_entry_is_a_miss(self, it, log) -> None:
        it.cache.set("a", 1)
        it.receive("a")
        it.cache.get("a")
        assert log.calls == [("missed", "a")]

    def test_what_it_raises_reaches_the_caller(self, it, log, monkeypatch) -> None:
        def fail(key: str) -> None:
            raise LookupError

        monkeypatch.setattr(log, "missed", fail)
        with pytest.raises(LookupError):
            it.cache.get("a")

    def test_it_runs_in_the_thread_of_the_caller(self, it, log) -> None:
        threads: list[int] = []
        log.missed = lambda key: threads.append(threading.get_ident())
        it.cache.get("a")
        other = Thread(lambda: (it.cache.get("a"), threading.get_ident())[1]).outcome()
        assert threads == [threading.get_ident(), other]

    def test_when_it_is_gone_a_hit_is_as_before(self, it, log) -> None:
        it.cache.set("a", 1)
        slow = it.cache._slow_path
        it.cache.observer = None
        assert it.cache.get("a") == 1
        assert log.calls == []
        assert (bool(slow), bool(it.cache._slow_path)) == (True, False)


class TestLoadingAnyway:
    def test_a_caller_that_loads_loads_and_nothing_is_counted_or_stored(self, it, log) -> None:
        it.cache.set("a", 1)
        before = it.cache.stats()
        log.past = {"a", "b"}
        assert [it.cache.get_or_set(key, lambda: 2) for key in "ab"] == [("aside", 2)] * 2
        assert it.cache.get_entry("a") is None
        assert it.cache.get("a", ABOUT_TO_LOAD) is ABOUT_TO_LOAD
        assert log.calls == [("load", "a"), ("load", "b")]
        log.past = set()
        assert it.cache.stats() == before
        assert it.cache.get_many(["a", "b"]) == {"a": 1}

    def test_a_coroutine_too(self, it, log) -> None:
        it.cache.set("a", 1)
        log.past = {"a"}
        assert asyncio.run(it.cache.aget_or_set("a", async_one)) == ("aside", 1)
        assert it.cache.peek("a").value == 1

    def test_a_caller_that_only_gets_is_given_what_is_there(self, it, log) -> None:
        """It does not know how to load."""
        it.cache.set("a", 1)
        log.past = {"a"}
        assert it.cache.get("a") == 1
        assert it.cache.get_many(["a"]) == {"a": 1}

    def test_a_cached_function_too(self, it, log) -> None:
        answers = iter("xyz")

        @it.cache.cached(key="f")
        def answer() -> str:
            return next(answers)

        assert [answer(), answer()] == ["x", "x"]
        log.past = {"f"}
        assert answer() == ("aside", "y")


def test_a_value_may_be_compared_where_a_load_would_see_what_is_committed_and_no_less_new(make) -> None:
    it = make(bus={"replica_lag": 1.0})
    it.cache.set("a", 1)
    entry = it.cache.peek("a")
    assert not it.cache.may_compare(entry), "a replica may be older"
    it.clock.advance(1)
    assert it.cache.may_compare(entry)
    assert isinstance(it.cache, NearCache)
