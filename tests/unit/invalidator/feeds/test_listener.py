"""The thread between a link and a ledger: it carries out, in order, and survives everything."""

import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest

from invalidator.errors import LinkDown
from invalidator.feeds.count_throttle import BURST, STEP_NS, CountThrottle
from invalidator.feeds.listener import QUIET_NS, Listener, apply_to_ledger
from invalidator.ledger import (
    CHANGES,
    EPOCH,
    FLUSHED_AT,
    HEADER_WORDS,
    LISTENING_SINCE,
    POSITION_MS,
    POSITION_SEQ,
    PROVEN_AT,
    SERVER_RUN,
    Ledger,
)
from invalidator.link import Post
from invalidator.link.memory import MemoryServer
from invalidator.message import Body, bodies
from invalidator.names import key_slot, redis_names, tag_slot
from invalidator.protocol.effects import Apply, Prove
from invalidator.protocol.frames import Push
from invalidator.protocol.states import State
from invalidator.protocol.subscription import Subscription
from invalidator.steps import take_all
from tests.support import PATIENCE_S, Clock, RecordingWords, S, Thread, wait_until

NAMES = redis_names("shop")
SLOTS = 1024


NOTHING = object()
"""What arrives when nothing does for as long as the listener wanted to wait."""


class Connection:
    """A queue of frames between the listener and the test."""

    def __init__(self, link: "Link") -> None:
        self.link = link
        self.arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.waits: list[float] = []
        self.closed = False

    def send(self, commands: Sequence[Any]) -> None:
        for command in commands:
            self.link.server.execute(command, self.arrived.put)

    def receive(self, timeout_s: float) -> list[Any]:
        self.waits.append(timeout_s)
        frame = self.arrived.get()
        if isinstance(frame, BaseException):
            raise frame
        return [] if frame is NOTHING else [frame]

    def interrupt(self) -> None:
        self.arrived.put(LinkDown("interrupted"))

    def close(self) -> None:
        self.closed = True
        self.link.server.forget(self.arrived.put)


class Link:
    """The way to a server in this test. `refusing` refuses connections."""

    def __init__(self) -> None:
        self.server = MemoryServer()
        self.connections: list[Connection] = []
        self.refusing = False
        self.refused = 0

    def connect(self) -> Connection:
        if self.refusing:
            self.refused += 1
            raise LinkDown("refused")
        self.connections.append(Connection(self))
        return self.connections[-1]

    @property
    def connection(self) -> Connection:
        return self.connections[-1]

    def say(self, *keys: str, node: str = "other") -> None:
        self.server.publish(NAMES, 1000, Post(bodies(node, keys, ())))


class Hasty(Random):
    """Draws the shortest delay between reconnects."""

    def random(self) -> float:
        return 0.0


class Audience:
    """Notes what it is told, and in which state the ledger was then."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.told: list[tuple[Any, ...]] = []
        self.fail_with: BaseException | None = None

    def invalidated(self, body: Body, id: str, now: int) -> None:
        stamps = [self.ledger.newest_stamp([key_slot(key, SLOTS)]) for key in body.keys]
        self.told.append(("invalidated", body.keys, stamps))
        if self.fail_with:
            error, self.fail_with = self.fail_with, None
            raise error

    def listening(self, now: int) -> None:
        self.told.append(("listening", self.ledger.words[LISTENING_SINCE]))

    def flushed(self, reason: str, now: int) -> None:
        self.told.append(("flushed", reason, self.ledger.words[FLUSHED_AT]))


class Fixture:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.link = Link()
        self.ledger = Ledger.private(slots=SLOTS, namespace="shop")
        self.audience = Audience(self.ledger)
        self.subscription = Subscription(
            NAMES,
            node="me",
            proof_interval_ns=S // 2,
            answer_timeout_ns=S,
            open_journal=("OPEN", NAMES.journal, NAMES.epoch),
            random=Hasty(),
        )
        self.throttle = CountThrottle()
        self.listener = Listener(self.subscription, self.link, self.ledger, self.audience, clock, self.throttle)

    def start(self) -> "Fixture":
        self.listener.start()
        self.until_live()
        return self

    def until_live(self) -> None:
        wait_until(lambda: self.subscription.state is State.LIVE and self.ledger.words[PROVEN_AT] == self.clock())

    def told(self, *event: Any) -> None:
        wait_until(lambda: event in self.audience.told)

    def stamp(self, key: str) -> int:
        return self.ledger.newest_stamp([key_slot(key, SLOTS)])


@pytest.fixture
def it(clock: Clock) -> Iterator[Fixture]:
    it = Fixture(clock)
    yield it
    assert it.listener.close(PATIENCE_S)


class TestCarryingOut:
    def test_a_first_subscription_moves_proves_and_voids_nothing(self, it) -> None:
        """What was loaded before it keeps no lease, and that is all."""
        it.start()
        assert it.ledger.words[LISTENING_SINCE] == it.clock()
        assert it.ledger.words[FLUSHED_AT] == 0
        assert it.ledger.words[POSITION_MS] > 0
        assert it.listener.wait_until(lambda: it.ledger.read_lease()[0] == it.clock(), PATIENCE_S)
        it.told("listening", it.clock())

    def test_who_waits_is_woken_when_the_server_cannot_be_reached(self, it) -> None:
        """There will be no proof soon: a first miss that waits for one would wait in vain."""
        it.link.refusing = True
        it.listener.start()
        assert it.listener.wait_until(lambda: it.subscription.is_failing, PATIENCE_S)

    def test_it_knows_its_own_thread(self, it) -> None:
        """A callback that misses must not wait for the proof that only its own thread can bring."""
        seen: list[bool] = []
        it.audience.listening = lambda now: seen.append(it.listener.is_this_thread())
        it.start()
        assert (seen, it.listener.is_this_thread()) == ([True], False)

    def test_closing_ends_a_wait_for_a_proof(self, it) -> None:
        """There will be none. Whoever waits may have asked for a bound of minutes."""
        it.start()
        asked = threading.Event()
        waiting = Thread(lambda: it.listener.wait_until(lambda: asked.set() or False, timeout_s=1e6))
        assert asked.wait(PATIENCE_S)
        assert it.listener.close(PATIENCE_S)
        assert waiting.outcome() is False

    def test_a_message_is_stamped_with_the_time_of_applying(self, it) -> None:
        """Always the applying host's own time, never the publisher's. The audience is told after the ledger."""
        it.start()
        now = it.clock.advance(5)
        it.link.say("a")
        it.told("invalidated", ("a",), [now])

    def test_a_replayed_message_too(self, it) -> None:
        it.start()
        it.link.refusing = True
        it.link.connection.interrupt()
        wait_until(lambda: it.link.refused)
        it.link.say("missed")
        it.clock.advance(100)
        it.link.refusing = False
        it.told("invalidated", ("missed",), [it.clock()])
        it.until_live()
        assert it.subscription.tally.flushes == 0

    def test_the_own_echo_is_told_and_not_stamped(self, it) -> None:
        """Own names were stamped before they were published; what was loaded since is fresh."""
        it.start()
        before = it.ledger.words[CHANGES]
        flushed_at = it.ledger.words[FLUSHED_AT]
        it.clock.advance(5)
        it.link.say("a", node="me")
        it.told("invalidated", ("a",), [flushed_at])
        assert it.ledger.words[CHANGES] == before

    def test_a_storm_is_applied_before_the_next_proof(self, it) -> None:
        it.start()
        for number in range(300):
            it.link.say(f"k{number}")
        it.clock.advance(1)
        it.link.say("last")
        wait_until(lambda: it.ledger.words[PROVEN_AT] == it.clock())
        assert ("invalidated", ("k0",)) in [event[:2] for event in it.audience.told]

    def test_what_is_read_in_one_piece_is_counted_once_and_told_after(self, it) -> None:
        """
        In a storm readers look again once per piece. Who is told may read the cache at once, so the count comes
        first.
        """
        it.start()
        words = RecordingWords(it.ledger.words)
        it.ledger.words = words
        frames: list[Any] = []
        it.link.server.subscribers[NAMES.channel] = [frames.append]
        for key in ("a", "b", "c"):
            it.link.say(key)
        counted_when_told: list[int] = []
        it.audience.invalidated = lambda body, id, now: counted_when_told.append(words.written.count(CHANGES))
        take_all(it.listener._carry_out(it.listener._receive(frames)))
        stored = [index if index < HEADER_WORDS else "slot" for index in words.written]
        assert stored[:4] == ["slot", "slot", "slot", CHANGES]
        assert set(stored[4:]) == {POSITION_MS, POSITION_SEQ, SERVER_RUN, EPOCH}
        assert counted_when_told == [1, 1, 1]

    def test_a_proof_comes_after_what_was_read_before_it(self, it) -> None:
        """The writer's order: slots, changes, position, proof; also within one piece."""
        it.start()
        it.ledger.words = words = RecordingWords(it.ledger.words)
        body = Body(v=1, keys=("a",))
        effects = iter((Apply(body, "", own=False), Prove(it.clock.advance(9)), Apply(body, "", own=False)))
        take_all(it.listener._carry_out(effects))
        stored = [index if index < HEADER_WORDS else "slot" for index in words.written]
        assert stored == ["slot", CHANGES, PROVEN_AT, CHANGES]

    @pytest.mark.parametrize(
        ("body", "stamped"),
        [
            (Body(v=1, keys=("a",)), 500),
            (Body(v=1, op="clear"), 500),
            (Body(v=1, op="hold", owner="o", for_ms=2, keys=("a",)), 500 + 2_000_000),
            (Body(v=1, op="release", owner="o", keys=("a",)), 500),
            (Body(v=1, keys=("b",)), 0),
            (Body(v=1, tags=("a",)), 0),
        ],
    )
    def test_every_operation_does_what_it_says(self, it, body, stamped) -> None:
        apply_to_ledger(it.ledger, body, 500)
        assert it.stamp("a") == stamped

    def test_a_tag_is_stamped(self, it) -> None:
        apply_to_ledger(it.ledger, Body(v=1, tags=("t",)), 500)
        assert it.ledger.newest_stamp([tag_slot("t", SLOTS)]) == 500


class TestStorm:
    @pytest.fixture(autouse=True)
    def storm(self, it) -> None:
        """More messages than are counted one by one; the last count was just now."""
        it.start()
        for _ in range(2 * BURST):
            it.throttle.stamped(it.clock())
        it.link.say("first")
        it.told("invalidated", ("first",), [it.clock()])
        self.counted, self.at = it.ledger.words[CHANGES], it.subscription.journal.position
        it.clock.now += 1000

    def say(self, it: Fixture, key: str) -> None:
        """Say it, and wait until it is stamped and the listener waits again."""
        waits = len(it.link.connection.waits)
        it.link.say(key)
        wait_until(lambda: len(it.link.connection.waits) > waits)
        assert it.stamp(key) == it.clock()

    def is_uncounted(self, it: Fixture, key: str) -> bool:
        """Neither counted, nor is its position shown, nor anybody told."""
        told = [event[1] for event in it.audience.told if event[0] == "invalidated"]
        position = "-".join(map(str, it.ledger.read_position()))
        return it.ledger.words[CHANGES] == self.counted and position == self.at and (key,) not in told

    def test_what_is_stamped_is_counted_with_the_next_step(self, it) -> None:
        """Once, and the listener wakes up for it by itself, though its next proof is far away."""
        for key in ("a", "b", "c"):
            self.say(it, key)
            assert self.is_uncounted(it, key)
            assert it.link.connection.waits[-1] == (STEP_NS - 1000) / 1e9
        stamps = [it.stamp("c")]
        it.clock.now += STEP_NS - 1000
        it.link.connection.arrived.put(NOTHING)
        it.told("invalidated", ("c",), stamps)
        assert it.ledger.words[CHANGES] == self.counted + 1
        assert it.ledger.read_position() == tuple(map(int, it.subscription.journal.position.split("-")))

    def test_a_proof_does_not_wait_for_it_nor_pass_it(self, it) -> None:
        self.say(it, "a")
        it.ledger.words = words = RecordingWords(it.ledger.words)
        it.clock.advance(1)
        take_all(it.listener._carry_out(iter((Prove(it.clock()),))))
        assert words.written[0] == CHANGES
        assert words.written[-1] == PROVEN_AT

    def test_the_end_of_the_connection_counts_it(self, it) -> None:
        """Nobody would wake up for it while the listener waits to connect again."""
        self.say(it, "a")
        it.link.refusing = True
        it.link.connection.interrupt()
        wait_until(lambda: it.link.refused)
        assert not self.is_uncounted(it, "a")

    def test_so_does_the_end_of_the_listener(self, it) -> None:
        self.say(it, "a")
        it.listener.close(PATIENCE_S)
        assert not self.is_uncounted(it, "a")


class TestSurviving:
    @pytest.mark.parametrize("payload", [b"garbage", b'{"v":2}', b"\xff" * 70_000])
    def test_an_unreadable_message_is_flushed_for_on_the_same_connection(self, it, payload) -> None:
        it.start()
        now = it.clock.advance(1)
        it.link.connection.arrived.put(Push(b"message", NAMES.channel.encode(), payload))
        it.link.say("next")
        it.told("invalidated", ("next",), [now])
        assert it.ledger.words[FLUSHED_AT] == now
        assert len(it.link.connections) == 1

    def test_a_lost_connection_is_made_anew(self, it) -> None:
        it.start()
        first = it.link.connection
        it.clock.advance(1)
        first.arrived.put(LinkDown("reset by peer"))
        wait_until(lambda: len(it.link.connections) == 2)
        it.until_live()
        assert first.closed
        assert it.subscription.tally.last_disconnect.reason == "reset by peer"

    def test_a_refused_connection_is_tried_again(self, it) -> None:
        it.link.refusing = True
        it.listener.start()
        wait_until(lambda: it.link.refused >= 2)
        it.link.refusing = False
        it.until_live()

    @pytest.mark.parametrize(
        "error", [ZeroDivisionError("a bug"), SystemExit("a bug"), KeyboardInterrupt("a bug"), BaseException("a bug")]
    )
    def test_whatever_is_raised_does_not_end_the_listening(self, it, caplog, error) -> None:
        """What it may have missed is void, and it begins again. A library may raise what is no `Exception`."""
        it.start()
        it.audience.fail_with = error
        now = it.clock.advance(1)
        it.link.say("a")
        wait_until(lambda: len(it.link.connections) == 2)
        it.until_live()
        assert it.ledger.words[FLUSHED_AT] == now
        assert "listener failed" in caplog.text
        assert "a bug" in it.subscription.tally.last_disconnect.reason
        assert it.subscription.tally.failures == 1

    def test_a_ledger_that_cannot_be_written_does_not_either(self, it, monkeypatch) -> None:
        """A bug of ours, or memory that has run out."""
        it.start()
        fails = iter([MemoryError()])
        stamp = it.ledger.stamp

        def fail_once(*args: Any, **options: Any) -> None:
            for error in fails:
                raise error
            stamp(*args, **options)

        monkeypatch.setattr(it.ledger, "stamp", fail_once)
        now = it.clock.advance(1)
        it.link.say("a")
        wait_until(lambda: len(it.link.connections) == 2)
        it.until_live()
        assert it.stamp("a") == now
        assert it.subscription.tally.failures == 1

    def test_failures_are_logged_once_a_minute_and_counted_each(self, it, caplog) -> None:
        it.start()
        for number in range(3):
            it.audience.fail_with = ZeroDivisionError(f"bug {number}")
            it.clock.advance(1)
            it.link.say("a")
            wait_until(lambda number=number: len(it.link.connections) == number + 2)
            it.until_live()
        assert it.subscription.tally.failures == 3
        assert caplog.text.count("listener failed") == 1
        assert "Traceback" in caplog.text

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_greenlet_that_is_killed_ends_and_can_be_seen_to_have(self, it) -> None:
        """gevent raises it where the greenlet waits, and whoever kills one waits for its end."""

        class GreenletExit(BaseException):
            pass

        it.start()
        assert not it.listener.has_ended
        it.link.connection.arrived.put(GreenletExit())
        wait_until(lambda: it.listener.has_ended)
        assert len(it.link.connections) == 1

    def test_every_flush_is_told(self, it) -> None:
        """A callback that acts on changes must hear of it, whatever the reason."""
        it.start()
        it.audience.fail_with = ZeroDivisionError("a bug")
        now = it.clock.advance(1)
        it.link.say("a")
        wait_until(lambda: [event for event in it.audience.told if event[0] == "flushed" and event[2] == now])
        assert it.subscription.tally.last_flush.reason == "the listener failed (ZeroDivisionError)"


class TestLog:
    def refuse(self, it: Fixture, payload: bytes = b"garbage") -> None:
        before = sum(it.subscription.tally.refused.values())
        it.link.connection.arrived.put(Push(b"message", NAMES.channel.encode(), payload))
        wait_until(lambda: sum(it.subscription.tally.refused.values()) > before)

    def lines(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        return [record.getMessage() for record in caplog.records if "message refused" in record.getMessage()]

    def test_a_reason_is_logged_once_a_minute(self, it, caplog) -> None:
        """A foreign publisher must not fill the disk. The counter counts each."""
        it.start()
        for _ in range(5):
            self.refuse(it)
        self.refuse(it, b'{"v":2}')
        it.clock.now += QUIET_NS
        self.refuse(it)
        it.link.say("after")
        wait_until(lambda: [event for event in it.audience.told if event[1] == ("after",)])
        lines = self.lines(caplog)
        assert [line.count("malformed") for line in lines] == [1, 0, 1]
        assert it.subscription.tally.refused == {"malformed": 6, "unknown version": 1}

    def test_an_outage_of_an_hour_is_not_a_thousand_lines(self, it, caplog) -> None:
        it.link.refusing = True
        with caplog.at_level(logging.INFO):
            it.listener.start()
            wait_until(lambda: it.clock.advance(3) and it.link.refused >= 30)
        lines = [record for record in caplog.records if "disconnected" in record.getMessage()]
        assert 1 <= len(lines) <= 1 + (it.clock() - 1_000 * S) // QUIET_NS


class TestClose:
    def test_it_ends_whatever_it_is_doing(self, it) -> None:
        it.start()
        it.listener.close(PATIENCE_S)
        assert it.subscription.state is State.CLOSED
        assert it.link.connection.closed

    def test_while_it_waits_to_try_again(self, it) -> None:
        it.link.refusing = True
        it.listener.start()
        wait_until(lambda: it.link.refused)
        it.listener.close(PATIENCE_S)
        assert it.subscription.state is State.CLOSED

    def test_before_it_began(self, it) -> None:
        assert it.listener.close(PATIENCE_S)

    def test_from_its_own_thread(self, it) -> None:
        """A callback may close the bus."""
        it.start()
        it.audience.invalidated = lambda *facts: it.listener.close(PATIENCE_S)
        it.link.say("a")
        wait_until(lambda: it.subscription.state is State.CLOSED)

    def test_waiting_for_a_proof_ends_in_time(self, it) -> None:
        assert it.listener.wait_until(lambda: False, 0) is False
