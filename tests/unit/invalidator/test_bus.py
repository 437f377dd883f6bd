"""One process' part in a namespace."""

import asyncio
import contextlib
import gc
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from invalidator import journal_reader
from invalidator.bus import Invalidator
from invalidator.errors import ClosedError, InvalidName, InvalidSetting, JournalUnread, PublishError
from invalidator.link import Post
from invalidator.link.memory import MemoryLink
from invalidator.message import Body, decode
from invalidator.names import key_slot, tag_slot
from invalidator.near_cache import NearCache
from invalidator.protocol.frames import Push
from invalidator.status import Invalidation
from tests.interrupts import Places, interrupted
from tests.support import PATIENCE_S, Clock, SilentLink, Thread, in_child, wait_until


@pytest.fixture
def link() -> SilentLink:
    return SilentLink()


@pytest.fixture
def make(clock: Clock, link: SilentLink) -> Iterator[Callable[..., Invalidator]]:
    made: list[Invalidator] = []

    def make(**options: Any) -> Invalidator:
        options = {"clock": clock, "link": link, "namespace": "shop", "close_timeout": 0, **options}
        made.append(Invalidator("memory://", **options))
        return made[-1]

    yield make
    for bus in made:
        bus.close()


@pytest.fixture
def bus(make) -> Invalidator:
    return make()


@pytest.fixture
def two(namespace: str) -> Iterator[tuple[Invalidator, Invalidator]]:
    """Two nodes that receive from each other."""
    one, two = (Invalidator("memory://two", namespace=namespace) for _ in range(2))
    with one, two:
        assert one.wait_until_leased(PATIENCE_S)
        assert two.wait_until_leased(PATIENCE_S)
        yield one, two


def stamp_of(bus: Invalidator, key: str) -> int:
    return bus.ledger.newest_stamp([key_slot(key, bus.ledger.slots)])


class TestOptions:
    @pytest.mark.parametrize("url", ["", "localhost:6379", "http://x", "redis//x", 7, None])
    def test_a_url_that_cannot_work_is_refused(self, url) -> None:
        with pytest.raises(InvalidSetting, match="url must be"):
            Invalidator(url, namespace="shop")

    def test_an_unknown_option_is_refused_by_name(self) -> None:
        with pytest.raises(InvalidSetting, match="max_stalenes'"):
            Invalidator("memory://", namespace="shop", max_stalenes=1)

    def test_a_bad_value_is_refused(self) -> None:
        with pytest.raises(InvalidSetting, match="when_unleased must be one of 'short', 'bypass', 'serve'"):
            Invalidator("memory://", namespace="shop", when_unleased="pass")

    def test_a_namespace_is_needed(self) -> None:
        """Nobody shares one with a stranger by accident."""
        with pytest.raises((InvalidSetting, TypeError), match="namespace"):
            Invalidator("memory://")

    def test_every_node_has_an_id_of_its_own(self, make) -> None:
        assert make().node != make().node


class TestStartsNothing:
    def test_until_something_is_cached(self, bus, link) -> None:
        """A preloading server makes it before it forks."""
        before = threading.active_count()
        bus.invalidate("a")
        bus.status()
        assert link.connections == []
        assert threading.active_count() == before
        assert bus.status().state == "idle"

    def test_starting_twice_starts_once(self, bus, link) -> None:
        bus.start()
        bus.start()
        wait_until(lambda: link.connections)
        assert len(link.connections) == 1

    def test_a_callback_starts_it(self, bus, link) -> None:
        bus.on_invalidate(lambda it: None)
        wait_until(lambda: link.connections)


class TestInvalidating:
    def test_it_is_in_force_here_before_it_is_published(self, bus, link, clock) -> None:
        """The caller of `invalidate` never reads what it has replaced."""
        stamps = []
        link.before_publish = lambda: stamps.append(stamp_of(bus, "a"))
        bus.invalidate("a")
        assert stamps == [clock()]

    def test_one_call_is_one_message(self, bus, link) -> None:
        receipt = bus.invalidate("a", "b", "a", tags=["t", "t"])
        assert receipt.accepted
        [[body]] = link.published
        assert decode(body) == Body(v=1, node=bus.node, keys=("a", "b"), tags=("t",))

    def test_a_key_may_be_published_for_the_others_alone(self, bus, link, clock) -> None:
        """This process has its new value already; the rest of the message is in force here, too."""
        cache = NearCache(bus)
        bus.ledger.prove(clock())
        cache.set_many({"mine": "new", "stale": "old"})
        clock.advance(0.001)
        bus.announce("stale", elsewhere=["mine"])()
        assert link.names_published == ["stale", "mine"]
        assert len(link.published) == 1
        assert cache.get_many(["mine", "stale"]) == {"mine": "new"}
        bus.announce(elsewhere=["mine"])()
        assert cache.get("mine") == "new"
        with pytest.raises(InvalidName):
            bus.announce(elsewhere=[""])

    def test_it_voids_key_and_tags(self, bus, clock) -> None:
        bus.invalidate("a", tags=["t"])
        assert stamp_of(bus, "a") == bus.ledger.newest_stamp([tag_slot("t", bus.ledger.slots)]) == clock()

    @pytest.mark.parametrize(
        ("keys", "tags", "says"),
        [
            ((), (), "nothing to invalidate"),
            (("",), (), "a key must not be empty"),
            ((7,), (), "a key must be a str"),
            (("a", None), (), "a key must be a str"),
            (("a",), "prices", "for one tag write"),
            ((), [""], "a tag must not be empty"),
            (("a",), 7, "tags must be a list"),
        ],
    )
    def test_bad_names_are_refused_and_nothing_is_published(self, bus, link, keys, tags, says) -> None:
        for use in (lambda: bus.invalidate(*keys, tags=tags), lambda: asyncio.run(bus.ainvalidate(*keys, tags=tags))):
            with pytest.raises(InvalidName, match=says):
                use()
        assert link.published == []
        assert stamp_of(bus, "a") == 0

    def test_async_is_in_force_at_once_and_does_not_block_the_loop(self, bus, link, clock) -> None:
        turned, stamps = threading.Event(), []

        def slow_redis() -> None:
            stamps.append(stamp_of(bus, "a"))
            turned.wait()  # until the loop has turned

        async def main() -> Any:
            link.before_publish = slow_redis
            saying = asyncio.create_task(bus.ainvalidate("a"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            turned.set()
            return await saying

        assert asyncio.run(main()).accepted
        assert stamps == [clock()]

    def test_clear_voids_everything_here_and_is_published(self, bus, link, clock) -> None:
        assert bus.clear().accepted
        assert stamp_of(bus, "anything") == clock()
        assert link.names_published == ["*"]

    def test_while_redis_is_away_it_is_in_force_here_and_waits(self, make, link, clock) -> None:
        link.down = True
        bus = make()
        receipt = bus.invalidate("a")
        assert (receipt.accepted, receipt.queued) == (False, True)
        assert stamp_of(bus, "a") == clock()
        assert bus.status().queued == 1
        assert "the test says so" in bus.status().last_error
        link.down = False
        assert receipt.wait(PATIENCE_S)
        wait_until(lambda: bus.status().queued == 0 and bus.status().last_error is None)

    @pytest.mark.parametrize("down", [False, True])
    def test_entries_leave_after_the_message_was_published(self, make, link, down) -> None:
        """They are void before that; the message must not wait for callbacks on evictions."""
        happened: list[str] = []
        bus = make(publish="raise")
        cache = NearCache(bus, on_evict=lambda key, value, cause: happened.append(cause))
        link.before_publish = lambda: happened.append("told")
        link.down = down
        cache.set("a", "old")
        with pytest.raises(PublishError) if down else contextlib.nullcontext():
            bus.invalidate("a")
        assert happened == ["told", "invalidated"]

    def test_with_raise_it_raises_and_is_in_force_here(self, make, link, clock) -> None:
        link.down = True
        bus = make(publish="raise")
        for use in (lambda: bus.invalidate("a"), bus.clear, lambda: asyncio.run(bus.ainvalidate("a"))):
            with pytest.raises(PublishError):
                use()
        assert stamp_of(bus, "a") == clock()
        assert bus.status().queued == 0


class Silent(Invalidator):
    """Of an integration, while tests run whose changes nobody else is to see."""

    publishes = False


class TestPublishingNothing:
    def test_it_is_in_force_here_and_reaches_nobody(self, link, clock) -> None:
        with Silent("memory://", namespace="shop", clock=clock, link=link, publish="raise") as bus:
            cache = NearCache(bus)
            cache.set("a", 1)
            receipt = bus.invalidate("a")
            assert (receipt.accepted, receipt.queued, bool(receipt.lost_because)) == (False, False, True)
            assert "a" not in cache
            cache.set("a", 2)
            clock.advance(1)
            bus.clear()
            assert "a" not in cache
            bus.hold("b").release()
            assert link.names_published == []
            assert bus.status().published == bus.status().queued == 0

    def test_what_was_loaded_since_then_leaves_and_nothing_else(self, bus, clock) -> None:
        """The rows of a test are gone at its end, and what its caches were filled from."""
        cache, other = NearCache(bus), NearCache(bus)
        cache.set("before", 1)
        other.get("missed")
        clock.advance(0.1)
        began = clock()
        bus.evict_loaded_since(began)
        for some in (cache, other):
            some.set("inside", 1)
        other.set("missed", "inside, and as old as the miss, if that were not forgotten")
        clock.advance(0.1)
        bus.evict_loaded_since(began)
        assert ["before" in cache, "inside" in cache, len(other)] == [True, False, 0]
        assert cache.stats().evictions["hand"] == 1


class TestReceiving:
    def test_what_one_publishes_the_other_evicts(self, two) -> None:
        one, other = two
        evicted = threading.Event()
        cache = NearCache(other, on_evict=lambda key, value, cause: evicted.set())
        cache.set("a", "old")
        one.invalidate("a")
        assert evicted.wait(PATIENCE_S)
        assert cache.get("a") is None
        assert cache.stats().evictions["invalidated"] == 1

    def test_a_tag_voids_without_dropping(self, two) -> None:
        one, other = two
        heard = threading.Event()
        other.on_invalidate(lambda it: heard.set(), tags=["t"])
        cache = NearCache(other)
        cache.set("a", "old", tags=["t"])
        one.invalidate(tags=["t"])
        assert heard.wait(PATIENCE_S)
        assert len(cache) == 1
        assert cache.get("a") is None

    def test_the_own_echo_does_not_throw_the_fresh_value_away(self, two) -> None:
        """invalidate, reload, receive the own message: the reloaded value stays."""
        one, _ = two
        heard = threading.Event()
        one.on_invalidate(lambda it: heard.set(), keys=["a"])
        cache = NearCache(one)
        one.invalidate("a")
        cache.get_or_set("a", lambda: "fresh")
        assert heard.wait(PATIENCE_S)
        assert cache.get("a") == "fresh"

    def test_namespaces_receive_nothing_of_each_other(self, two) -> None:
        one, _ = two
        with Invalidator("memory://two", namespace="another") as stranger:
            heard: list[Any] = []
            one.on_invalidate(heard.append)
            stranger.wait_until_leased(PATIENCE_S)
            stranger.invalidate("a")
            one.invalidate("last")
            wait_until(lambda: heard)
            assert [it.keys for it in heard] == [("last",)]


class TestCallbacks:
    """Every hook is seen to fire."""

    def hear(self, bus: Invalidator, **names: Any) -> list[Invalidation]:
        heard: list[Invalidation] = []
        bus.on_invalidate(heard.append, **names)
        return heard

    def test_it_is_called_for_everything_whoever_published_it(self, bus) -> None:
        heard = self.hear(bus)
        bus.invalidated(Body(v=1, node="other", keys=("a",), tags=("t",)), "5-0", 0)
        bus.invalidated(Body(v=1, node=bus.node, keys=("b",)), "6-0", 0)
        bus.invalidated(Body(v=1, op="clear", node="other"), "7-0", 0)
        bus.flushed("the server restarted", 0)
        assert heard == [
            Invalidation(("a",), ("t",), False, "invalidate", "5-0", "other"),
            Invalidation(("b",), (), False, "invalidate", "6-0", bus.node),
            Invalidation((), (), True, "clear", "7-0", "other"),
            Invalidation((), (), True, "the server restarted", "", ""),
        ]

    @pytest.mark.parametrize("names", [{"keys": ["a"]}, {"tags": ["t"]}, {"keys": ["a"], "tags": ["t"]}])
    def test_it_is_called_for_its_names_and_for_whatever_may_mean_them(self, bus, names) -> None:
        heard = self.hear(bus, **names)
        bus.invalidated(Body(v=1, keys=("other",), tags=("other",)), "1-0", 0)
        bus.invalidated(Body(v=1, keys=("a",), tags=("t",)), "2-0", 0)
        bus.invalidated(Body(v=1, op="clear"), "3-0", 0)
        bus.flushed("in doubt", 0)
        assert [it.id for it in heard] == ["2-0", "3-0", ""]

    def test_a_key_is_not_a_tag(self, bus) -> None:
        heard = self.hear(bus, keys=["a"])
        bus.invalidated(Body(v=1, tags=("a",)), "1-0", 0)
        assert heard == []

    def test_it_is_not_called_for_a_hold_but_for_its_release(self, bus) -> None:
        """The change is still to come: a callback that acted on it would read the old value."""
        heard = self.hear(bus)
        bus.invalidated(Body(v=1, op="hold", owner="o", keys=("a",)), "1-0", 0)
        bus.invalidated(Body(v=1, op="release", owner="o", keys=("a",)), "2-0", 0)
        assert [it.id for it in heard] == ["2-0"]

    def test_it_can_be_ended_and_that_twice(self, bus) -> None:
        heard: list[Invalidation] = []
        end = bus.on_invalidate(heard.append)
        end()
        end()
        bus.invalidated(Body(v=1, keys=("a",)), "1-0", 0)
        assert heard == []

    def test_one_that_fails_harms_nobody(self, bus, caplog) -> None:
        """Neither the others nor the listener."""
        bus.on_invalidate(lambda it: 1 / 0)
        heard = self.hear(bus)
        bus.invalidated(Body(v=1, keys=("a",)), "1-0", 0)
        bus.flushed("in doubt", 0)
        assert len(heard) == 2
        assert caplog.text.count("callback failed") == 1  # and not once a message
        assert bus.status().failures == 2

    def test_one_that_ends_the_program_ends_itself(self, two) -> None:
        """ "A new release: reload me." It runs in the listener's thread, which has to go on."""
        one, other = two
        other.on_invalidate(lambda it: sys.exit("reload"), keys=["release"])
        one.invalidate("release")
        wait_until(lambda: other.status().failures == 1)
        heard = self.hear(other)
        one.invalidate("a")
        wait_until(lambda: heard)
        assert (other.status().reconnects, other.status().flushes) == (0, 0)

    def test_one_may_use_the_bus(self, bus, link) -> None:
        """No lock is held while it runs."""
        end = bus.on_invalidate(lambda it: [bus.invalidate("b"), bus.status(), end()])
        bus.invalidated(Body(v=1, keys=("a",)), "1-0", 0)
        assert link.names_published == ["b"]

    @pytest.mark.parametrize("names", [{"keys": "a"}, {"tags": "t"}, {"keys": [""]}, {"keys": [7]}])
    def test_bad_names_are_refused(self, bus, names) -> None:
        with pytest.raises(InvalidName):
            bus.on_invalidate(print, **names)

    def test_over_a_link(self, two) -> None:
        """The whole way: published there, received here."""
        one, other = two
        heard: list[Invalidation] = []
        other.on_invalidate(heard.append)
        receipt = one.invalidate("a", tags=["t"])
        one.clear()
        wait_until(lambda: len(heard) == 2)
        assert heard[0] == Invalidation(("a",), ("t",), False, "invalidate", receipt.id, one.node)
        assert heard[1].everything

    def test_a_flush_is_seen_over_a_link(self, namespace) -> None:
        heard: list[Invalidation] = []
        link = MemoryLink(f"memory://{namespace}")
        with Invalidator("memory://", namespace=namespace, link=link) as bus:
            bus.wait_until_leased(PATIENCE_S)
            bus.on_invalidate(heard.append, keys=["a"])
            link.connect()
            with link._meeting.lock:
                for subscribers in link.server.subscribers.values():
                    for deliver in subscribers:
                        deliver(Push(b"message", bus._names.channel.encode(), b"garbage"))
            wait_until(lambda: heard)
        assert heard[0].everything
        assert "unreadable" in heard[0].reason


class TestJournal:
    def test_it_is_read_newest_first_and_no_further_than_asked(self, two) -> None:
        one, other = two
        for number in range(3):
            one.invalidate(f"k{number}", tags=["t"])
        other.clear()
        read = list(one.read_journal())
        assert [message.operation for message in read] == ["clear", *["invalidate"] * 3, "epoch"]
        assert (read[1].keys, read[1].tags, read[1].node) == (("k2",), ("t",), one.node)
        assert [message.keys for message in one.read_journal(2)] == [(), ("k2",)]
        assert read[0].at >= read[1].at > 1e9

    def test_it_is_read_in_pages(self, two, monkeypatch) -> None:
        monkeypatch.setattr(journal_reader, "PAGE", 2)
        for number in range(5):
            two[0].invalidate(f"k{number}")
        assert [message.keys for message in two[0].read_journal(5)] == [(f"k{number}",) for number in (4, 3, 2, 1, 0)]
        assert [message.keys for message in two[0].read_journal(3)] == [(f"k{number}",) for number in (4, 3, 2)]

    def test_what_this_version_cannot_read_is_there(self, two) -> None:
        two[0]._link.publish(two[0]._names, 100, Post([b'{"v":9}']))
        assert next(two[0].read_journal()).operation == "unknown"

    def test_a_server_that_is_away_is_an_error(self) -> None:
        away = Invalidator("redis://127.0.0.1:1/0", namespace="away", close_timeout=0)
        with away, pytest.raises(JournalUnread, match="cannot be read"):
            next(away.read_journal())


class TestClose:
    def test_it_may_be_called_again_and_from_several_threads(self, bus, link) -> None:
        bus.start()
        callers = [Thread(bus.close) for _ in range(4)]
        bus.close()
        for caller in callers:
            caller.outcome()
        assert bus.status().state == "closed"
        assert link.closed

    def test_it_ends_its_threads(self, make) -> None:
        before = set(threading.enumerate())  # another test's listener may still be on its way out
        bus = make(close_timeout=PATIENCE_S)
        bus.start()
        bus.close()
        assert [it.name for it in set(threading.enumerate()) - before if it.name.startswith("invalidator")] == []

    def test_afterwards_nothing_is_published_but_it_is_in_force_here(self, bus, clock) -> None:
        """The caller sees an error; the value that it has replaced is gone here all the same."""
        bus.close()
        for use in (lambda: bus.invalidate("a"), bus.clear, lambda: asyncio.run(bus.ainvalidate("a"))):
            with pytest.raises(ClosedError):
                use()
        assert stamp_of(bus, "a") == clock()

    def test_afterwards_nothing_starts(self, bus, link) -> None:
        bus.close()
        bus.start()
        assert link.connections == []
        assert bus.wait_until_leased(0) is False

    def test_caches_go_on_answering(self, bus, clock) -> None:
        cache = NearCache(bus)
        bus.close()
        assert cache.get_or_set("a", lambda: "value") == "value"
        assert cache.get("a") == "value"
        clock.advance(2)
        assert cache.get("a") is None

    def test_it_is_a_context_manager(self, make) -> None:
        with make() as bus:
            pass
        assert bus.status().state == "closed"

    def test_a_callback_may_close(self, two) -> None:
        """In the listener's own thread."""
        one, other = two
        other.on_invalidate(lambda it: other.close())
        one.invalidate("a")
        wait_until(lambda: other.status().state == "closed")


class TestStatus:
    def test_a_new_one(self, bus) -> None:
        status = bus.status()
        assert (status.namespace, status.node, status.state, status.listener) == ("shop", bus.node, "idle", "own")
        assert (status.leased, status.lease_remaining_s, status.max_staleness_s) == (False, 0, 2.0)
        assert status.listening_s is None

    def test_a_lease(self, bus, clock) -> None:
        bus.ledger.prove(clock())
        clock.advance(0.5)
        assert (bus.status().leased, bus.status().lease_remaining_s) == (True, 1.5)
        clock.advance(1.5)
        assert (bus.status().leased, bus.status().lease_remaining_s) == (False, 0)

    def test_a_live_one(self, two) -> None:
        one, other = two
        receipt = one.invalidate("a")
        wait_until(lambda: other.status().position == receipt.id)
        status = other.status()
        assert (status.state, status.leased, status.received) == ("live", True, 1)
        assert (status.flushes, status.last_flush) == (0, None)
        assert status.listening_s >= 0
        assert one.status().published == 1

    def test_what_was_lost_at_the_end_stays_visible(self, make, link) -> None:
        link.down = True
        bus = make()
        bus.invalidate("a", "b")
        bus.close()
        assert bus.status().undelivered == 2

    def test_it_can_be_printed(self, bus) -> None:
        assert "shop" in repr(bus)


class TestMemory:
    def test_a_bus_that_nobody_holds_and_never_started_is_forgotten(self, clock) -> None:
        bus = Invalidator("memory://", namespace="shop", clock=clock)
        gone = weakref.ref(bus)
        del bus
        gc.collect()
        assert gone() is None


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestFork:
    def test_the_child_is_another_node(self, bus) -> None:
        """Or it would take its parent's messages for its own echo."""
        parent = bus.node

        def child() -> None:
            assert bus.node != parent
            bus.invalidate("a")
            assert decode(bus._link.published[-1][0]).node == bus.node

        in_child(child)
        assert bus.node == parent

    def test_entries_and_lease_stay_valid(self, bus, clock) -> None:
        bus.ledger.prove(clock())
        cache = NearCache(bus)
        cache.set("a", "value")

        def child() -> None:
            assert cache.get("a") == "value"
            assert bus.status().leased
            clock.advance(2)
            assert cache.get("a") is None

        in_child(child)

    def test_the_child_listens_for_itself_with_its_first_fill(self, bus, link) -> None:
        cache = NearCache(bus)
        cache.set("a", "value")
        wait_until(lambda: link.connections and link.connections[0].sent)

        def child() -> None:
            assert bus.status().state == "idle"
            assert link.connections[0].closed
            assert not link.connections[0]._interrupted.is_set(), "the parent's connection was shut down"
            cache.set("b", "value")
            wait_until(lambda: len(link.connections) == 2)

        in_child(child)
        assert not link.connections[0].closed

    def test_a_child_that_has_callbacks_listens_at_once(self, bus, link) -> None:
        """A hook that was set before the fork must fire in the worker, though the worker caches nothing."""
        bus.on_invalidate(lambda it: None)
        wait_until(lambda: link.connections)
        in_child(lambda: wait_until(lambda: len(link.connections) == 2))

    def test_nobody_is_loading_in_the_child(self, bus) -> None:
        """The thread that loads does not exist there: a caller that waited for it would wait for ever."""
        cache = NearCache(bus)
        in_load, go_on = threading.Event(), threading.Event()

        def load() -> str:
            in_load.set()
            go_on.wait()
            return "parents"

        loading = Thread(lambda: cache.get_or_set("a", load))
        in_load.wait()
        in_child(lambda: _must_be(cache.get_or_set("a", lambda: "childs"), "childs"))
        go_on.set()
        assert loading.outcome() == "parents"

    def test_no_lock_is_left_locked(self, bus) -> None:
        """Threads that are in the middle of something when the fork comes."""
        cache = NearCache(bus, maxsize=50)
        stop = threading.Event()

        def work() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                cache.get_or_set(f"k{number % 100}", lambda: "value")
                bus.invalidate(f"k{number % 77}")

        workers = [Thread(work) for _ in range(4)]

        def child() -> None:
            cache.set("a", 1)
            cache.get("a")
            cache.stats()
            cache.sweep()
            bus.invalidate("a")
            cache.get_or_set("b", lambda: 2)

        for _ in range(10):
            in_child(child)
        stop.set()
        for worker in workers:
            worker.outcome()

    def test_what_waits_in_the_queue_is_the_parents(self, make, link) -> None:
        link.down = True
        bus = make()
        receipt = bus.invalidate("a")
        in_child(lambda: _must_be(bus.status().queued, 0))
        assert bus.status().queued == 1
        link.down = False
        assert receipt.wait(PATIENCE_S)

    def test_the_child_takes_up_its_parents_place_in_the_journal(self, namespace) -> None:
        """So that it flushes nothing."""
        with Invalidator("memory://fork", namespace=namespace) as bus:
            bus.wait_until_leased(PATIENCE_S)
            position = bus.status().position

            def child() -> None:
                assert bus.wait_until_leased(PATIENCE_S)
                wait_until(lambda: bus.status().state == "live")
                assert (bus.status().position, bus.status().flushes) == (position, 0)

            in_child(child)

    def test_a_grandchild_too(self, bus) -> None:
        nodes = [bus.node]

        def child() -> None:
            nodes.append(bus.node)
            in_child(grandchild)

        def grandchild() -> None:
            nodes.append(bus.node)
            assert len(set(nodes)) == 3

        in_child(child)


def _must_be(found: object, expected: object) -> None:
    assert found == expected


class Struck(BaseException):
    """A time limit."""


def strike() -> None:
    raise Struck


class TestInterruptions:
    @pytest.mark.parametrize("publish", ["queue", "raise"])
    def test_wherever_one_strikes_the_invalidation_is_published(self, make, link, publish) -> None:
        """
        The change is committed: an invalidation that is neither accepted nor queued would leave the others with the old
        value for good.
        """
        for at in itertools.count(1):
            bus = make(publish=publish)
            bus.invalidate("warm")
            link.published.clear()
            places = Places(at, strike, besides=("invalidate",))
            try:
                with interrupted(places):
                    bus.invalidate("order", tags=["orders"])
            except Struck:
                wait_until(lambda: {"order", "orders"} <= set(link.names_published))
            assert {"order", "orders"} <= set(link.names_published)
            if places.passed < at:
                break
        assert at > 50

    def test_what_is_published_without_waiting(self, make, link) -> None:
        link.down = True
        bus = make()
        receipt = bus.invalidate_later("order", tags=["orders"])
        assert receipt.queued
        assert bus.was_invalidated(["order"], since=0)
        link.down = False
        assert receipt.wait(PATIENCE_S)
        assert link.names_published == ["order", "orders"]

    def test_a_bus_that_is_closed_says_how_many_names_are_lost(self, make, link) -> None:
        bus = make()
        link.down = True
        bus.invalidate("a", "b")
        assert bus.close() == 2
        assert bus.close() == 0
        assert bus.status().undelivered == 2
