"""
A worker that hears by the sidecar of its host: what it said itself holds at once, whatever the sidecar knows.

The test plays the sidecar: it writes the ledger's file, and applies what was published when it wants to.
"""

import asyncio
import contextlib
import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from invalidator.bus import Invalidator
from invalidator.errors import LedgerFileError, LinkDown, PublishError
from invalidator.feeds import sidecar_feed
from invalidator.feeds.listener import apply_to_ledger
from invalidator.feeds.sidecar_feed import CONNECTS_WITHIN_NS, LOOK_AGAIN_NS, SWEEP_AGAIN_NS
from invalidator.ledger import CHANGES, Ledger, now_ns
from invalidator.ledger.file import writing
from invalidator.link import Accepted, Post
from invalidator.message import decode
from invalidator.names import RedisNames, key_slot
from invalidator.near_cache import NearCache
from invalidator.writable_cache import WritableCache
from tests.support import Clock, S, SilentLink, Thread, in_child, wait_until

SLOTS = 1024


class Host(SilentLink):
    """
    The server and the sidecar. While `prompt`, what is published is in the ledger before the answer comes.

    Attributes:
        ledger: that of the file.
    """

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        super().__init__()
        self.path = path
        self.clock = clock
        self.prompt = True
        self.applied = 0
        self._lock = threading.RLock()
        self._stack = contextlib.ExitStack()
        self.start()

    def start(self, *, slots: int = SLOTS) -> None:
        """Start the sidecar, which proves at once that it hears everything."""
        self.ledger: Ledger = self._stack.enter_context(
            writing(self.path, namespace="shop", slots=slots, clock=self.clock)
        )

    def stop(self) -> None:
        """Stop it. The file stays."""
        self._stack.close()

    def replace(self, *, slots: int = SLOTS) -> None:
        """Stop it, and start it with a new file."""
        self.stop()
        self.path.unlink()
        self.start(slots=slots)

    def publish(self, names: RedisNames, journal_length: int, post: Post) -> Accepted:
        self.before_publish()
        with self._lock:
            if self.down:
                raise LinkDown("the test says so")
            self.published.append(list(post.bodies))
            accepted = Accepted(f"{len(self.published)}-0", 1)
            if self.prompt:
                self.apply()
        return accepted

    def apply(self, most: int = 10**9) -> None:
        """Let the sidecar apply what was published."""
        with self._lock:
            for number in range(self.applied, min(self.applied + most, len(self.published))):
                for body in map(decode, self.published[number]):
                    apply_to_ledger(self.ledger, body, self.clock())
                self.applied = number + 1
                self.ledger.move((self.applied, 0), 1, 1)


@pytest.fixture
def host(tmp_path: Path, clock: Clock) -> Iterator[Host]:
    host = Host(tmp_path / "ledger", clock)
    clock.advance(0.001)
    host.ledger.prove(clock())
    clock.advance(0.001)
    yield host
    host.stop()


@pytest.fixture
def make(host: Host) -> Iterator[Callable[..., Invalidator]]:
    made: list[Invalidator] = []

    def make(**options: Any) -> Invalidator:
        options = {"clock": host.clock, "link": host, "sidecar": host.path, "close_timeout": 0, **options}
        made.append(Invalidator("memory://", namespace="shop", **options))
        return made[-1]

    yield make
    host.down = False
    for bus in made:
        bus.close()


@pytest.fixture
def bus(make) -> Invalidator:
    return make()


@pytest.fixture
def cache(bus) -> WritableCache:
    return WritableCache(bus)


def is_sure(bus: Invalidator) -> bool:
    """Whether hits compare with the host's count of changes, and look at nothing else."""
    return bus.hit_words[CHANGES] == bus._feed.view.words[CHANGES]


class TestByTheSidecar:
    def test_it_starts_no_thread_and_opens_no_connection(self, host, bus, cache) -> None:
        """An invalidation costs a worker nothing: the point of it all."""
        before = threading.enumerate()
        assert cache.set("a", 1)
        assert cache.get("a") == 1
        assert threading.enumerate() == before
        assert host.connections == []
        assert (bus.status().listener, bus.status().state, bus.status().leased) == ("sidecar", "sidecar", True)

    def test_what_the_sidecar_stamps_is_void(self, host, cache, clock) -> None:
        cache.set("a", 1)
        host.ledger.stamp([key_slot("a", SLOTS)], clock.advance(0.1))
        assert cache.get("a") is None

    def test_the_lease_is_the_workers_own(self, host, make, clock) -> None:
        """The file holds the time of the proof, not an end: the workers of one sidecar may have different bounds."""
        short, long = NearCache(make(max_staleness=0.5)), NearCache(make(max_staleness=5))
        short.set("a", 1)
        long.set("a", 1)
        clock.advance(1)
        assert (short.get("a"), long.get("a")) == (None, 1)

    def test_a_worker_has_as_many_slots_as_its_host(self, bus) -> None:
        """A slot means the same in the host's ledger and in its own, whatever `slots` says."""
        assert bus.slots == bus.ledger.slots == SLOTS

    def test_no_proof_yet_is_no_lease(self, tmp_path, make, clock) -> None:
        """Also on a machine that has been running for less than the bound, whose clock is close to 0."""
        young = Clock(S // 2)
        with writing(tmp_path / "young", namespace="shop", slots=64):
            bus = make(sidecar=tmp_path / "young", clock=young)
            assert not bus.status().leased
            assert not bus._feed.is_leased()

    def test_a_missing_or_foreign_file_is_an_error_where_it_was_named(self, tmp_path, make, host) -> None:
        """Whoever names a path wants that one, and is told at once."""
        with pytest.raises(LedgerFileError, match="no ledger at"):
            make(sidecar=tmp_path / "nothing")
        with pytest.raises(LedgerFileError, match="its namespace is 'shop', not 'bank'"):
            Invalidator("memory://", namespace="bank", sidecar=host.path)


class TestReadingWhatOneWrote:
    def test_invalidate_returns_when_the_hosts_ledger_has_it(self, host, bus, cache) -> None:
        """So the next request, on any sibling, reads the new value."""
        host.prompt = False
        cache.set("a", 1)
        saying = Thread(lambda: bus.invalidate("a"))
        wait_until(lambda: host.published)
        assert saying.is_alive()
        host.apply()
        assert saying.outcome().accepted
        assert bus.status().position == "1-0"
        assert cache.get("a") is None

    def test_then_hits_are_fast_again(self, host, bus, cache) -> None:
        """Doubt costs a microsecond with every read."""
        assert is_sure(bus)
        host.before_publish = lambda: _must_be(is_sure(bus), False)
        bus.invalidate("a")
        assert is_sure(bus)

    def test_it_is_void_here_before_the_sidecar_knows(self, host, bus, cache) -> None:
        """Also for a tag, whose entries nobody removes one by one."""
        host.prompt = False
        cache.set("a", 1, tags=["t"])
        cache.set("b", 2)
        assert (cache.get("a"), cache.get("b")) == (1, 2)
        saying = Thread(lambda: bus.invalidate(tags=["t"]))
        wait_until(lambda: host.published)
        assert (cache.get("a"), cache.get("b")) == (None, 2)
        host.apply()
        saying.outcome()

    def test_what_it_keeps_to_itself_holds_though_the_sidecar_will_never_know(self, host, make) -> None:
        """An integration publishes nothing while tests run."""

        class Silent(Invalidator):
            publishes = False

        with Silent("memory://", namespace="shop", clock=host.clock, link=host, sidecar=host.path) as bus:
            cache = WritableCache(bus)
            for key in "ab":
                cache.set(key, 1, tags=["t"])
                assert cache.get(key) == 1
            host.clock.advance(0.001)
            bus.invalidate("a")
            assert (cache.get("a"), cache.get("b")) == (None, 1)
            bus.invalidate(tags=["t"])
            assert cache.get("b") is None
            assert host.published == []

    def test_a_load_that_overlaps_it_is_not_kept(self, host, bus, cache) -> None:
        """The fill comes while the invalidation is between Redis and the sidecar."""
        host.prompt = False
        saying = []

        def load() -> str:
            saying.append(Thread(lambda: bus.invalidate("a")))
            wait_until(lambda: host.published)
            return "old"

        assert cache.get_or_set("a", load) == "old"
        assert cache.get("a") is None
        host.apply()
        saying[0].outcome()
        assert cache.get("a") is None

    def test_it_does_not_wait_for_what_other_threads_say(self, host, bus) -> None:
        """In a busy process there is always somebody who is just publishing."""
        enter, leave = threading.Event(), threading.Event()

        def block() -> None:
            if threading.current_thread() is other:
                enter.set()
                leave.wait()

        host.before_publish = block
        go = threading.Event()
        other = Thread(lambda: go.wait() and bus.invalidate("b"))
        go.set()
        enter.wait()
        bus.invalidate("a")  # with a clock that stands still, it would wait for ever
        assert not is_sure(bus)
        leave.set()
        other.outcome()
        assert is_sure(bus)

    def test_it_waits_at_most_as_long_as_there_is_a_lease(self, host, bus, cache, clock) -> None:
        """A dead sidecar does not hold up the requests of its workers."""
        host.prompt = False
        cache.set("a", 1)
        host.before_publish = lambda: clock.advance(2)
        assert bus.invalidate("a").accepted
        assert not is_sure(bus)
        assert cache.get("a") is None

    def test_a_flush_of_the_hosts_ledger_is_as_good_as_the_message(self, host, bus, clock) -> None:
        """A sidecar that lost its position voids everything and goes on from the journal's end."""
        host.prompt = False
        saying = Thread(lambda: bus.invalidate("a"))
        wait_until(lambda: host.published and len(bus._feed._unsettled))
        host.ledger.flush(clock.advance(0.1))
        host.ledger.prove(clock.advance(0.1))  # only then is the flush known to be counted
        assert saying.outcome().accepted
        assert is_sure(bus)


class TestWithoutRedis:
    def test_own_names_are_void_though_nobody_else_knows(self, host, bus, cache, clock) -> None:
        host.down = True
        cache.set("a", 1, tags=["t"])
        cache.set("b", 2)
        assert bus.invalidate(tags=["t"]).queued
        clock.advance(0.001)
        assert (cache.get("a"), cache.get("b")) == (None, 2)
        assert cache.set("a", 3, tags=["t"])
        assert cache.get("a") == 3

    def test_doubt_ends_in_a_process_that_only_reads(self, host, bus, cache, clock) -> None:
        """Nobody waits for what was queued, and a worker whose every read is a hit never fills."""
        cache.set("b", 2)
        host.down, host.prompt = True, False
        receipt = bus.invalidate("a")
        host.down = False
        assert receipt.wait(30)
        cache.get("b")
        assert not is_sure(bus)
        host.apply()
        clock.advance(0.002)
        assert cache.get("b") == 2
        assert is_sure(bus)

    def test_an_invalidation_that_was_refused_is_in_force_here(self, host, make) -> None:
        """`publish="raise"`: the host's ledger will never know, so what it voids leaves before hits are fast again."""
        bus = make(publish="raise")
        cache = NearCache(bus)
        cache.set("a", 1, tags=["t"])
        cache.set("b", 2)
        assert (cache.get("a"), cache.get("b")) == (1, 2)
        host.down = True
        with pytest.raises(PublishError):
            bus.invalidate(tags=["t"])
        assert is_sure(bus)
        assert (cache.get("a"), cache.get("b")) == (None, 2)

    def test_refusals_in_a_row_are_swept_once_a_second(self, host, make, clock) -> None:
        """A sweep looks at every entry: an outage must not make each invalidation cost that."""
        bus = make(publish="raise")
        cache = NearCache(bus)
        host.down = True
        for tag in ("t", "u"):
            cache.set("a", 1, tags=[tag])
            assert cache.get("a") == 1
            with pytest.raises(PublishError):
                bus.invalidate(tags=[tag])
            assert cache.get("a") is None
            clock.advance(0.001)
        assert not is_sure(bus)
        clock.advance(SWEEP_AGAIN_NS / S)
        cache.set("b", 2)
        assert is_sure(bus)

    def test_what_falls_out_of_the_queue_stays_void_here(self, host, make) -> None:
        """The receipts kept are bounded; the stamps they stood for are swept, whatever the host has reached."""
        bus = make(queue_size=2)
        cache = NearCache(bus)
        host.down = True
        for key in "abc":
            cache.set(key, key, tags=[key])
            assert cache.get(key) == key
        for key in "abc":
            bus.invalidate(tags=[key])
        assert len(bus._feed._unsettled) == 2
        host.down, host.prompt = False, False
        wait_until(lambda: not bus.status().queued)
        host.ledger.move((9, 0), 1, 1)
        bus.start()
        assert is_sure(bus)
        assert [cache.get(key) for key in "abc"] == [None] * 3

    def test_a_process_that_is_out_of_threads_delivers_with_the_next_invalidation(self, host, bus, monkeypatch) -> None:
        """The request that could not start the courier does not fail, and what waits is not forgotten."""

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        host.down = True
        with monkeypatch.context() as without_threads:
            without_threads.setattr(threading.Thread, "start", refuse)
            assert bus.invalidate("a").queued
        assert bus.invalidate("b").queued
        host.down = False
        wait_until(lambda: not bus.status().queued)
        assert sorted(host.names_published) == ["a", "b"]

    def test_an_interrupted_publish_leaves_no_doubt_behind(self, host, bus, cache) -> None:
        """A worker's time-out, Ctrl-C: what was being published is orphaned, and published again."""
        cache.set("a", 1, tags=["t"])
        assert cache.get("a") == 1

        def interrupt() -> None:
            host.before_publish = lambda: None
            raise KeyboardInterrupt

        host.before_publish = interrupt
        with pytest.raises(KeyboardInterrupt):
            bus.invalidate(tags=["t"])
        wait_until(lambda: is_sure(bus))
        assert cache.get("a") is None

    def test_who_is_cancelled_has_said_it_all_the_same(self, host, bus) -> None:
        """A web server cancels the request of a client that went away, after its change was committed."""

        async def main() -> None:
            saying = asyncio.ensure_future(bus.ainvalidate("a"))
            await asyncio.sleep(0)
            saying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await saying

        asyncio.run(main())
        assert host.names_published == ["a"]
        assert is_sure(bus)


class TestHolds:
    def test_a_worker_keeps_nothing_that_it_holds_itself(self, host, bus, cache, clock) -> None:
        """Before the sidecar knows of the hold, and after."""
        cache.set("a", 1)
        host.before_publish = lambda: _must_be(cache.set("a", 2), False)
        with contextlib.closing(_Released(bus.hold("a"))):
            clock.advance(0.001)
            assert cache.get("a") is None
            assert not cache.set("a", 3)
            host.before_publish = lambda: None
        clock.advance(0.001)
        assert cache.set("a", 4)
        assert cache.get("a") == 4
        assert is_sure(bus)

    def test_a_hold_that_was_not_announced_holds_nothing(self, host, bus, cache, clock) -> None:
        host.down = True
        with pytest.raises(PublishError):
            bus.hold("a")
        clock.advance(0.001)
        assert cache.set("a", 1)
        assert cache.get("a") == 1


class TestEndingDoubt:
    """Whoever ends it must be right about all threads, at that moment."""

    def test_not_while_others_said_something_during_the_sweep(self, host, make) -> None:
        """The sweep runs without a lock: an invalidation that is queued meanwhile must not be forgotten."""
        bus = make(publish="raise")
        once: list[object] = []

        def on_evict(key: str, value: object, cause: str) -> None:
            if not once:
                once.append(key)
                host.prompt, host.down = False, False
                clock.advance(5)  # the sidecar is dead: nothing waits for it
                bus.invalidate(tags=["u"])

        clock = host.clock
        cache = NearCache(bus, on_evict=on_evict)
        host.ledger.prove(clock() + 3 * S)
        cache.set("a", 1, tags=["t"])
        cache.set("b", 2, tags=["u"])
        assert cache.get("b") == 2
        host.down = True
        with pytest.raises(PublishError):
            bus.invalidate(tags=["t"])
        assert once
        assert not is_sure(bus)
        host.ledger.prove(clock())
        assert cache.get("b") is None

    def test_not_by_another_thread_while_one_sweeps(self, host, make) -> None:
        """What the sweep has not reached yet is void, and looks valid to a hit."""
        bus = make(publish="raise")
        seen: list[bool] = []

        def on_evict(key: str, value: object, cause: str) -> None:
            Thread(bus.start).outcome()
            seen.append(is_sure(bus))

        cache = NearCache(bus, on_evict=on_evict)
        for key in "abc":
            cache.set(key, key, tags=["t"])
            assert cache.get(key) == key
        host.down = True
        with pytest.raises(PublishError):
            bus.invalidate(tags=["t"])
        assert seen == [False] * 3
        assert is_sure(bus)

    def test_a_cache_that_is_made_meanwhile_doubts_too(self, host, bus, clock) -> None:
        host.down = True
        bus.invalidate("a")
        cache = NearCache(bus)
        assert cache._words is bus.hit_words
        assert not is_sure(bus)

    def test_a_read_in_a_signal_handler_does_not_wait_for_the_lock(self, host, bus, cache) -> None:
        """It would wait for the very thread that it has interrupted."""
        cache.set("b", 2)
        host.down = True
        bus.invalidate("a")
        with bus._feed._lock:
            assert cache.get("b") == 2

    def test_no_read_is_stale_after_the_own_invalidation_under_random_threads(self, tmp_path) -> None:
        """
        Five threads of one worker invalidate, read and fill while Redis refuses and comes back and the sidecar lags:
        whoever has invalidated a key is never served, by any thread, what was loaded before.
        """
        for seed in range(3):
            _Frenzy(tmp_path / f"ledger-{seed}", seed).run()


class _Frenzy:
    """A model: the version of each key that every reader must see at least."""

    KEYS = "abcdef"
    ROUNDS = 400

    def __init__(self, path: Path, seed: int) -> None:
        self.host = Host(path, now_ns)
        self.host.prompt = False
        self.host.ledger.prove(now_ns())
        self.bus = Invalidator(
            "memory://",
            namespace="shop",
            sidecar=path,
            link=self.host,
            publish=random.Random(seed).choice(["raise", "queue"]),
            max_staleness=0.05,
            close_timeout=0,
        )
        self.cache = NearCache(self.bus)
        self.seed = seed
        self.source = dict.fromkeys(self.KEYS, 0)
        self.floor = dict.fromkeys(self.KEYS, 0)
        self.writing = {key: threading.Lock() for key in self.KEYS}
        self.over = threading.Event()

    def run(self) -> None:
        sidecar = Thread(self.play_sidecar)
        threads = [Thread(lambda number=number: self.work(number)) for number in range(5)]
        for thread in threads:
            thread.outcome()
        self.over.set()
        sidecar.outcome()
        self.host.down = False
        wait_until(lambda: not self.bus.status().queued)
        self.host.apply()
        self.host.ledger.prove(now_ns())

        def doubt_has_ended() -> bool:
            self.cache.get("a")
            return is_sure(self.bus)

        wait_until(doubt_has_ended)
        self.bus.close()
        self.host.stop()

    def play_sidecar(self) -> None:
        choose = random.Random(self.seed)
        while not self.over.wait(choose.random() * 0.003):
            asked_at = now_ns()
            lagging = choose.random() < 0.3
            self.host.apply(most=1 if lagging else 10**9)
            if not lagging:
                self.host.ledger.prove(asked_at)
            self.host.down = choose.random() < 0.3

    def work(self, number: int) -> None:
        choose = random.Random(self.seed * 100 + number)
        for _ in range(self.ROUNDS):
            key = choose.choice(self.KEYS)
            if choose.random() < 0.2:
                self.write(key)
                continue
            floor = self.floor[key]
            found = self.cache.get_or_set(key, lambda key=key: self.source[key], tags=[f"tag-{key}"])
            assert found >= floor, f"seed {self.seed}: {key} is {found}, must be {floor} at least"

    def write(self, key: str) -> None:
        with self.writing[key]:
            self.source[key] += 1
            version = self.source[key]
            with contextlib.suppress(PublishError):
                self.bus.invalidate(tags=[f"tag-{key}"])
            self.floor[key] = version


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestFork:
    def test_a_child_of_unsettled_receipts_settles_them_for_itself(self, host, bus, cache, clock) -> None:
        """The parent's courier tells the parent. What the child inherited is void in the child as well."""
        cache.set("a", 1, tags=["t"])
        cache.set("b", 2)
        assert cache.get("a") == 1
        host.down = True
        bus.invalidate(tags=["t"])

        def child() -> None:
            assert cache.get("b") == 2
            assert is_sure(bus)
            assert cache.get("a") is None

        clock.advance(0.002)
        in_child(child)
        assert not is_sure(bus)

    def test_threads_that_were_speaking_do_not_speak_in_the_child(self, host, bus, cache, clock) -> None:
        """Or the child would wait for them with each of its own invalidations, and doubt for ever."""
        enter, leave = threading.Event(), threading.Event()
        host.before_publish = lambda: (enter.set(), leave.wait())
        other = Thread(lambda: bus.invalidate("a"))
        enter.wait()

        def child() -> None:
            host.before_publish = lambda: None
            bus.invalidate("b")
            assert is_sure(bus)

        in_child(child)
        leave.set()
        other.outcome()
        assert is_sure(bus)

    def test_entries_and_lease_go_on_in_the_child(self, bus, cache) -> None:
        """Preloaded and forked: the map is the same."""
        cache.set("a", 1)
        in_child(lambda: _must_be((cache.get("a"), bus.status().leased), (1, True)))


class TestARestartedSidecar:
    def test_a_map_outlives_its_writer(self, host, bus, cache, clock) -> None:
        """A restart or an upgrade: the file is taken over, and nothing is void."""
        cache.set("a", 1)
        host.stop()
        host.start()
        host.ledger.prove(clock.advance(1))
        clock.advance(1.5)
        assert cache.get("a") == 1

    def test_a_new_file_is_mapped_once_the_lease_has_ended(self, host, bus, cache, clock) -> None:
        """Somebody removed it, or the new version has another layout. What was loaded before is void."""
        cache.set("a", 1)
        assert cache.get("a") == 1
        host.replace()
        clock.advance(2)
        bus.start()
        host.ledger.prove(clock())
        assert bus.status().leased
        assert cache.get("a") is None
        assert cache.set("a", 2)
        assert cache.get("a") == 2
        host.ledger.stamp([key_slot("a", SLOTS)], clock.advance(0.1))
        assert cache.get("a") is None
        assert is_sure(bus)

    def test_a_new_file_settles_what_was_said_before_it(self, host, bus, cache, clock) -> None:
        """Its flush is younger."""
        host.down = True
        cache.set("a", 1, tags=["t"])
        assert cache.get("a") == 1
        bus.invalidate(tags=["t"])
        host.replace()
        host.ledger.flush(clock.advance(2))
        bus.start()
        host.ledger.prove(clock.advance(0.1))
        bus.start()
        assert is_sure(bus)
        assert cache.get("a") is None

    def test_the_file_is_looked_at_now_and_then(self, host, bus, clock, monkeypatch) -> None:
        """A fill must not cost a system call while the sidecar is away."""
        looks = []
        monkeypatch.setattr(bus._feed, "_look_for_new_file", lambda: looks.append(clock()))
        clock.advance(2)
        for _ in range(4):
            bus.start()
            clock.advance(LOOK_AGAIN_NS / S / 2)
        assert len(looks) == 2

    def test_another_number_of_slots_is_refused_and_named(self, host, bus, cache, clock) -> None:
        """Every entry of this process knows its slots."""
        cache.set("a", 1)
        host.replace(slots=64)
        clock.advance(2)
        bus.start()
        host.ledger.prove(clock())
        status = bus.status()
        assert not status.leased
        assert status.last_error == "the sidecar was restarted with 64 slots instead of 1024: restart this process"
        assert cache.get_or_set("a", lambda: 2) == 2

    @pytest.mark.parametrize("damage", ["removed", "empty", "a directory", "a dangling link"])
    def test_whatever_is_at_its_place_a_request_never_fails(self, host, bus, cache, clock, damage) -> None:
        host.stop()
        host.path.rename(host.path.with_name("aside"))
        if damage == "empty":
            host.path.touch(mode=0o640)
        elif damage == "a directory":
            host.path.mkdir()
        elif damage == "a dangling link":
            host.path.symlink_to("nowhere")
        clock.advance(2)
        assert cache.get_or_set("a", lambda: 1) == 1
        assert cache.get("a") == 1
        assert bus.invalidate("a").accepted
        assert str(host.path) in (bus.status().last_error or "")
        if damage == "removed":
            host.start()
            clock.advance(LOOK_AGAIN_NS / S)
            bus.start()
            assert bus.status().last_error is None
        else:
            host.path = host.path.with_name("aside")


class TestASidecarThatHasJustStarted:
    """It has made its file, and does not listen yet."""

    @pytest.fixture
    def host(self, tmp_path, clock) -> Iterator[Host]:
        host = Host(tmp_path / "ledger", clock)
        clock.advance(0.001)
        yield host
        host.stop()

    def listen(self, host: Host, clock: Clock) -> None:
        """It begins to listen: its position jumps over what was published."""
        host.ledger.listen(clock.advance(0.001))
        host.applied = len(host.published)
        host.ledger.move((max(1, host.applied), 0), 1, 1)
        host.ledger.prove(clock.advance(0.001))
        clock.advance(0.001)

    def test_what_a_worker_loads_before_is_served_as_in_an_outage(self, host, bus, cache, clock) -> None:
        """Neither void, nor covered by any proof."""
        bus.first_moments.are_over = True
        cache.set("early", 1)
        self.listen(host, clock)
        cache.set("late", 2)
        assert cache.get_many(["early", "late"]) == {"early": 1, "late": 2}
        host.ledger.prove(clock.advance(2))
        assert cache.get_many(["early", "late"]) == {"late": 2}

    def test_what_the_position_jumps_over_is_swept_here(self, host, bus, cache, clock) -> None:
        """
        The host's ledger has reached the id of the worker's own message, and has no stamp of it. Hits look at that
        ledger alone once doubt has ended.
        """
        bus.first_moments.are_over = True
        host.prompt = False
        cache.set("a", 1, tags=["t"])
        assert cache.get("a") == 1
        bus.invalidate(tags=["t"])
        self.listen(host, clock)
        bus.start()
        assert is_sure(bus)
        assert cache.get("a") is None

    def test_a_first_miss_waits_for_it(self, host, bus, cache, clock, monkeypatch) -> None:
        looks = iter([lambda: None, lambda: self.listen(host, clock)])
        monkeypatch.setattr(sidecar_feed.time, "sleep", lambda seconds: next(looks)())
        assert cache.get_or_set("a", lambda: 1) == 1
        assert bus._feed.view.covers(cache.peek("a").loaded_at)

    def test_not_if_it_has_tried_for_long(self, host, bus, cache, clock, monkeypatch) -> None:
        """Redis is away: every new worker would wait in vain."""
        monkeypatch.setattr(sidecar_feed.time, "sleep", lambda seconds: 1 / 0)
        clock.advance(CONNECTS_WITHIN_NS / S)
        assert cache.get_or_set("a", lambda: 1) == 1

    def test_nor_longer_than_it_may(self, bus, monkeypatch) -> None:
        """By the real time: nothing else ends this wait."""
        times = itertools.count(step=0.03)
        monkeypatch.setattr(sidecar_feed, "time", SimpleNamespace(monotonic=lambda: next(times), sleep=lambda _: None))
        bus._feed.wait_for_first_proof(0.1)
        assert 0.1 <= next(times) < 0.3


class TestAuto:
    @pytest.fixture(autouse=True)
    def _default_path(self, host, monkeypatch) -> None:
        monkeypatch.setattr("invalidator.bus.default_path", lambda namespace: host.path)

    def test_a_live_sidecar_is_used(self, make) -> None:
        assert make(sidecar="auto").status().listener == "sidecar"

    def test_without_a_sidecar_it_listens_for_itself_and_says_so(self, host, make, caplog) -> None:
        host.stop()
        host.path.unlink()
        with caplog.at_level("INFO", "invalidator.bus"):
            assert make(sidecar="auto").status().listener == "own"
        assert "no live sidecar, listening for ourselves" in caplog.text

    def test_the_file_of_a_dead_sidecar_is_not_used(self, host, make, clock) -> None:
        """It would never be proven again."""
        clock.advance(2)
        assert make(sidecar="auto").status().listener == "own"

    def test_a_sidecar_that_has_proved_nothing_yet_is_not_used(self, host, make) -> None:
        host.replace()
        assert make(sidecar="auto").status().listener == "own"

    def test_a_strangers_file_is_not_used(self, host, make, monkeypatch) -> None:
        """The default place can be written by every user of the host: whoever came first could say what is valid."""
        fstat = os.fstat
        monkeypatch.setattr(os, "fstat", lambda it: os.stat_result((*(found := fstat(it))[:4], 4711, *found[5:])))
        assert make(sidecar="auto").status().listener == "own"
        assert make(sidecar=host.path).status().listener == "sidecar"


class _Released:
    """A hold as `contextlib.closing` wants it."""

    def __init__(self, hold: Any) -> None:
        self.close = hold.release


def _must_be(found: object, wanted: object) -> None:
    assert found == wanted


class TestChanges:
    """A worker's own change comes back to it by the host's ledger, as if somebody else had said it."""

    @pytest.fixture(autouse=True)
    def _time_passes(self, host, cache, clock) -> None:
        cache._clock = lambda: clock.advance(0.000001)
        host.before_publish = lambda: clock.advance(0.001)

    def test_a_replaced_value_survives_here(self, host, cache, clock) -> None:
        cache.set("a", "old")
        cache.replace({"a": "new"}).publish()
        assert cache.get("a") == "new"
        clock.advance(0.001)
        host.ledger.stamp([key_slot("a", SLOTS)], clock())
        assert cache.get("a") is None, "what others say later counts"

    def test_an_update_survives_here(self, host, cache, clock) -> None:
        cache.set("n", 1)
        cache.update("n", lambda number: number + 1)[1].publish()
        assert cache.get("n") == 2

    def test_what_this_process_has_invalidated_meanwhile_does_not_come_back(self, host, bus, cache, clock) -> None:
        change = cache.replace({"a": "new"})
        clock.advance(0.001)
        bus.invalidate("a")
        clock.advance(0.001)
        change.publish()
        assert cache.get("a") is None
