"""The first moments of a process: what is loaded then is neither void nor, if it can be helped, unleased."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from invalidator import Invalidator, NearCache
from invalidator.errors import LinkDown
from invalidator.extending import WritableCache
from invalidator.first_moments import FIRST_WAIT_S, FirstMoments
from invalidator.ledger import Ledger
from tests.support import PATIENCE_S, Clock, SilentLink, Thread, in_child


class Feed:
    """A feed that notes what is asked of it, and is proven when the test says so."""

    def __init__(self) -> None:
        self.view = Ledger.private(slots=64, namespace="shop")
        self.started = 0
        self.waits: list[float] = []
        self.is_down = False
        self.is_mine = False
        self.on_wait: Callable[[], object] = lambda: None

    def start(self) -> None:
        self.started += 1

    def wait_for_first_proof(self, timeout_s: float) -> None:
        self.waits.append(timeout_s)
        self.on_wait()

    def is_away(self) -> bool:
        return self.is_down

    def is_own_thread(self) -> bool:
        return self.is_mine


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def moments(feed: Feed, clock: Clock) -> FirstMoments:
    return make(feed, clock)


def make(feed: Feed, clock: Clock, is_away: Callable[[], bool] = lambda: False) -> FirstMoments:
    anything: Any = feed
    return FirstMoments(anything, clock, is_away)


class TestWaiting:
    def test_a_thread_waits_once(self, moments, feed) -> None:
        moments.begin()
        assert (feed.started, feed.waits, moments.are_over) == (1, [FIRST_WAIT_S], True)

    def test_nobody_waits_for_what_is_there(self, moments, feed) -> None:
        """The sidecar of this host has listened for days; or this is a forked child of a process that has listened."""
        feed.view.prove(1)
        moments.begin()
        assert (feed.started, feed.waits, moments.are_over) == (1, [], True)

    def test_nobody_waits_for_a_server_that_cannot_be_reached(self, moments, feed) -> None:
        feed.is_down = True
        moments.begin()
        assert (feed.started, feed.waits, moments.are_over) == (1, [], True)

    def test_nor_while_invalidations_wait_for_it(self, feed, clock) -> None:
        """A process that has written first knows it from that."""
        moments = make(feed, clock, is_away=lambda: True)
        moments.begin()
        assert (feed.waits, moments.are_over) == ([], True)

    def test_threads_that_come_meanwhile_wait_for_the_rest(self, moments, feed, clock) -> None:
        """However many requests a new process is given at once: its first moments end for all of them together."""

        def meanwhile() -> None:
            feed.on_wait = lambda: None
            clock.advance(FIRST_WAIT_S / 2)
            Thread(moments.begin).outcome()

        feed.on_wait = meanwhile
        moments.begin()
        assert feed.waits == [FIRST_WAIT_S, pytest.approx(FIRST_WAIT_S / 2)]

    def test_an_event_loop_starts_it_and_does_not_wait(self, moments, feed) -> None:
        """Everybody else on the loop would wait, too. The first thread that misses does, or time ends it."""

        async def miss() -> None:
            moments.begin()

        asyncio.run(miss())
        assert (feed.started, feed.waits, moments.are_over) == (1, [], False)
        moments.begin()
        assert (feed.waits, moments.are_over) == ([FIRST_WAIT_S], True)

    def test_on_a_loop_they_end_by_themselves(self, moments, clock) -> None:
        """A process that lives on its loop alone pays for them no longer than others."""

        async def misses() -> None:
            moments.begin()
            clock.advance(FIRST_WAIT_S)
            moments.begin()

        asyncio.run(misses())
        assert moments.are_over

    def test_the_listeners_own_thread_does_not_wait_for_itself(self, moments, feed) -> None:
        """A callback that reads from a cache."""
        feed.is_mine = True
        moments.begin()
        assert (feed.waits, moments.are_over) == ([], False)

    def test_a_signal_handler_does_not_wait_within_a_wait(self, moments, feed) -> None:
        """It runs in the middle of the thread that waits; so does a destructor."""
        before = signal.signal(signal.SIGUSR1, lambda *_: moments.begin())
        feed.on_wait = lambda: signal.raise_signal(signal.SIGUSR1)
        try:
            moments.begin()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert (feed.started, feed.waits) == (1, [FIRST_WAIT_S])

    def test_who_is_interrupted_has_not_waited(self, moments, feed) -> None:
        """A time limit strikes: the next miss waits, if there is still time."""

        def strike() -> None:
            raise TimeoutError

        feed.on_wait = strike
        with pytest.raises(TimeoutError):
            moments.begin()
        assert not moments.are_over
        feed.on_wait = lambda: None
        moments.begin()
        assert moments.are_over

    def test_a_forked_child_has_its_own(self, moments, feed) -> None:
        moments.begin()
        moments.begin_again()
        assert not moments.are_over
        moments.begin()
        assert feed.started == 2


@pytest.fixture
def make_bus(namespace: str) -> Iterator[Callable[..., Invalidator]]:
    made: list[Invalidator] = []

    def make_bus(**options: Any) -> Invalidator:
        made.append(Invalidator(f"memory://{namespace}", namespace="shop", **options))
        return made[-1]

    yield make_bus
    for bus in made:
        bus.close()


class Loader:
    """A loader that counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


USES: dict[str, Callable[[NearCache, Loader], object]] = {
    "get_or_set": lambda cache, loader: cache.get_or_set("a", loader),
    "get, then set": lambda cache, loader: cache.get("a") or cache.set("a", loader()),
    "set": lambda cache, loader: cache.set("a", loader()),
    "load_entry": lambda cache, loader: cache.get_entry("a") or cache.load_entry("a", loader),
    "cached": lambda cache, loader: cache.cached(key="a")(loader)(),
    "an added change": lambda cache, loader: cache.replace_if_absent("a", loader()).publish(),  # type: ignore[attr-defined]
    "a change": lambda cache, loader: cache.replace({"a": loader()}).publish(),  # type: ignore[attr-defined]
}


class TestTheSecondLook:
    """A shell session, a command, a test, a worker: what was loaded first is a hit, and lives its TTL."""

    @pytest.mark.parametrize("use", USES.values(), ids=list(USES))
    def test_is_a_hit(self, make_bus, use) -> None:
        cache, loader = WritableCache(make_bus()), Loader()
        use(cache, loader)
        assert cache.bus.wait_until_leased(PATIENCE_S)
        assert cache.get("a") == 1
        assert loader.calls == 1

    @pytest.mark.parametrize("use", USES.values(), ids=list(USES))
    def test_as_long_as_there_is_a_lease(self, make_bus, use) -> None:
        """It counts from after the subscription: not only for `max_staleness` after its own load."""
        cache = WritableCache(make_bus())
        use(cache, Loader())
        entry = cache.peek("a")
        assert entry is not None
        assert cache.bus._feed.view.covers(entry.loaded_at)

    def test_a_warmed_cache_keeps_everything(self, make_bus) -> None:
        cache = NearCache(make_bus())
        for number in range(1000):
            cache.set(f"k{number}", number)
        assert cache.bus.wait_until_leased(PATIENCE_S)
        assert len(cache.get_many([f"k{number}" for number in range(1000)])) == 1000

    def test_many_threads_at_once(self, make_bus) -> None:
        """A new worker is given several requests at once."""
        cache, barrier = NearCache(make_bus()), threading.Barrier(8)

        def request(number: int) -> None:
            barrier.wait()
            cache.get_or_set(f"k{number}", lambda: number)

        for thread in [Thread(lambda number=number: request(number)) for number in range(8)]:
            thread.outcome()
        covers = cache.bus._feed.view.covers
        assert [covers(cache.peek(f"k{number}").loaded_at) for number in range(8)] == [True] * 8

    def test_on_an_event_loop_it_is_a_hit_as_in_an_outage(self, make_bus) -> None:
        """Nobody waits there, so it may have been loaded before the subscription."""

        async def visit() -> tuple[int, int]:
            cache, loader = NearCache(make_bus()), Loader()

            async def load() -> int:
                return loader()

            first = await cache.aget_or_set("a", load)
            while not cache.bus.status().leased:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.001)
            return first, await cache.aget_or_set("a", load)

        assert asyncio.run(visit()) == (1, 1)

    def test_in_a_child_of_a_process_that_has_not_cached_yet(self, make_bus) -> None:
        cache = NearCache(make_bus())

        def child() -> None:
            loader = Loader()
            cache.get_or_set("a", loader)
            assert cache.bus.wait_until_leased(PATIENCE_S)
            assert cache.bus._feed.view.covers(cache.peek("a").loaded_at)

        in_child(child)

    def test_in_a_child_of_a_process_that_was_warmed(self, make_bus) -> None:
        """A preloading server: what the parent has loaded is the child's, and stays leased."""
        cache = NearCache(make_bus())
        cache.set("a", "the parent's")

        def child() -> None:
            assert cache.get("b") is None
            assert cache.bus.wait_until_leased(PATIENCE_S)
            assert cache.get("a") == "the parent's"
            assert cache.bus._feed.view.covers(cache.peek("a").loaded_at)

        in_child(child)


class TestWhatIsLoadedBefore:
    """Where nobody could wait: it is served for `max_staleness` after its own load, and no longer."""

    @pytest.fixture
    def cache(self, clock: Clock) -> Iterator[NearCache]:
        with Invalidator("memory://", namespace="shop", clock=clock, link=SilentLink()) as bus:
            cache = NearCache(bus)
            bus.first_moments.are_over = True  # as if Redis had not answered in time
            cache.set("early", 1)
            clock.advance(0.5)
            bus.ledger.listen(clock())
            bus.ledger.prove(clock.advance(0.001))
            cache.set("late", 2)
            yield cache

    def test_it_is_not_void(self, cache) -> None:
        assert cache.get_many(["early", "late"]) == {"early": 1, "late": 2}

    def test_no_proof_prolongs_it(self, cache, clock) -> None:
        for _ in range(4):
            cache.bus.ledger.prove(clock.advance(0.5))
        assert cache.get_many(["early", "late"]) == {"late": 2}

    def test_a_hit_that_was_found_good_ends_in_time(self, cache, clock) -> None:
        """The short check of a hit goes by what the whole rule has found."""
        assert cache.get("early") == 1
        cache.bus.ledger.prove(clock.advance(2))
        assert cache.get("early") is None

    def test_it_is_loaded_anew_and_leased_then(self, cache, clock) -> None:
        cache.bus.ledger.prove(clock.advance(2))
        assert cache.get_or_set("early", lambda: 3) == 3
        cache.bus.ledger.prove(clock.advance(100))
        assert cache.get("early") == 3


class TestNothingWorks:
    def test_a_server_that_refuses_costs_no_wait(self, make_bus) -> None:
        """The first attempt shows it, and whoever waits is woken."""
        link = SilentLink()
        link.connect = refuse  # type: ignore[method-assign]
        bus = make_bus(link=link)
        wait = bus._feed.wait_for_first_proof
        bus._feed.wait_for_first_proof = lambda timeout_s: wait(1e6)
        cache = NearCache(bus)
        assert cache.get_or_set("a", lambda: 1) == 1
        assert cache.get("a") == 1

    def test_a_closed_bus_costs_no_wait(self, make_bus) -> None:
        """Its caches answer without a lease."""
        bus = make_bus()
        wait = bus._feed.wait_for_first_proof
        bus._feed.wait_for_first_proof = lambda timeout_s: wait(1e6)
        bus.close()
        assert NearCache(bus).get_or_set("a", lambda: 1) == 1


def refuse() -> Any:
    raise LinkDown("refused")
