"""A watcher of near caches sees everything, changes nothing, and costs nothing when it is gone."""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.db import DatabaseError, connection, transaction
from django.test import override_settings

from django_integration import Loaded, cache, cached, invalidate, observing, runtime, slow_path
from django_integration.observing import Outcome, Probe
from django_integration.reads.default_cache import default_cache
from django_integration.testing import isolated
from invalidator import Entry, NearCache

from .zoo.models import Cage


class Log:
    """A watcher that writes down what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.entries: list[Entry[Any] | None] = []
        self.seconds: list[float | None] = []

    def hit(self, near: NearCache, key: str, entry: Entry[Any]) -> None:
        self.calls.append(("hit", key))
        self.entries.append(entry)

    def missed(self, near: NearCache, key: str) -> None:
        self.calls.append(("missed", key))

    def loaded(self, near: NearCache, key: str, entry: Entry[Any] | None, seconds: float | None) -> None:
        self.calls.append(("loaded", key))
        self.entries.append(entry)
        self.seconds.append(seconds)


class Reviews:
    """A reviewer of everything."""

    def __init__(self, *, twice: bool = False) -> None:
        self.twice = twice
        self.outcomes: list[tuple[str, Outcome]] = []

    def wants(self, near: NearCache, key: str) -> bool:
        return True

    def reloaded(self, probe: Probe, fresh: Outcome) -> bool:
        self.outcomes.append((probe.key, fresh))
        return self.twice

    def reloaded_again(self, probe: Probe, fresh: Outcome, again: Outcome) -> None:
        self.outcomes.append((probe.key, again))

    @property
    def values(self) -> list[Any]:
        return [outcome.value for _, outcome in self.outcomes]


@pytest.fixture(autouse=True)
def own_bus() -> Iterator[None]:
    with isolated():
        yield


@pytest.fixture
def watcher() -> Iterator[Log]:
    log = Log()
    with observing.watching(log):
        yield log


@pytest.fixture
def reviews() -> Iterator[Reviews]:
    reviewer = Reviews()
    observing.review(reviewer)
    yield reviewer
    observing.end_review(reviewer)


BACKEND = {"default": {"BACKEND": "django_integration.backend.NearCacheBackend", "LOCATION": "observed"}}
TWO_LEVELS = {
    "default": {**BACKEND["default"], "OPTIONS": {"L2": "beneath"}},
    "beneath": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "beneath"},
}


class Numbers:
    """A loader whose source changes with every load."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> int:
        self.count += 1
        return self.count


def test_nobody_looks_and_nothing_is_different() -> None:
    """The hit path is that of the library, for the default cache and the backend's, before and after a look."""
    with override_settings(CACHES=BACKEND):
        caches["default"].get("a")
        backend: Any = caches["default"]
        looked_at = [default_cache(), backend._place.near]
        assert [near.observer for near in looked_at] == [None, None]
        with observing.watching(Log()):
            assert None not in [near.observer for near in looked_at]
        assert [near.observer for near in looked_at] == [None, None]
        assert [near._slow_path for near in looked_at] == [slow_path.reasons] * 2


def test_entries_stay_when_somebody_begins_to_look(watcher: Log) -> None:
    cache.set("a", 1)
    with observing.watching(Log()):
        assert cache.get("a") == 1
    assert cache.get("a") == 1


def test_a_watcher_sees_hits_misses_and_loads(watcher: Log) -> None:
    assert cache.get_or_set("a", lambda: 1, tags=["t"]) == 1
    assert cache.get_or_set("a", lambda: 1, tags=["t"]) == 1
    assert cache.get("b") is None
    assert cache.get_many(["a", "b"]) == {"a": 1}
    assert watcher.calls == [
        *(("missed", "a"), ("loaded", "a"), ("hit", "a")),
        *(("missed", "b"), ("hit", "a"), ("missed", "b")),
    ]
    assert all(entry is not None and entry.tags == ("t",) for entry in watcher.entries)
    assert watcher.seconds != [None]


def test_none_is_a_value(watcher: Log) -> None:
    cache.set("a", None)
    assert cache.get("a") is None
    assert watcher.calls == [("hit", "a")]


def test_a_watcher_sees_a_load_that_failed(watcher: Log) -> None:
    def fail() -> int:
        raise LookupError

    with pytest.raises(LookupError):
        cache.get_or_set("a", fail)
    assert watcher.calls == [("missed", "a"), ("loaded", "a")]
    assert watcher.entries == [None]


def test_a_watcher_sees_coroutines(watcher: Log) -> None:
    async def load() -> int:
        return 1

    async def ask() -> int:
        return await cache.aget_or_set("a", load)

    assert asyncio.run(ask()) == asyncio.run(ask()) == 1
    assert watcher.calls == [("missed", "a"), ("loaded", "a"), ("hit", "a")]


def test_a_watcher_sees_the_backend() -> None:
    log = Log()
    with override_settings(CACHES=BACKEND):
        caches["default"].set("before", 1)
        with observing.watching(log):
            assert caches["default"].get("before") == 1
            caches["default"].get_or_set("a", lambda: 1)
    assert log.calls == [("hit", ":1:before"), ("missed", ":1:a"), ("loaded", ":1:a")]


def test_an_error_of_a_watcher_is_nobodys(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Log):
        def missed(self, near: NearCache, key: str) -> None:
            raise RuntimeError("mine")

    with observing.watching(Broken()):
        assert cache.get_or_set("a", lambda: 1) == 1
    assert "observer failed" in caplog.text


def test_the_caller_gets_the_cached_value_while_it_is_reloaded(reviews: Reviews) -> None:
    load = Numbers()
    assert [cache.get_or_set("a", load) for _ in range(3)] == [1, 1, 1]
    assert reviews.values == [2, 3]
    assert cache.get("a") == 1, "a reload stores nothing"


def test_a_reviewer_may_ask_for_another_reload() -> None:
    reviewer, load = Reviews(twice=True), Numbers()
    cache.get_or_set("a", load)
    observing.review(reviewer)
    cache.get_or_set("a", load)
    observing.end_review(reviewer)
    assert reviewer.values == [2, 3]


def test_coroutines_are_reloaded_too(reviews: Reviews) -> None:
    load = Numbers()

    async def aload() -> int:
        return load()

    @cached()
    async def number() -> int:
        return load()

    async def ask() -> list[int]:
        asked = [await cache.aget_or_set("a", aload) for _ in range(2)]
        return asked + [await number() for _ in range(2)]

    assert asyncio.run(ask()) == [1, 1, 3, 3]
    assert reviews.values == [2, 4]


def test_cached_functions_are_reloaded_with_their_arguments(reviews: Reviews) -> None:
    asked = []

    @cached()
    def double(n: int) -> int:
        asked.append(n)
        return 2 * n

    assert [double(3), double(3)] == [6, 6]
    assert asked == [3, 3]
    assert reviews.values == [6]


def test_a_reload_sees_the_source_and_not_what_is_cached(reviews: Reviews) -> None:
    """Otherwise an outer value made of a stale inner one would seem right."""
    load = Numbers()

    @cached()
    def inner() -> int:
        return load()

    @cached()
    def outer() -> list[int]:
        return [inner()]

    assert outer() == [1]
    assert outer() == [1]
    assert reviews.outcomes[-1][1].value == [2]
    assert inner() == 1, "and stores nothing inside, either"


def test_a_reload_finds_what_has_no_loader(reviews: Reviews) -> None:
    cache.set("rate", 3)
    load = lambda: cache.get("rate", 1)  # noqa: E731
    assert cache.get_or_set("a", load) == cache.get_or_set("a", load) == 3
    assert reviews.values == [3]


def test_an_error_of_a_reload_is_what_it_came_to(reviews: Reviews) -> None:
    cache.set("a", 1)

    def gone() -> int:
        raise LookupError("gone")

    assert cache.get_or_set("a", gone) == 1
    assert isinstance(reviews.outcomes[0][1].error, LookupError)


def test_what_loaders_return_is_unwrapped(reviews: Reviews) -> None:
    load = lambda: Loaded([1], tags=["t"])  # noqa: E731
    assert cache.get_or_set("a", load) == cache.get_or_set("a", load) == [1]
    assert reviews.values == [[1]]


def test_nothing_is_reloaded_where_the_caller_has_written(db: None, reviews: Reviews) -> None:
    """What he sees is not committed, and may never be."""
    load = Numbers()
    cache.get_or_set("a", load)
    with transaction.atomic():
        Cage.objects.create()
        assert cache.get_or_set("a", load) == 1
    assert reviews.outcomes == []


def test_nothing_is_reloaded_in_a_transaction_older_than_the_entry(db: None, reviews: Reviews) -> None:
    """With snapshot isolation it would read what was before."""
    with transaction.atomic():
        Cage.objects.exists()
        cache.set("a", 1, loaded_at=runtime.bus().clock())
        assert cache.get_or_set("a", Numbers()) == 1
    assert reviews.outcomes == []


def test_a_query_that_fails_in_a_reload_leaves_the_callers_transaction_alone(db: None, reviews: Reviews) -> None:
    cache.set("a", 1)

    def ask() -> int:
        # Where a failed query leaves the transaction alone (SQLite), a block without a savepoint does not.
        with transaction.atomic(savepoint=False), connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")
        return 2

    with transaction.atomic():
        assert cache.get_or_set("a", ask) == 1
        assert isinstance(reviews.outcomes[0][1].error, DatabaseError)
        Cage.objects.create(name="after")
    assert Cage.objects.filter(name="after").exists()


def test_an_entry_that_leaves_meanwhile_is_loaded_as_ever(reviews: Reviews) -> None:
    load = Numbers()

    def tags() -> list[str]:  # asked between the hit and the reload
        invalidate("a")
        return ["t"]

    @cached(key="a", tags=tags)
    def number() -> int:
        return load()

    assert number() == 1
    assert number() == 2
    assert reviews.outcomes == []


def test_the_backend_reloads_what_it_has_loaded(reviews: Reviews) -> None:
    load = Numbers()
    with override_settings(CACHES=BACKEND):
        backend = caches["default"]
        assert [backend.get_or_set("a", load) for _ in range(2)] == [1, 1]
        assert reviews.values == [2]

        async def aload() -> int:
            return load()

        async def ask() -> list[int]:
            return [await backend.aget_or_set("b", aload) for _ in range(2)]

        assert asyncio.run(ask()) == [3, 3]
        assert reviews.values == [2, 4]


def test_the_backend_does_not_reload_what_was_set(reviews: Reviews) -> None:
    """`get_or_set("visits", 0)` and `incr` are a counter, and no loader knows how it stands."""
    with override_settings(CACHES=BACKEND):
        backend = caches["default"]
        backend.get_or_set("visits", lambda: 0)
        backend.incr("visits")
        assert backend.get_or_set("visits", lambda: 0) == 1
    assert reviews.outcomes == []


def test_a_value_that_was_given_is_nothing_to_reload(reviews: Reviews) -> None:
    with override_settings(CACHES=BACKEND):
        assert [caches["default"].get_or_set("a", 0) for _ in range(2)] == [0, 0]
    assert [type(outcome.error) for _, outcome in reviews.outcomes] == [observing.NothingToReloadError]


def test_with_a_second_level_the_source_is_asked_and_nothing_is_stored(reviews: Reviews) -> None:
    load = Numbers()
    with override_settings(CACHES=TWO_LEVELS):
        assert [caches["default"].get_or_set("a", load) for _ in range(2)] == [1, 1]
        assert reviews.values == [2]
        assert caches["default"].get("a") == 1
        # What another server has put below may be what it was set to.
        caches["default"].set("b", 7)
        runtime.reset()
        assert [caches["default"].get_or_set("b", load) for _ in range(2)] == [7, 7]
        assert reviews.values == [2]


def test_only_so_many_loads_of_a_backend_are_known(reviews: Reviews, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "MOST_KNOWN", 2)
    with override_settings(CACHES=BACKEND):
        backend = caches["default"]
        for _ in range(2):
            for key in "abc":
                backend.get_or_set(key, lambda: 1)
        assert [key for key, _ in reviews.outcomes] == [":1:b", ":1:c"]


def test_a_near_cache_that_is_made_meanwhile_is_watched(watcher: Log) -> None:
    runtime.reset()
    assert cache.get("a") is None
    assert watcher.calls == [("missed", "a")]


def test_a_forked_child_can_look() -> None:
    with observing._lock.lock:
        pid = os.fork()
        if pid == 0:
            with observing.watching(Log()):
                os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
