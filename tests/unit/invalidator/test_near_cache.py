"""get, set, get_or_set: on a clock that stands still and a link on which nothing is received."""

import asyncio
import gc
import itertools
import threading
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from invalidator import near_cache
from invalidator.errors import InvalidName, InvalidSetting
from invalidator.ledger import CHANGES, FLUSHED_AT, HEADER_WORDS
from invalidator.loaded import DEFAULT, Loaded
from invalidator.names import name_slots
from invalidator.near_cache import NearCache
from invalidator.variants import variant_of
from tests.interrupts import Places, interrupted
from tests.support import RecordingWords, S, Thread, wait_until


async def aload() -> str:
    return "value"


def never() -> None:
    raise AssertionError("this must not be loaded")


class TestGetAndSet:
    def test_what_was_set_is_got(self, it) -> None:
        assert it.cache.set("a", "value") is True
        assert it.cache.get("a") == "value"

    def test_the_very_object_is_got(self, it) -> None:
        """Values stay in the process: nothing is serialized."""
        value = object()
        it.cache.set("a", value)
        assert it.cache.get("a") is value

    def test_what_was_not_set_is_the_default(self, it) -> None:
        assert it.cache.get("a") is None
        assert it.cache.get("a", 7) == 7

    def test_none_is_a_value(self, it) -> None:
        it.cache.set("a", None)
        assert it.cache.get("a", 7) is None
        assert it.cache.get_or_set("a", never) is None
        assert it.cache.get_many(["a", "b"]) == {"a": None}

    def test_setting_publishes_nothing(self, it) -> None:
        """`set` is a fill; `invalidate` publishes."""
        it.cache.set("a", "value")
        assert it.link.published == []

    def test_many(self, it) -> None:
        assert it.cache.set_many({"a": 1, "b": 2}, tags=["t"]) == []
        assert it.cache.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
        it.receive(tags=("t",))
        assert it.cache.get_many(["a", "b"]) == {}

    def test_what_of_many_was_not_stored_is_returned(self, it) -> None:
        it.cache.get_many(["a", "b"])
        it.receive("a")
        assert it.cache.set_many({"a": 1, "b": 2}) == ["a"]

    def test_peeking_counts_as_nothing(self, it) -> None:
        it.cache.set("a", "value")
        assert it.cache.peek("a").value == "value"
        assert it.cache.peek("b") is None
        assert "a" in it.cache
        assert "b" not in it.cache
        assert (it.cache.stats().hits, it.cache.stats().misses) == (0, 0)

    def test_peeking_shows_only_what_may_be_served(self, it) -> None:
        it.cache.set("a", "value")
        it.receive("a")
        assert it.cache.peek("a") is None

    def test_evicting_by_hand(self, it) -> None:
        it.cache.set_many({"a": 1, "b": 2})
        assert it.cache.evict("a", "absent") == 1
        assert it.cache.get_many(["a", "b"]) == {"b": 2}
        assert it.evicted == [("a", 1, "hand")]
        assert it.link.published == []


class TestInvalidation:
    @pytest.mark.parametrize("names", [{"keys": ("a",)}, {"tags": ("t",)}])
    def test_what_another_server_invalidates_is_not_served(self, it, names) -> None:
        it.cache.set("a", "old", tags=["t", "u"])
        it.receive(*names.get("keys", ()), tags=names.get("tags", ()))
        assert it.cache.get("a") is None

    def test_what_this_server_invalidates_is_not_served_from_that_line_on(self, it) -> None:
        it.cache.set("a", "old", tags=["t"])
        it.cache.set("b", "other")
        it.cache.invalidate(tags=["t"])
        assert it.cache.get("a") is None
        assert it.cache.get("b") == "other"
        assert it.link.names_published == ["t"]

    def test_an_exact_key_leaves_at_once(self, it) -> None:
        """So that an eviction can be seen and counted the moment it happens."""
        it.cache.set("a", "old")
        it.cache.invalidate("a")
        assert it.evicted == [("a", "old", "invalidated")]
        assert len(it.cache) == 0

    def test_what_is_dropped_while_it_is_stored_is_not_served(self, it) -> None:
        """Between the look at its stamps and its place in the store: nobody has anything to drop yet."""
        put = it.cache._store.put

        def late(key: str, entry: Any) -> Any:
            it.receive("a")
            return put(key, entry)

        it.cache._store.put = late
        it.cache.set("a", "old")
        assert it.cache.get("a") is None

    def test_a_clear_voids_everything(self, it) -> None:
        it.cache.set("a", "old")
        it.bus.clear()
        assert it.cache.get("a") is None

    def test_what_was_reloaded_after_it_is_kept(self, it) -> None:
        it.cache.invalidate("a")
        it.clock.advance(0.001)
        it.cache.set("a", "new")
        assert it.cache.get("a") == "new"

    def test_the_hit_path_sees_a_change_without_looking_at_stamps(self, it) -> None:
        """One comparison of `changes`, then the clock, in this order; nothing else while nothing has changed."""
        it.cache.set("a", "value")
        it.cache.get("a")  # the first read looks at everything
        looked: list[object] = []
        it.cache._words = words = RecordingWords(it.bus.ledger.words)
        words.read = looked
        it.cache._clock = lambda: looked.append("clock") or it.clock()
        assert it.cache.get("a") == "value"
        assert looked == [CHANGES, "clock"]

    def test_a_second_look_is_at_the_stamps_between_the_count_and_the_clock(self, it) -> None:
        it.cache.set("a", "value")
        it.cache.get("a")
        it.receive("b")
        it.cache._words = words = RecordingWords(it.bus.ledger.words)
        it.cache._clock = lambda: words.read.append("clock") or it.clock()
        assert it.cache.get("a") == "value"
        (slot,) = name_slots(("a",), (), it.bus.slots)
        assert words.read == [CHANGES, FLUSHED_AT, HEADER_WORDS + slot, "clock"]

    def test_a_pause_between_counter_and_clock_outlives_no_lease(self, it) -> None:
        """The clock is read last: a process that was stopped there must not serve."""
        it.cache.set("a", "value")
        stopped = [60.0]
        it.cache._clock = it.cache._rule.clock = lambda: it.clock.advance(stopped.pop() if stopped else 0)
        assert it.cache.get("a") is None

    def test_another_keys_invalidation_costs_a_look_and_no_miss(self, it) -> None:
        it.cache.set("a", "value")
        it.receive("unrelated")
        assert it.cache.get("a") == "value"
        assert it.cache.stats().misses == 0


class TestTtl:
    @pytest.mark.parametrize(
        ("own", "given", "lasts"),
        [(None, DEFAULT, None), (5, DEFAULT, 5), (5, 9, 9), (5, None, None), (None, 2.5, 2.5), (300, 0.5, 0.5)],
    )
    def test_whose_ttl_counts(self, make, own, given, lasts) -> None:
        """Given, else the cache's own; None never expires."""
        it = make(ttl=own)
        it.cache.set("a", "value", ttl=given)
        for seconds, there in ((0.999 * (lasts or 1e6), True), (0.002 * (lasts or 1e6), lasts is None)):
            it.clock.advance(seconds)
            it.prove()
            assert (it.cache.get("a") == "value") == there
        assert it.evicted == ([] if lasts is None else [("a", "value", "expired")])

    def test_a_ttl_of_zero_is_not_kept_and_takes_its_predecessor_along(self, it) -> None:
        it.cache.set("a", "old")
        assert it.cache.set("a", "new", ttl=0) is False
        assert it.cache.get("a") is None
        assert it.evicted == [("a", "old", "expired")]

    @pytest.mark.parametrize("bad", [-1, -0.001, float("nan"), float("inf"), "5", True, [1]])
    def test_a_bad_ttl_is_refused_and_nothing_is_lost(self, it, bad) -> None:
        """The loader is not called, and what was there stays."""
        it.cache.set("a", "value")
        for use in (
            lambda: it.cache.set("a", 1, ttl=bad),
            lambda: it.cache.set_many({"a": 1}, ttl=bad),
            lambda: it.cache.get_or_set("b", never, ttl=bad),
            lambda: asyncio.run(it.cache.aget_or_set("b", never, ttl=bad)),
            lambda: NearCache(it.bus, ttl=bad),
        ):
            with pytest.raises(InvalidSetting, match="ttl must be None"):
                use()
        assert it.cache.get("a") == "value"


class TestBadInput:
    @pytest.mark.parametrize("bad", ["", 42, None, b"a", "k" * 513, "\ud800", ["a"], {}])
    def test_a_bad_key_is_refused(self, it, bad) -> None:
        """Everywhere, unhashable ones included, and no loader runs."""
        for use in (
            lambda: it.cache.get(bad),
            lambda: it.cache.get_many([bad]),
            lambda: it.cache.set(bad, 1),
            lambda: it.cache.get_or_set(bad, never),
            lambda: asyncio.run(it.cache.aget_or_set(bad, never)),
            lambda: it.cache.evict(bad),
            lambda: it.cache.invalidate(bad),
        ):
            with pytest.raises(InvalidName, match="a key "):
                use()
        assert len(it.cache) == 0
        assert it.link.published == []

    @pytest.mark.parametrize("bad", ["prices", b"prices", 42, None, [42], [""]])
    def test_bad_tags_are_refused(self, it, bad) -> None:
        for use in (
            lambda: it.cache.set("a", 1, tags=bad),
            lambda: it.cache.set_many({"a": 1}, tags=bad),
            lambda: it.cache.get_or_set("a", never, tags=bad),
            lambda: asyncio.run(it.cache.aget_or_set("a", never, tags=bad)),
            lambda: it.cache.invalidate("a", tags=bad),
        ):
            with pytest.raises(InvalidName, match="tag"):
                use()
        assert it.cache.get("a") is None

    @pytest.mark.parametrize("bad", [0, -1, -0.5, float("nan"), "many", None, True])
    def test_a_store_without_room_is_refused(self, it, bad) -> None:
        with pytest.raises(InvalidSetting, match="maxsize must be"):
            NearCache(it.bus, maxsize=bad)

    def test_options_of_the_bus_belong_to_the_bus(self, it) -> None:
        """They would be ignored otherwise."""
        with pytest.raises(InvalidSetting, match="namespace"):
            NearCache(it.bus, namespace="other")

    def test_a_url_makes_a_bus_of_its_own_and_closes_it(self) -> None:
        with_url = NearCache("memory://", namespace="shop", max_staleness=1)
        assert with_url.bus.status().max_staleness_s == 1
        with_url.close()
        assert with_url.bus.status().state == "closed"

    def test_a_bus_that_was_given_is_not_closed(self, it) -> None:
        it.cache.close()
        assert it.bus.status().state != "closed"


class TestNoStaleSet:
    """A value loaded before an invalidation is never stored after it."""

    def test_get_compute_set_counts_from_the_get(self, it) -> None:
        it.cache.get("a")
        it.receive("a")
        assert it.cache.set("a", "computed from old data") is False
        assert it.cache.get("a") is None
        assert it.cache.stats().refused_fills == 1

    def test_the_tags_count_as_well(self, it) -> None:
        it.cache.get("a")
        it.receive(tags=("t",))
        assert it.cache.set("a", "old", tags=["t"]) is False

    def test_a_set_without_a_miss_counts_from_now(self, it) -> None:
        it.receive("a")
        assert it.cache.set("a", "new") is True

    def test_a_refused_set_leaves_the_newer_entry_alone(self, it) -> None:
        """Another thread has reloaded meanwhile."""
        it.cache.get("a")
        it.receive("a")
        Thread(lambda: it.cache.set("a", "new")).outcome()
        assert it.cache.set("a", "old") is False
        assert it.cache.get("a") == "new"

    def test_get_or_set_notes_no_miss(self, it) -> None:
        """It fills by itself; a later, unrelated set must not count from then."""
        it.cache.get_or_set("a", lambda: 1)
        it.cache.evict("a")
        it.receive("a")
        assert it.cache.set("a", "new") is True

    def test_a_load_that_overlaps_an_invalidation_is_not_stored(self, it) -> None:
        """`loaded_at` is taken before the loader runs."""

        def load() -> str:
            it.receive("a")
            return "old"

        assert it.cache.get_or_set("a", load) == "old"
        assert it.cache.get("a") is None
        assert it.cache.get_or_set("a", lambda: "new") == "new"
        assert it.cache.get("a") == "new"

    @pytest.mark.parametrize("tags", [(), ("t",)])
    def test_nor_if_a_tag_of_it_was_invalidated(self, it, tags) -> None:
        def load() -> Loaded[str]:
            it.receive(tags=("t",))
            return Loaded("old", tags=("t",))

        it.cache.get_or_set("a", load, tags=tags)
        assert it.cache.get("a") is None

    def test_nor_a_load_that_overlaps_a_flush(self, it) -> None:
        def load() -> str:
            it.bus.ledger.flush(it.clock.advance(0.001))
            return "old"

        it.cache.get_or_set("a", load)
        assert it.cache.get("a") is None

    def test_nor_an_async_load(self, it) -> None:
        async def load() -> str:
            it.receive("a")
            return "old"

        assert asyncio.run(it.cache.aget_or_set("a", load)) == "old"
        assert it.cache.get("a") is None

    def test_nothing_is_stored_under_a_hold(self, it) -> None:
        """Until the hold is released nobody caches what is being written; then everybody may again."""
        hold = it.bus.hold("a")
        it.clock.advance(0.1)
        it.prove()
        assert it.cache.get_or_set("a", lambda: "uncommitted or old") == "uncommitted or old"
        assert it.cache.get("a") is None
        hold.release()
        it.clock.advance(0.001)
        it.cache.get_or_set("a", lambda: "committed")
        assert it.cache.get("a") == "committed"


class TestLease:
    def test_a_hit_needs_a_lease(self, it) -> None:
        """However young the last proof was when the entry was last looked at."""
        it.cache.set("a", "value")
        assert it.cache.get("a") == "value"
        it.clock.advance(2)
        assert it.cache.get("a") is None

    def test_an_unleased_entry_is_good_again_with_the_next_proof(self, it) -> None:
        """Nothing is thrown away because of silence."""
        it.cache.set("a", "value")
        it.clock.advance(100)
        assert it.cache.get("a") is None
        it.prove()
        assert it.cache.get("a") == "value"
        assert it.evicted == []

    def test_during_an_outage_there_is_one_load_per_bound(self, make) -> None:
        """Never a stampede, never a stale answer beyond the bound."""
        it = make(bus={"max_staleness": 1.0})
        loads = []
        for _ in range(50):
            it.clock.advance(0.1)
            it.cache.get_or_set("a", lambda: loads.append(it.clock()) or "value")
        assert 4 <= len(loads) <= 6
        assert all(later - earlier >= S for earlier, later in pairwise(loads))

    def test_bypass_asks_the_source_each_time(self, make) -> None:
        it = make(bus={"when_unleased": "bypass"})
        it.clock.advance(100)
        loads = []
        for _ in range(3):
            assert it.cache.get_or_set("a", lambda: loads.append(1) or "value") == "value"
        assert len(loads) == 3

    def test_serve_serves_what_it_has(self, make) -> None:
        it = make(bus={"when_unleased": "serve"})
        it.cache.set("a", "value")
        it.clock.advance(100)
        assert it.cache.get("a") == "value"

    @pytest.mark.parametrize(
        "use",
        [
            lambda cache: cache.get("a"),
            lambda cache: cache.get_many(["a"]),
            lambda cache: cache.set("a", 1),
            lambda cache: cache.get_entry("a"),
            lambda cache: asyncio.run(cache.aget_or_set("a", aload)),
        ],
    )
    def test_the_listener_starts_with_the_first_miss(self, it, use) -> None:
        """Not at import, and not when the cache is made: a preloading server forks after those."""
        assert it.link.connections == []
        use(it.cache)
        wait_until(lambda: it.link.connections)
        it.cache.set("b", 1)
        assert len(it.link.connections) == 1

    def test_who_only_looks_starts_nothing(self, it) -> None:
        """A page that shows what is cached."""
        assert "a" not in it.cache
        assert it.cache.peek("a") is None
        assert it.cache.stats().size == 0
        assert it.link.connections == []


class TestGetOrSet:
    def test_it_loads_once(self, it) -> None:
        assert it.cache.get_or_set("a", lambda: "value") == "value"
        assert it.cache.get_or_set("a", never) == "value"

    def test_a_loader_may_decide_ttl_and_tags(self, it) -> None:
        it.cache.get_or_set("a", lambda: Loaded("value", ttl=1, tags=["mine"]), ttl=300, tags=["given"])
        assert set(it.cache.peek("a").tags) == {"given", "mine"}
        it.clock.advance(1)
        assert it.cache.get("a") is None

    @pytest.mark.parametrize("tag", ["mine", "given"])
    def test_its_tags_add_to_those_given(self, it, tag) -> None:
        it.cache.get_or_set("a", lambda: Loaded("value", tags=["mine"]), tags=["given"])
        it.receive(tags=(tag,))
        assert it.cache.get("a") is None

    def test_what_it_does_not_decide_is_as_given(self, make) -> None:
        it = make(ttl=5)
        it.cache.get_or_set("a", lambda: Loaded("value"), ttl=None)
        it.cache.get_or_set("b", lambda: Loaded("value", ttl=None))
        it.clock.advance(10)
        it.prove()
        assert it.cache.get_many(["a", "b"]) == {"a": "value", "b": "value"}

    @pytest.mark.parametrize("bad", [Loaded(1, ttl=-1), Loaded(1, tags="prices"), Loaded(1, tags=[""])])
    def test_bad_decisions_of_a_loader_reach_the_caller(self, it, bad) -> None:
        with pytest.raises((InvalidName, InvalidSetting)):
            it.cache.get_or_set("a", lambda: bad)
        assert it.cache.get("a") is None

    def test_an_error_of_the_loader_is_the_callers_and_is_not_kept(self, it) -> None:
        with pytest.raises(OSError, match="no database"):
            it.cache.get_or_set("a", _fails)
        assert it.cache.get_or_set("a", lambda: "value") == "value"
        assert it.cache.stats().load_failures == 1

    @pytest.mark.parametrize("error", [StopIteration(1), KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
    def test_any_exception_comes_through_as_it_is(self, it, error) -> None:
        def load() -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            it.cache.get_or_set("a", load)
        assert caught.value is error
        assert len(it.cache._loads) == 0

    def test_tags_may_be_read_once(self, it) -> None:
        """A generator is an iterable. The second attempt of a caller that waited must not find it empty."""
        in_load, give_up = threading.Event(), threading.Event()

        def load() -> None:
            in_load.set()
            give_up.wait()
            raise KeyboardInterrupt

        def leader() -> None:
            with pytest.raises(KeyboardInterrupt):
                it.cache.get_or_set("a", load)

        loading = Thread(leader)
        in_load.wait()
        caller = Thread(lambda: it.cache.get_or_set("a", lambda: "value", tags=(tag for tag in ["t"])))
        wait_until(lambda: it.cache.stats().joins == 1)
        give_up.set()
        loading.outcome()
        assert caller.outcome() == "value"
        it.receive(tags=("t",))
        assert it.cache.get("a") is None


def _fails() -> None:
    raise OSError("no database")


class TestMadeFrom:
    """Values made from other entries' values."""

    def test_an_entry_falls_with_the_key_of_one_it_was_made_from(self, it) -> None:
        part = it.cache.load_entry("part", lambda: "a")
        assert it.cache.get_or_set("page", lambda: Loaded(part.value * 2, made_from=[part])) == "aa"
        assert it.cache.get("page") == "aa"
        it.receive("part")
        assert it.cache.get("page") is None

    def test_and_with_its_tags_through_another(self, it) -> None:
        part = it.cache.load_entry("part", lambda: "a", tags=["t"])
        page = it.cache.load_entry("page", lambda: Loaded("b", made_from=[part]))
        it.cache.load_entry("site", lambda: Loaded("c", made_from=[page]))
        it.receive(tags=("t",))
        assert it.cache.get("site") is None

    def test_it_is_cached_again_while_its_part_stays(self, it) -> None:
        part = it.cache.load_entry("part", lambda: "a")
        it.receive("page")
        it.cache.get_or_set("page", lambda: Loaded("b", made_from=[part]))
        assert it.cache.get("page") == "b"

    def test_a_part_that_fell_meanwhile_keeps_it_out(self, it) -> None:
        def load() -> Loaded[str]:
            part = it.cache.load_entry("part", lambda: "a")
            it.receive("part")
            return Loaded("b", made_from=[part])

        assert it.cache.get_or_set("page", load) == "b"
        assert it.cache.get("page") is None

    def test_a_caller_that_asks_after_a_part_fell_is_not_given_it(self, it) -> None:
        """It boarded when nobody knew of the part."""
        part = it.cache.load_entry("part", lambda: "a")
        slow = SlowLoader(Loaded("old", made_from=[part]))
        loading = Thread(lambda: it.cache.get_or_set("page", slow))
        slow.begun.wait()
        it.receive("part")
        late = Thread(lambda: it.cache.get_or_set("page", lambda: "new"))
        wait_until(lambda: it.cache.stats().joins == 1)
        slow.go_on.set()
        assert loading.outcome() == "old"
        assert late.outcome() == "new"

    def test_get_entry_is_a_get(self, it) -> None:
        assert it.cache.get_entry("a") is None
        loaded = it.cache.load_entry("a", lambda: "value", ttl=1)
        assert it.cache.get_entry("a") is loaded
        assert (it.cache.stats().misses, it.cache.stats().hits) == (1, 1)
        it.clock.advance(1)
        assert it.cache.get_entry("a") is None
        assert len(it.cache) == 0

    def test_a_miss_of_it_is_not_remembered(self, it) -> None:
        """What is set later has nothing to do with it."""
        it.cache.get_entry("a")
        it.receive("a")
        assert it.cache.set("a", "value")

    def test_async(self, it) -> None:
        async def load() -> str:
            return "value"

        assert asyncio.run(it.cache.aload_entry("a", load)).value == "value"
        assert it.cache.get("a") == "value"


class SlowLoader:
    """A loader that waits until it may go on."""

    def __init__(self, result: Any = "value") -> None:
        self.result = result
        self.calls = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self) -> Any:
        self.calls += 1
        self.begun.set()
        self.go_on.wait()
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


class TestSingleFlight:
    def test_one_loads_and_the_others_wait(self, it) -> None:
        loader = SlowLoader()
        callers = [Thread(lambda: it.cache.get_or_set("a", loader)) for _ in range(8)]
        wait_until(lambda: it.cache.stats().joins == 7)
        loader.go_on.set()
        assert [caller.outcome() for caller in callers] == ["value"] * 8
        assert loader.calls == 1
        assert it.cache.stats().loads == 1

    def test_an_error_reaches_every_waiting_caller(self, it) -> None:
        loader = SlowLoader(OSError("no database"))
        callers = [Thread(lambda: it.cache.get_or_set("a", loader)) for _ in range(4)]
        wait_until(lambda: it.cache.stats().joins == 3)
        loader.go_on.set()
        for caller in callers:
            with pytest.raises(OSError, match="no database"):
                caller.outcome()
        assert loader.calls == 1
        assert it.cache.stats().load_failures == 1

    def test_a_caller_that_asks_after_the_invalidation_is_not_given_the_old_load(self, it) -> None:
        """A caller that asked before it may be; what it is given was current when it asked."""
        slow = SlowLoader("old")
        before = [Thread(lambda: it.cache.get_or_set("a", slow)) for _ in range(2)]
        wait_until(lambda: it.cache.stats().joins == 1)
        it.receive("a")
        assert it.cache.get_or_set("a", lambda: "new") == "new"
        slow.go_on.set()
        assert [caller.outcome() for caller in before] == ["old", "old"]
        assert it.cache.get("a") == "new"

    def test_nor_after_the_invalidation_of_his_own_tag(self, it) -> None:
        slow = SlowLoader("old")
        loading = Thread(lambda: it.cache.get_or_set("a", slow))
        slow.begun.wait()
        it.receive(tags=("mine",))
        assert it.cache.get_or_set("a", lambda: "new", tags=["mine"]) == "new"
        slow.go_on.set()
        loading.outcome()

    def test_nor_after_the_invalidation_of_a_tag_that_only_the_loader_knew(self, it) -> None:
        """Known when it ends, and checked then."""
        slow = SlowLoader(Loaded("old", tags=["found"]))
        loading = Thread(lambda: it.cache.get_or_set("a", slow))
        slow.begun.wait()
        it.receive(tags=("found",))
        late = Thread(lambda: it.cache.get_or_set("a", lambda: "new"))
        wait_until(lambda: it.cache.stats().joins == 1)
        slow.go_on.set()
        assert loading.outcome() == "old"
        assert late.outcome() == "new"

    def test_nor_a_load_older_than_the_bound_without_a_lease(self, it) -> None:
        """Seen: 2.2 s old at a bound of 1 s."""
        slow = SlowLoader("old")
        loading = Thread(lambda: it.cache.get_or_set("a", slow))
        slow.begun.wait()
        it.clock.advance(3)
        assert it.cache.get_or_set("a", lambda: "new") == "new"
        slow.go_on.set()
        loading.outcome()
        assert it.cache.get("a") in ("new", None)

    def test_a_loader_may_ask_for_its_own_key(self, it) -> None:
        """It would wait for itself: it loads on its own."""
        assert it.cache.get_or_set("a", lambda: it.cache.get_or_set("a", lambda: "inner")) == "inner"

    def test_a_loader_may_ask_for_other_keys(self, it) -> None:
        assert it.cache.get_or_set("a", lambda: it.cache.get_or_set("b", lambda: "b") + "a") == "ba"
        assert it.cache.get_many(["a", "b"]) == {"a": "ba", "b": "b"}

    def test_two_loaders_may_ask_for_each_others_key(self, it) -> None:
        """Whoever would close the circle loads on his own. In two caches, since circles run through all of them."""
        other = NearCache(it.bus)
        both = threading.Barrier(2)

        def load(own: NearCache, key: str, theirs: NearCache, wanted: str) -> str:
            def loader() -> str:
                both.wait()
                return theirs.get_or_set(wanted, lambda: "alone")

            return own.get_or_set(key, loader)

        callers = [
            Thread(lambda: load(it.cache, "a", other, "b")),
            Thread(lambda: load(other, "b", it.cache, "a")),
        ]
        assert {caller.outcome() for caller in callers} == {"alone"}

    def test_a_caller_that_lost_a_race_does_not_load_again(self, it) -> None:
        """Between its miss and its own load, another load has ended."""
        join_or_start = it.cache._join_or_start

        def late(*args: Any, **options: Any) -> Any:
            it.cache._join_or_start = join_or_start
            it.cache.set("a", "loaded meanwhile")
            return join_or_start(*args, **options)

        it.cache._join_or_start = late
        assert it.cache.get_or_set("a", never) == "loaded meanwhile"


class TestAsync:
    def test_it_loads_once(self, it) -> None:
        async def load() -> str:
            return "value"

        async def main() -> list[str]:
            return [await it.cache.aget_or_set("a", load), await it.cache.aget_or_set("a", never)]

        assert asyncio.run(main()) == ["value", "value"]

    def test_tasks_share_a_load(self, it) -> None:
        calls = []

        async def main() -> list[str]:
            go_on = asyncio.Event()

            async def load() -> str:
                calls.append(1)
                await go_on.wait()
                return "value"

            tasks = [asyncio.create_task(it.cache.aget_or_set("a", load)) for _ in range(5)]
            await it.joins(4)
            go_on.set()
            return await asyncio.gather(*tasks)

        assert asyncio.run(main()) == ["value"] * 5
        assert len(calls) == 1

    def test_tasks_and_threads_share_a_load(self, it) -> None:
        slow = SlowLoader()
        loading = Thread(lambda: it.cache.get_or_set("a", slow))
        slow.begun.wait()

        async def main() -> str:
            caller = asyncio.create_task(it.cache.aget_or_set("a", never))
            await it.joins(1)
            slow.go_on.set()
            return await caller

        assert asyncio.run(main()) == loading.outcome() == "value"

    def test_when_its_leader_is_cancelled_the_others_start_anew(self, it) -> None:
        """A client that hangs up must not fail the requests of others."""

        async def main() -> str:
            loading = asyncio.Event()

            async def hang() -> str:
                loading.set()
                await asyncio.Event().wait()
                return "never"

            async def load() -> str:
                return "value"

            leader = asyncio.create_task(it.cache.aget_or_set("a", hang))
            await loading.wait()
            callers = [asyncio.create_task(it.cache.aget_or_set("a", load)) for _ in range(3)]
            await it.joins(3)
            leader.cancel()
            results = await asyncio.gather(*callers)
            with pytest.raises(asyncio.CancelledError):
                await leader
            return results

        assert asyncio.run(main()) == ["value"] * 3
        assert it.cache.stats().loads == 2

    def test_a_waiting_task_that_is_cancelled_leaves_the_load_under_way(self, it) -> None:
        async def main() -> str:
            go_on = asyncio.Event()

            async def load() -> str:
                await go_on.wait()
                return "value"

            leader = asyncio.create_task(it.cache.aget_or_set("a", load))
            await asyncio.sleep(0)
            caller = asyncio.create_task(it.cache.aget_or_set("a", never))
            await it.joins(1)
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
            go_on.set()
            return await leader

        assert asyncio.run(main()) == "value"

    def test_an_error_reaches_every_task(self, it) -> None:
        async def main() -> list[BaseException]:
            go_on = asyncio.Event()

            async def load() -> None:
                await go_on.wait()
                raise OSError("no database")

            tasks = [asyncio.create_task(it.cache.aget_or_set("a", load)) for _ in range(3)]
            await it.joins(2)
            go_on.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        assert [str(error) for error in asyncio.run(main())] == ["no database"] * 3

    def test_a_sync_call_on_the_loops_thread_does_not_wait_for_its_tasks(self, it) -> None:
        """It would stop the loop that flies."""

        async def main() -> str:
            loading, go_on = asyncio.Event(), asyncio.Event()

            async def load() -> str:
                loading.set()
                await go_on.wait()
                return "async"

            leader = asyncio.create_task(it.cache.aget_or_set("a", load))
            await loading.wait()
            alone = it.cache.get_or_set("a", lambda: "sync")
            go_on.set()
            await leader
            return alone

        assert asyncio.run(main()) == "sync"

    def test_a_loader_may_gather_its_own_key(self, it) -> None:
        """In a child task, as TaskGroup, gather and (before Python 3.12) wait_for make them."""

        async def inner() -> str:
            return "inner"

        async def load() -> str:
            [value] = await asyncio.gather(it.cache.aget_or_set("a", inner))
            return value

        assert asyncio.run(it.cache.aget_or_set("a", load)) == "inner"

    def test_a_sync_loader_may_run_a_loop(self, it) -> None:
        async def inner() -> str:
            return "inner"

        assert it.cache.get_or_set("a", lambda: asyncio.run(it.cache.aget_or_set("a", inner))) == "inner"


class TestHooks:
    """Every hook is seen to fire, for each of its causes."""

    def test_invalidated_expired_room_and_hand(self, make) -> None:
        it = make(maxsize=2)
        it.cache.set("key", 1)
        it.cache.invalidate("key")
        it.clock.advance(0.001)
        it.cache.set("tagged", 2, tags=["t"])
        it.receive(tags=("t",))
        it.cache.get("tagged")
        it.cache.set("short", 3, ttl=1)
        it.clock.advance(1)
        it.cache.get("short")
        for number in range(3):
            it.cache.set(f"k{number}", number)
        it.cache.evict("k2")
        assert it.evicted == [
            ("key", 1, "invalidated"),
            ("tagged", 2, "invalidated"),
            ("short", 3, "expired"),
            ("k0", 0, "room"),
            ("k2", 2, "hand"),
        ]
        assert it.cache.stats().evictions == {"invalidated": 2, "expired": 1, "room": 1, "hand": 1, "changed": 0}

    def test_sweeping(self, it) -> None:
        """What no caller asks for leaves, too, and is reported; what is merely unleased stays."""
        it.cache.set("short", 1, ttl=1)
        it.cache.set("tagged", 2, tags=["t"])
        it.cache.set("good", 3)
        it.clock.advance(1)
        it.receive(tags=("t",))
        it.clock.advance(100)
        assert it.cache.sweep() == 2
        assert it.evicted == [("short", 1, "expired"), ("tagged", 2, "invalidated")]
        assert len(it.cache) == 1

    def test_a_failing_hook_harms_nobody(self, make, caplog) -> None:
        """Neither the reader that found the entry stale nor the listener that carried the message."""
        it = make(on_evict=lambda *facts: 1 / 0)
        it.cache.set("a", 1, ttl=1)
        it.clock.advance(1)
        assert it.cache.get("a") is None
        it.cache.set_many({"b": 2, "c": 3})
        it.cache.invalidate("b", "c")
        assert it.cache.stats().evictions["invalidated"] == 2
        assert "on_evict" in caplog.text

    def test_a_hook_may_use_the_cache(self, make) -> None:
        """It runs without any lock held."""
        it = make(on_evict=lambda key, value, cause: it.cache.set("last", key))
        it.cache.set("a", 1)
        it.cache.evict("a")
        assert it.cache.get("last") == "a"

    def test_a_loader_may_use_the_cache(self, it) -> None:
        def load() -> str:
            it.cache.set("b", "inner")
            it.cache.evict("c")
            it.cache.sweep()
            return f"{it.cache.get('b')} {len(it.cache)} {it.cache.stats().loads}"

        assert it.cache.get_or_set("a", load) == "inner 1 1"


class TestStats:
    def test_everything_is_counted_once(self, make) -> None:
        it = make(maxsize=10)
        it.cache.get("a")
        it.cache.set("a", 1)
        it.cache.get("a")
        it.cache.get_or_set("a", never)
        it.cache.get_or_set("b", lambda: 2)
        it.cache.get("c")
        it.receive("c")
        it.cache.set("c", 3)
        stats = it.cache.stats()
        assert (stats.hits, stats.misses, stats.loads, stats.fills, stats.refused_fills) == (2, 3, 1, 2, 1)
        assert (stats.size, stats.maxsize, stats.hit_ratio) == (2, 10, 0.4)
        assert stats.as_dict()["evictions"] == {"invalidated": 0, "expired": 0, "room": 0, "hand": 0, "changed": 0}

    def test_an_invalidated_read_is_a_miss(self, it) -> None:
        it.cache.set("a", 1)
        it.receive("a")
        it.cache.get("a")
        assert (it.cache.stats().hits, it.cache.stats().misses) == (0, 1)

    def test_room_may_be_counted_in_sizes(self, make) -> None:
        it = make(maxsize=10, getsizeof=len)
        it.cache.set("a", "xxxx")
        assert it.cache.set("b", "x" * 11) is False
        assert it.cache.stats().size == 4


class TestForget:
    def test_a_cache_that_nobody_holds_is_not_kept_by_its_bus(self, it) -> None:
        cache = NearCache(it.bus)
        gone = weakref.ref(cache)
        del cache
        gc.collect()
        assert gone() is None
        it.bus.invalidate("a")


class TestMany:
    def test_one_clock_for_all_that_is_as_usual(self, it) -> None:
        it.cache.set_many({str(number): number for number in range(50)})
        it.cache.get_many(map(str, range(50)))
        looked: list[object] = []
        it.cache._words = words = RecordingWords(it.bus.ledger.words)
        words.read = looked
        it.cache._clock = lambda: looked.append("clock") or it.clock()
        assert len(it.cache.get_many(map(str, range(50)))) == 50
        assert looked == [CHANGES, "clock"]

    def test_a_pause_before_the_clock_outlives_no_lease(self, it) -> None:
        it.cache.set_many({"a": 1, "b": 2})
        it.cache.get_many(["a", "b"])
        stopped = [60.0]
        it.cache._clock = it.cache._rule.clock = lambda: it.clock.advance(stopped.pop() if stopped else 0)
        assert it.cache.get_many(["a", "b"]) == {}

    def test_what_is_not_as_usual_is_looked_at_closely(self, it) -> None:
        it.cache.set_many({"a": 1, "b": 2, "c": 3})
        it.cache.get_many(["a", "b", "c"])
        it.receive("b")
        assert it.cache.get_many(["a", "b", "c", "d"]) == {"a": 1, "c": 3}
        hits = it.cache.stats().hits
        it.cache.get_many(["a", "c", "d", "a"])
        assert it.cache.stats().hits == hits + 3


class TestVariants:
    """Entries that share a name and are told apart by more than it."""

    ONE, OTHER = variant_of("a", "1"), variant_of("a", "2")

    def test_each_has_a_value_of_its_own(self, it) -> None:
        for key in ("a", self.ONE, self.OTHER):
            it.cache.set(key, key)
        assert it.cache.get_many(["a", self.ONE, self.OTHER]) == {key: key for key in ("a", self.ONE, self.OTHER)}
        assert len(it.cache.peek_all("a")) == 3

    def test_the_name_voids_them_all_and_they_leave_at_once(self, it) -> None:
        for key in ("a", self.ONE, self.OTHER, "b"):
            it.cache.set(key, 1)
        it.cache.invalidate("a")
        assert list(it.cache._store.by_key) == ["b"]
        assert it.cache.stats().evictions["invalidated"] == 3

    def test_one_that_was_loaded_before_its_name_was_invalidated_is_not_stored(self, it) -> None:
        assert it.cache.get_or_set(self.ONE, lambda: it.receive("a")) is None
        assert it.cache.peek_all("a") == []

    def test_the_name_evicts_them_all_here(self, it) -> None:
        for key in ("a", self.ONE, self.OTHER):
            it.cache.set(key, 1)
        assert it.cache.evict("a") == 3

    def test_a_name_finds_its_only_variant(self, it) -> None:
        """So that what a function has cached is found by its key."""
        it.cache.set(self.ONE, 1)
        assert it.cache.get("a") == 1
        assert it.cache.get_many(["a", "b"]) == {"a": 1}
        assert "a" in it.cache
        assert it.cache.peek("a").value == 1
        assert it.cache.stats().hits == 2

    def test_a_name_of_several_variants_finds_none(self, it) -> None:
        it.cache.set(self.ONE, 1)
        it.cache.set(self.OTHER, 2)
        assert it.cache.get("a") is None
        assert "a" in it.cache
        assert it.cache.peek("a").value == 1

    def test_who_loads_a_name_is_not_given_a_variant(self, it) -> None:
        it.cache.set(self.ONE, 1)
        assert it.cache.get_or_set("a", lambda: 7) == 7
        assert it.cache.get("a") == 7

    def test_a_miss_of_the_name_counts_for_a_set_of_it(self, it) -> None:
        """There was a variant, and it is void: what is computed now is as old as that miss."""
        it.cache.set(self.ONE, 1, ttl=1)
        it.clock.advance(1)
        assert it.cache.get("a") is None
        it.receive("a")
        assert it.cache.set("a", "computed before") is False

    def test_the_mark_reaches_no_callback(self, it) -> None:
        it.cache.set(self.ONE, 1)
        it.cache.invalidate("a")
        assert it.evicted == [("a", 1, "invalidated")]

    def test_room_is_made_among_them_too(self, make) -> None:
        it = make(maxsize=2)
        for number in range(5):
            it.cache.set(variant_of("a", str(number)), number)
        assert [entry.value for entry in it.cache.peek_all("a")] == [3, 4]

    def test_a_variant_of_what_cannot_be_a_key_is_refused(self, it) -> None:
        with pytest.raises(InvalidName, match="512 bytes"):
            it.cache.get(variant_of("x" * 600, "1"))


class Thing:
    def __init__(self) -> None:
        self.items = [1]


class TestClones:
    """With copy="clone" nobody sees what another reader does to a value."""

    @pytest.fixture
    def it(self, make) -> Any:
        return make(copy="clone")

    @pytest.mark.parametrize("read", ["get", "get_many", "get_or_set", "cached", "get_entry", "peek", "load_entry"])
    def test_every_way_to_a_value_leads_to_a_clone(self, it, read) -> None:
        function = it.cache.cached(key="a")(never)
        ways = {
            "get": lambda: it.cache.get("a"),
            "get_many": lambda: it.cache.get_many(["a"])["a"],
            "get_or_set": lambda: it.cache.get_or_set("a", never),
            "cached": function,
            "get_entry": lambda: it.cache.get_entry("a").value,
            "peek": lambda: it.cache.peek("a").value,
            "load_entry": lambda: it.cache.load_entry("a", never).value,
        }
        if read == "cached":
            function.__wrapped__ = Thing
            function()
        else:
            it.cache.set("a", Thing())
        ways[read]().items.append(2)
        assert ways[read]().items == [1]
        assert ways[read]() is not ways[read]()

    def test_the_caller_who_stored_it_keeps_his_own(self, it) -> None:
        mine = Thing()
        it.cache.set("a", mine)
        mine.items.append(2)
        assert it.cache.get("a").items == [1]

    def test_the_caller_whose_load_it_was_keeps_the_very_thing(self, it) -> None:
        mine = Thing()
        assert it.cache.get_or_set("a", lambda: mine) is mine
        mine.items.append(2)
        assert it.cache.get("a").items == [1]

    def test_those_who_waited_have_clones(self, it) -> None:
        """Of each other, and of the one who led."""

        async def run() -> list[Any]:
            begun = asyncio.Event()

            async def load() -> Thing:
                begun.set()
                await it.joins(2)
                return Thing()

            first = asyncio.ensure_future(it.cache.aget_or_set("a", load))
            await begun.wait()
            others = [asyncio.ensure_future(it.cache.aget_or_set("a", load)) for _ in range(2)]
            return [await first, *[await other for other in others]]

        values = asyncio.run(run())
        assert len({id(value.items) for value in values}) == 3

    def test_what_cannot_be_changed_is_handed_out_as_it_is(self, it) -> None:
        value = ("a", 1)
        it.cache.set("a", value)
        assert it.cache.get("a") is value

    def test_a_loader_may_decide(self, it) -> None:
        value = it.cache.get_or_set("a", lambda: Loaded(Thing(), copy="none"))
        assert it.cache.get("a") is value

    def test_a_void_clone_is_not_served(self, it) -> None:
        it.cache.set("a", Thing(), ttl=5, tags=["t"])
        it.receive(tags=("t",))
        assert it.cache.get("a") is None
        it.cache.set("a", Thing(), ttl=5)
        it.clock.advance(6)
        it.prove()
        assert it.cache.get("a") is None

    def test_a_value_is_made_from_a_clone_as_from_any(self, it) -> None:
        it.cache.set("inner", Thing())
        inner = it.cache.get_entry("inner")
        it.cache.get_or_set("outer", lambda: Loaded(1, made_from=[inner]))
        it.receive("inner")
        assert it.cache.get("outer") is None

    def test_hits_are_counted_and_what_leaves_is_reported(self, it) -> None:
        it.cache.set("a", Thing())
        it.cache.get("a")
        it.cache.evict("a")
        assert it.cache.stats().hits == 1
        assert it.evicted[0][1].items == [1]

    def test_what_cannot_be_cloned_is_not_cached_and_said_once(self, it, caplog, monkeypatch) -> None:
        """Every caller gets a value of his own all the same, by a load of his own."""
        monkeypatch.setattr(near_cache, "_refused", set())
        locks = [it.cache.get_or_set("a", threading.Lock) for _ in range(3)]
        assert len(set(map(id, locks))) == 3
        assert it.cache.set("a", [threading.Lock()]) is False
        lines = [each.getMessage() for each in caplog.records if each.name == "invalidator.near_cache"]
        assert [line.partition(" reason=")[0] for line in lines] == [
            "not_cached key='a' type=_thread.lock",
            "not_cached key='a' type=builtins.list",
        ]
        assert 'copy="none"' in lines[0]
        assert it.cache.stats().refused_fills == 4

    @pytest.mark.parametrize("bad", ["copy", None, True])
    def test_another_word_is_refused(self, make, bad) -> None:
        with pytest.raises(InvalidSetting, match="copy must be one of 'clone', 'deep', 'pickle', 'none'"):
            make(copy=bad)


USES: dict[str, Callable[[NearCache], object]] = {
    "get": lambda cache: (cache.get("a"), cache.get("absent")),
    "set": lambda cache: cache.set("a", 2),
    "get_or_set": lambda cache: cache.get_or_set("loaded", lambda: 3),
    "invalidate": lambda cache: cache.invalidate("a", tags=["t"]),
    "evict": lambda cache: cache.evict("a"),
    "figures": lambda cache: (len(cache), cache.stats(), cache.bus.status()),
}


class TestInterruptions:
    """By a signal handler, or by a finalizer that a garbage collection calls, at every place where one may come."""

    @pytest.mark.parametrize("outer", USES)
    @pytest.mark.parametrize("inner", USES)
    def test_any_use_in_the_middle_of_any_other(self, make, outer, inner) -> None:
        """Nothing waits for itself, nothing raises, and what was invalidated is not served."""
        it = make(maxsize=3)
        cache = it.cache
        for at in itertools.count(1):
            it.clock.advance(0.001)
            it.prove()
            for key in "abcd":
                cache.set(key, 1, tags=["t"])
            places = Places(at, lambda: USES[inner](cache))
            with interrupted(places):
                USES[outer](cache)
            assert cache.get_or_set("more", lambda: 4) == 4
            assert cache.invalidate("a", "b", "c", "d").accepted
            assert cache.get_many("abcd") == {}
            if places.passed < at:
                break

    def test_a_loader_that_needs_its_own_key_does_not_wait_for_itself(self, it) -> None:
        assert it.cache.get_or_set("a", lambda: it.cache.get_or_set("a", lambda: "inner")) == "inner"

    @pytest.mark.parametrize("use", ["set", "invalidate", "get_or_set", "evict", "figures"])
    def test_the_finalizer_of_a_value_may_use_the_cache(self, make, use) -> None:
        """It runs wherever the last reference goes, also inside `set`."""
        it, done = make(on_evict=None), []

        class Handle:
            def __del__(self) -> None:
                USES[use](it.cache)
                done.append(1)

        it.cache.set("handle", Handle())
        it.cache.set("handle", None)
        it.cache.set("handle", Handle())
        it.cache.evict("handle")
        it.cache.set("handle", Handle())
        it.cache.invalidate("handle")
        assert len(done) == 3
