"""The feed of a process that listens for itself. With a bus: tests/unit/invalidator/test_bus.py."""

from collections.abc import Iterator
from functools import partial

import pytest

from invalidator.config import Config
from invalidator.feeds.listener import Listener, make_listener
from invalidator.feeds.listener_feed import ListenerFeed
from invalidator.ledger import CHANGES, Ledger
from invalidator.message import Body
from invalidator.protocol.journal import Journal, write_journal
from invalidator.protocol.states import State
from invalidator.receipt import Receipt
from tests.support import PATIENCE_S, Clock, SilentLink

CONFIG = Config(namespace="shop")
JOURNAL = Journal("5-0", server=1, epoch=2)


class Audience:
    def invalidated(self, body: Body, id: str, now: int) -> None:
        raise AssertionError

    def listening(self, now: int) -> None:
        raise AssertionError

    def flushed(self, reason: str, now: int) -> None:
        raise AssertionError


class Maker:
    """Makes listeners, and keeps them."""

    def __init__(self, link: SilentLink, clock: Clock) -> None:
        self.made: list[Listener] = []
        self._make = partial(make_listener, CONFIG, link, audience=Audience(), node="me", clock=clock)

    def __call__(self, ledger: Ledger, journal: Journal | None) -> Listener:
        self.made.append(self._make(ledger, journal=journal))
        return self.made[-1]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger.private(slots=64, namespace="shop")


@pytest.fixture
def maker(clock: Clock) -> Iterator[Maker]:
    maker = Maker(SilentLink(), clock)
    yield maker
    for listener in maker.made:
        assert listener.close(PATIENCE_S)


@pytest.fixture
def feed(ledger: Ledger, maker: Maker) -> ListenerFeed:
    return ListenerFeed(ledger, maker)


def test_it_starts_once(feed: ListenerFeed, maker: Maker) -> None:
    assert feed.state == State.IDLE
    feed.start()
    feed.start()
    assert len(maker.made) == 1
    assert feed.state != State.IDLE


def test_not_after_it_was_closed(feed: ListenerFeed, maker: Maker) -> None:
    feed.close(PATIENCE_S)
    feed.start()
    assert maker.made == []


def test_it_goes_on_where_an_earlier_writer_of_the_ledger_ended(ledger: Ledger, maker: Maker) -> None:
    write_journal(ledger, JOURNAL)
    feed = ListenerFeed(ledger, maker)
    assert feed.position == "5-0"
    feed.start()
    assert maker.made[0].subscription.journal == JOURNAL


def test_reads_check_the_ledger_that_this_process_stamps(feed: ListenerFeed, ledger: Ledger) -> None:
    """So there is nothing to do around a publish."""
    assert feed.view is feed.own is ledger
    before = ledger.words[CHANGES]
    feed.before_publish()
    feed.after_publish(Receipt())
    assert ledger.words[CHANGES] == before


def test_a_process_that_is_out_of_threads_tries_again(feed: ListenerFeed, maker: Maker, caplog, monkeypatch) -> None:
    """The request that could not start it does not fail."""

    def refuse(listener: Listener) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without_threads:
        without_threads.setattr(Listener, "start", refuse)
        feed.start()
    assert "listener cannot start" in caplog.text
    feed.start()
    assert len(maker.made) == 2


def test_one_that_has_ended_is_seen_by_the_next_fill(feed: ListenerFeed, ledger: Ledger, maker: Maker) -> None:
    """Otherwise nothing would be leased any more, for as long as the process lives. Nothing is counted anew."""
    feed.start()
    ended = maker.made[0]
    ended.subscription.journal = JOURNAL
    ended.subscription.tally.reconnects = 7
    ended.has_ended = True
    before = ledger.words[CHANGES]
    assert feed.state == "ended"
    feed.start()
    feed.start()
    assert len(maker.made) == 2
    assert maker.made[1].subscription.journal == JOURNAL
    assert ledger.words[CHANGES] == before + 1
    assert (feed.state != "ended", feed.tally.reconnects) == (True, 7)


def test_one_that_was_closed_has_not_ended_by_itself(feed: ListenerFeed, maker: Maker) -> None:
    feed.start()
    feed.close(PATIENCE_S)
    assert maker.made[0].has_ended
    assert feed.state == State.CLOSED
    feed.start()
    assert len(maker.made) == 1


def test_a_forked_child_has_a_listener_of_its_own(feed: ListenerFeed, ledger: Ledger, maker: Maker) -> None:
    """It goes on where the parent's is, and counts what that may have stamped without counting."""
    feed.start()
    maker.made[0].subscription.journal = JOURNAL
    before = ledger.words[CHANGES]
    feed.after_fork_in_child()
    assert ledger.words[CHANGES] == before + 1
    assert (feed.state, feed.position) == (State.IDLE, "5-0")
    feed.start()
    assert maker.made[1].subscription.journal == JOURNAL
