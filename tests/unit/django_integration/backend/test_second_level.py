"""The second level: it is emptied before a name is published, it may be away, and it knows when values expire."""

import asyncio
import logging

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_integration import bus, invalidate
from django_integration.backend import second_level, settling
from tests.support import wait_until

from ..conftest import WAIT_S
from ..faulty import FaultyCache
from .conftest import KEY, OURS, TWO_LEVELS


@pytest.fixture(autouse=True)
def cache(two_levels):
    return two_levels


def status() -> second_level.L2Status:
    return caches["default"].second_level.status()


def test_what_is_invalidated_leaves_the_second_level_before_it_is_published(cache, second) -> None:
    second.set(KEY, "old")
    order: list[object] = []
    end = bus().on_invalidate(lambda _: order.append(second.get(KEY)), keys=[KEY])
    invalidate(cache.key_name("k"))
    wait_until(lambda: order)
    end()
    assert order == [None]


def test_a_hold_that_is_released_empties_the_second_level_first(cache, second) -> None:
    """The message of a strict write is that of its release."""
    hold = bus().hold(KEY)
    second.set(KEY, "old")
    hold.release()
    assert second.get(KEY) is None
    assert cache.get("k") is None


def test_what_coroutines_invalidate_leaves_the_second_level_too(cache, second) -> None:
    second.set(KEY, "old")
    assert cache.get("k") == "old"
    asyncio.run(bus().ainvalidate(KEY))
    assert second.get(KEY) is None
    assert cache.get("k") is None


def test_a_clear_of_everything_empties_the_second_level(cache, second) -> None:
    second.set(KEY, "old")
    bus().clear()
    assert second.get(KEY) is None


class TestAnOutage:
    def test_near_copies_are_served_and_misses_are_computed(self, cache, second, wire, caplog) -> None:
        cache.set("k", 1)
        cache.get("k")
        wire.messages()
        FaultyCache.down = True
        with caplog.at_level(logging.WARNING):
            assert cache.get("k") == 1
            assert cache.get("absent", 7) == 7
            assert cache.get_or_set("loaded", lambda: 2) == 2
            assert cache.get_or_set("loaded", lambda: 3) == 2
            assert cache.get_many(["k", "absent"]) == {"k": 1}
            cache.set("absent", 8)  # follows a miss
            assert cache.get("absent") == 8
            assert (status().reachable, status().errors > 0) == (False, True)
            FaultyCache.down = False
            assert cache.get("another") is None
        assert status().reachable
        events = [record.getMessage().split()[0] for record in caplog.records]
        assert events == ["second_level_down", "second_level_up"], "once, however many operations failed"
        assert wire.messages() == []

    @pytest.mark.parametrize(
        "write",
        [lambda cache: cache.add("k", 2), lambda cache: cache.incr("k"), lambda cache: cache.touch("k", 2)],
    )
    def test_a_write_that_only_the_second_level_can_answer_fails(self, cache, second, write) -> None:
        second.set(KEY, 1)
        FaultyCache.down = True
        with pytest.raises(ConnectionError):
            write(cache)
        FaultyCache.down = False
        assert second.get(KEY) == 1

    def test_an_invalidation_never_fails_for_it(self, cache, second) -> None:
        """The data is committed."""
        second.set(KEY, "old")
        FaultyCache.down = True
        invalidate(cache.key_name("k"))
        FaultyCache.down = False
        assert settling.settle(WAIT_S)
        assert second.get(KEY) is None

    def test_the_memory_of_it_is_bounded(self, cache, monkeypatch) -> None:
        monkeypatch.setattr(second_level, "MOST_PENDING", 3)
        for number in range(9):
            cache.set(f"k{number}", 1)
        assert len(cache.second_level._expires_at) == 3


@pytest.mark.parametrize(
    "options", [{"L2": "nowhere"}, {"L2": "l2", "NEAR_TIMEOUT": 0}, {"L2": "l2", "NEAR_TIMEOUT": "5"}]
)
def test_options_that_cannot_work_are_refused(options) -> None:
    wrong = {**TWO_LEVELS, "wrong": {"BACKEND": OURS, "OPTIONS": options}}
    with override_settings(CACHES=wrong), pytest.raises(ImproperlyConfigured, match="OPTIONS"):
        caches["wrong"]
