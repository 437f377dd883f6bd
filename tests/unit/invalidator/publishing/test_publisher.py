"""Invalidations reach Redis in order, or wait until they can; none is lost untold."""

import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from invalidator.errors import ClosedError, LinkDown, PublishError
from invalidator.message import decode
from invalidator.names import redis_names
from invalidator.publishing.hold import Hold
from invalidator.publishing.publisher import BODIES_AT_ONCE, Publisher
from invalidator.receipt import Receipt
from invalidator.steps import Steps
from tests.support import PATIENCE_S, SilentLink, Thread, wait_until


class Hasty(Random):
    """Draws the shortest delay, so that a test need not wait."""

    def uniform(self, a: float, b: float) -> float:
        return a


@pytest.fixture
def link() -> SilentLink:
    return SilentLink()


@pytest.fixture
def make(link: SilentLink) -> Iterator[Callable[..., Publisher]]:
    made: list[Publisher] = []

    def make(**options: Any) -> Publisher:
        options = {"journal_length": 1000, "when_down": "queue", "queue_size": 100, "random": Hasty(), **options}
        made.append(Publisher(link, redis_names("shop"), node="me", **options))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close(0)


class TestWhileRedisIsThere:
    def test_the_caller_publishes_itself_and_returns_accepted(self, make, link) -> None:
        receipt = make().publish(["a"], ["t"])
        assert (receipt.accepted, receipt.id, receipt.listeners) == (True, "1-0", 7)
        [[body]] = link.published
        assert (decode(body).node, decode(body).keys, decode(body).tags) == ("me", ("a",), ("t",))

    def test_a_clear(self, make, link) -> None:
        assert make().publish((), (), clear=True).accepted
        assert link.names_published == ["*"]

    def test_many_names_are_several_messages_and_few_calls(self, make, link) -> None:
        """One script call holds up to a megabyte."""
        publisher = make()
        names = [f"product:{number:06}" for number in range(100_000)]
        publisher.publish(names, ())
        assert link.names_published == names
        assert max(map(len, link.published)) == BODIES_AT_ONCE
        assert publisher.published == sum(map(len, link.published))

    def test_no_thread_is_started(self, make) -> None:
        """The courier lives only as long as there is something to deliver."""
        publisher = make()
        publisher.publish(["a"], ())
        assert publisher._courier is None


class TestWhileRedisIsAway:
    def test_the_caller_is_not_troubled(self, make, link) -> None:
        link.down = True
        publisher = make()
        receipt = publisher.publish(["a"], ())
        assert (receipt.accepted, receipt.queued) == (False, True)
        assert publisher.waiting == 1
        assert "the test says so" in publisher.last_error

    def test_everything_arrives_in_order_when_it_is_back(self, make, link) -> None:
        link.down = True
        publisher = make()
        receipts = [publisher.publish([key], ()) for key in "abc"]
        link.down = False
        assert all(receipt.wait(30) for receipt in receipts)
        assert link.names_published == ["a", "b", "c"]
        wait_until(lambda: publisher._courier is None)
        assert (publisher.waiting, publisher.last_error) == (0, None)

    def test_nothing_overtakes_what_waits(self, make, link) -> None:
        """Not even when Redis is back already and only the courier has not noticed."""
        link.down = True
        publisher = make()
        publisher.publish(["first"], ())
        in_call, go_on = threading.Event(), threading.Event()

        def hold_up() -> None:
            link.down = False
            in_call.set()
            go_on.wait()

        link.before_publish = hold_up
        in_call.wait()
        second = publisher.publish(["second"], ())
        assert second.queued
        go_on.set()
        assert second.wait(30)
        assert link.names_published == ["first", "second"]

    def test_a_lost_answer_is_tried_again(self, make, link) -> None:
        """Names may be said twice, never not at all."""
        publisher = make()
        lost = iter([True])

        def lose_the_answer() -> None:
            if next(lost, False):
                raise LinkDown("timeout")

        link.before_publish = lose_the_answer
        receipt = publisher.publish(["a"], ())
        assert receipt.wait(30)
        assert link.names_published == ["a"]

    def test_the_queue_is_bounded(self, make, link) -> None:
        """What does not fit becomes one clear: nothing is lost."""
        link.down = True
        publisher = make(queue_size=3)
        receipts = [publisher.publish([f"k{number}"], ()) for number in range(50)]
        assert publisher.waiting <= 2 * 3
        assert publisher.overflows >= 1
        link.down = False
        assert all(receipt.wait(30) for receipt in receipts)
        assert "*" in link.names_published

    def test_an_outage_is_logged_once(self, make, link, caplog) -> None:
        link.down = True
        attempts: list[bool] = []
        link.before_publish = lambda: attempts.append(True)
        publisher = make()
        for number in range(10):
            publisher.publish([f"k{number}"], ())
        wait_until(lambda: len(attempts) >= 10)
        assert caplog.text.count("does not accept invalidations") == 1

    def test_retries_slow_down(self, make, link) -> None:
        """With jitter, up to a limit."""
        windows: list[float] = []

        class Patient(Random):
            def uniform(self, a: float, b: float) -> float:
                windows.append(b)
                return 0

        link.down = True
        publisher = make(random=Patient())
        publisher.publish(["a"], ())
        wait_until(lambda: len(windows) >= 10)
        assert windows[:8] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


class TestRaise:
    def test_it_raises_and_queues_nothing(self, make, link) -> None:
        link.down = True
        publisher = make(when_down="raise")
        with pytest.raises(PublishError, match="the test says so"):
            publisher.publish(["a"], ())
        assert publisher.waiting == 0
        assert publisher._courier is None

    def test_the_next_one_is_tried_anew(self, make, link) -> None:
        link.down = True
        publisher = make(when_down="raise")
        with pytest.raises(PublishError):
            publisher.publish(["a"], ())
        link.down = False
        assert publisher.publish(["a"], ()).accepted


class TestHolds:
    def hold(self) -> Hold:
        hold = Hold("owner", 30, lambda: 0, lambda *_: None, lambda _: Receipt())
        hold.remember(["a"], [], [b'{"v":1,"op":"hold"}'])
        return hold

    def test_an_announcement_names_its_time(self, make, link) -> None:
        hold = self.hold()
        assert make().publish_hold(hold, hold.bodies).accepted
        assert link.posts[0].hold_ms == 30_000

    @pytest.mark.parametrize("when_down", ["queue", "raise"])
    def test_it_never_waits_in_the_queue(self, make, link, when_down) -> None:
        """A write that cannot be announced must not be committed."""
        link.down = True
        publisher = make(when_down=when_down)
        with pytest.raises(PublishError, match="must not be committed"):
            publisher.publish_hold(self.hold(), [b"{}"])
        assert publisher.waiting == 0

    def test_a_release_says_which_announcements_end(self, make, link) -> None:
        hold = self.hold()
        make().publish_release(hold)
        [post] = link.posts
        assert post.ended == hold.bodies
        assert (decode(post.bodies[0]).op, decode(post.bodies[0]).owner) == ("release", "owner")

    def test_a_release_waits_in_the_queue(self, make, link) -> None:
        """The write is committed: its release must not be lost."""
        link.down = True
        receipt = make().publish_release(self.hold())
        link.down = False
        assert receipt.wait(30)
        assert link.names_published == ["a"]


class TestClose:
    def test_what_waits_is_delivered_if_it_can_be(self, make, link) -> None:
        link.down = True
        publisher = make(random=Random(1))
        receipt = publisher.publish(["a"], ())
        link.down = False
        publisher.close(30)
        assert receipt.accepted
        assert publisher.undelivered == 0

    def test_what_cannot_be_is_counted_logged_and_told(self, make, link, caplog) -> None:
        link.down = True
        publisher = make()
        receipt = publisher.publish(["a", "b"], ())
        publisher.close(0)
        assert publisher.undelivered == 2
        assert "closed before Redis came back" in receipt.lost_because
        assert not receipt.wait(30)
        assert "invalidations lost" in caplog.text

    def test_the_courier_has_ended_with_it(self, make, link) -> None:
        """Between two tries it waits for Redis, and notices at once that its time is over."""
        link.down = True
        publisher = make()
        publisher.publish(["a"], ())
        courier = publisher._courier
        publisher.close(0)
        assert courier.join(0)

    def test_afterwards_nothing_is_taken(self, make) -> None:
        publisher = make()
        publisher.close(0)
        with pytest.raises(ClosedError):
            publisher.publish(["a"], ())

    def test_it_may_be_called_again(self, make, link) -> None:
        link.down = True
        publisher = make()
        publisher.publish(["a"], ())
        publisher.close(0)
        publisher.close(0)
        assert publisher.undelivered == 1

    def test_who_was_publishing_meanwhile_is_told_too(self, make, link) -> None:
        """What comes into the queue after it was given up would wait for ever, and nobody would count it."""
        publisher = make()
        in_call, go_on = threading.Event(), threading.Event()

        def hold_up() -> None:
            in_call.set()
            go_on.wait()

        link.before_publish = hold_up
        link.down = True
        caller = Thread(lambda: publisher.publish(["a"], ()))
        in_call.wait()
        publisher.close(0)
        go_on.set()
        receipt = caller.outcome()
        assert not receipt.wait(30)
        assert receipt.lost_because
        assert publisher.undelivered == 1
        assert publisher._courier is None or publisher._courier.join(0)


class TestFork:
    def test_what_waits_is_the_parents_to_deliver(self, make, link) -> None:
        """Twice would be harmless; a courier that does not exist in the child would not."""
        link.down = True
        publisher = make()
        publisher.publish(["parents"], ())
        courier = publisher._courier
        publisher.after_fork("child")
        assert (publisher.waiting, publisher._courier) == (0, None)
        link.down = False
        assert publisher.publish(["childs"], ()).accepted
        assert decode(link.published[-1][0]).node == "child"
        courier.join(30)


class NoThread:
    """A worker for which there is no thread."""

    def __init__(self, name: str, steps: Steps) -> None:
        self.was_started = False

    def start(self) -> None:
        raise RuntimeError("can't start new thread")

    def join(self, timeout_s: float) -> bool:
        return True


class TestWithoutThreads:
    def test_the_caller_delivers_what_waits(self, make, link) -> None:
        """The interpreter is going down, or the system is out of threads."""
        publisher = make(make_worker=NoThread)
        link.down = True
        first = publisher.publish(["a"], ())
        assert first.queued
        link.down = False
        second = publisher.publish(["b"], ())
        assert first.accepted
        assert second.accepted
        assert link.names_published == ["a", "b"]

    def test_one_caller_delivers_at_a_time(self, make, link) -> None:
        """Two that took one batch would each take the next one for delivered."""
        publisher = make(make_worker=NoThread)
        link.down = True
        publisher.publish(["a"], ())
        link.down = False
        more = iter(["c"])

        def publish_more() -> None:
            for key in more:
                publisher.publish([key], ())

        link.before_publish = publish_more
        publisher.publish(["b"], ())
        assert link.names_published == ["a", "b", "c"]

    def test_closing_delivers_what_waits(self, make, link) -> None:
        publisher = make(make_worker=NoThread)
        link.down = True
        receipt = publisher.publish(["a"], ())
        link.down = False
        assert publisher.close(PATIENCE_S) == 0
        assert receipt.accepted

    def test_closing_says_what_is_lost(self, make, link) -> None:
        publisher = make(make_worker=NoThread)
        link.down = True
        publisher.publish(["a", "b"], ())
        assert publisher.close(0) == 2


class TestAnythingThatIsRaised:
    def test_the_courier_goes_on(self, make, link) -> None:
        """A bug of ours, or a library's BaseException: a courier that ended would leave the queue for ever."""
        errors = iter([LinkDown("away"), SystemExit("odd"), RuntimeError("odd")])

        def fail() -> None:
            if (error := next(errors, None)) is not None:
                raise error

        link.before_publish = fail
        assert make().publish(["a"], ()).wait(PATIENCE_S)
        assert link.names_published == ["a"]
