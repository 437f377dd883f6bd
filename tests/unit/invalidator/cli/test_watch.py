"""What `watch` shows, and in which order."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from invalidator import Invalidation, Past, Status
from invalidator.cli.watch import Connection, Feed, Line, describe

LIVE = Status(
    namespace="shop",
    node="0a0a0a",
    state="live",
    listener="own",
    leased=True,
    lease_remaining_s=2.0,
    listening_s=0.0,
    max_staleness_s=2.0,
    position="1-0",
    flushes=0,
    replays=0,
    reconnects=0,
    failures=0,
    received=0,
    refused={},
    published=0,
    queued=0,
    undelivered=0,
    queue_overflows=0,
    last_flush=None,
    last_disconnect=None,
    last_gap=None,
    last_error=None,
)
CONNECTING = replace(LIVE, state="connecting")
A_MESSAGE = Invalidation(("product:42",), ("prices",), False, "invalidate", "7-0", "0b0b0b")
A_CLEAR = Invalidation((), (), True, "clear", "8-0", "0b0b0b")
A_FLUSH = Invalidation((), (), True, "the chain is broken", "", "")


def types(lines: Iterator[Line]) -> list[str]:
    return [line.type for line in lines]


class TestConnection:
    """The news of a connection, from looks at the status that may come at any time."""

    def test_listens_and_then_says_nothing(self) -> None:
        connection = Connection()
        assert types(connection.changes(replace(CONNECTING))) == []
        assert types(connection.changes(LIVE)) == ["listening"]
        assert types(connection.changes(LIVE)) == []

    def test_an_outage_is_told_once_and_its_end(self) -> None:
        connection = Connection()
        list(connection.changes(LIVE))
        away = replace(CONNECTING, reconnects=1, last_error="refused")
        (line,) = connection.changes(away)
        assert (line.type, line.facts) == ("disconnected", {"reason": "refused"})
        assert types(connection.changes(away)) == []
        assert types(connection.changes(replace(away, state="subscribing"))) == []
        assert types(connection.changes(replace(LIVE, reconnects=1))) == ["reconnected"]

    def test_another_reason_is_told(self) -> None:
        """First the socket, then the password: who waits wants to know that it will not help."""
        connection = Connection()
        assert types(connection.changes(replace(CONNECTING, last_error="refused"))) == ["disconnected"]
        assert types(connection.changes(replace(CONNECTING, last_error="WRONGPASS"))) == ["disconnected"]

    def test_the_same_reason_in_the_next_outage_is_told(self) -> None:
        connection = Connection()
        for reconnects in (1, 2):
            list(connection.changes(replace(LIVE, reconnects=reconnects - 1)))
            away = replace(CONNECTING, reconnects=reconnects, last_error="refused")
            assert types(connection.changes(away)) == ["disconnected"]

    def test_an_outage_between_two_looks_is_told(self) -> None:
        connection = Connection()
        list(connection.changes(LIVE))
        assert types(connection.changes(replace(LIVE, reconnects=1))) == ["disconnected", "reconnected"]

    def test_each_gap_is_told_and_no_outage_with_it(self) -> None:
        connection = Connection()
        list(connection.changes(LIVE))
        gap = replace(LIVE, state="replaying", last_gap=Past("after 1-0 came 2-0", 0.0))
        assert types(connection.changes(gap)) == ["gap"]
        assert types(connection.changes(replace(gap, state="live", last_gap=Past("after 1-0 came 2-0", 9.9)))) == []
        assert types(connection.changes(replace(LIVE, last_gap=Past("after 3-0 came 4-0", 0.1)))) == ["gap"]


class TestFeed:
    def test_keeps_the_order_in_which_things_happened(self) -> None:
        """A message that was replayed comes after the outage that it was missed in, though nobody looked before."""
        status = [LIVE]
        feed = Feed(lambda: status[0])
        feed.receive(A_MESSAGE)
        status[0] = replace(LIVE, state="replaying", reconnects=1, last_error="cut")
        feed.receive(A_FLUSH)
        feed.receive(A_CLEAR)
        status[0] = replace(LIVE, reconnects=1)
        taken = [line.type for line in iter(lambda: feed.take(0.001), None)]
        assert taken == ["listening", "invalidate", "disconnected", "flush", "clear", "reconnected"]

    def test_the_flush_of_the_first_subscription_is_no_news(self) -> None:
        feed = Feed(lambda: CONNECTING)
        feed.receive(A_FLUSH)
        assert feed.take(0.001) is None

    def test_is_bounded_and_says_how_much_is_not_there(self) -> None:
        """A terminal that was stopped with Ctrl-S must not make us grow for ever."""
        feed = Feed(lambda: LIVE, backlog=2)
        for _ in range(5):
            feed.receive(A_MESSAGE)
        taken = list(iter(lambda: feed.take(0.001), None))
        assert [line.type for line in taken] == ["listening", "invalidate", "skipped"]
        assert taken[-1].facts == {"lines": 4}


class TestWords:
    AT = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)

    def test_a_message_for_people(self) -> None:
        line = describe(A_MESSAGE)._replace(at=self.AT)
        text = "03:04:05.678  invalidate  keys product:42  tags prices  node 0b0b0b  id 7-0"
        assert line.as_text() == text
        assert line.is_message

    def test_a_message_for_programs(self) -> None:
        line = describe(A_MESSAGE)._replace(at=self.AT)
        assert json.loads(line.as_json()) == {
            "at": "2026-01-02T03:04:05.678+00:00",
            "type": "invalidate",
            "keys": ["product:42"],
            "tags": ["prices"],
            "node": "0b0b0b",
            "id": "7-0",
        }

    def test_the_time_is_local_and_says_so(self) -> None:
        line = describe(A_MESSAGE)
        assert line.at.utcoffset() == datetime.now(UTC).astimezone().utcoffset()

    def test_a_clear_is_a_message_and_a_flush_is_not(self) -> None:
        assert describe(A_CLEAR).type == "clear"
        assert describe(A_CLEAR).is_message
        flush = describe(A_FLUSH)
        assert (flush.type, flush.facts, flush.is_message) == ("flush", {"reason": "the chain is broken"}, False)

    def test_says_nothing_about_nothing(self) -> None:
        """A message typed into redis-cli has neither a node nor an id."""
        line = describe(Invalidation(("a",), (), False, "invalidate", "", ""))
        assert line._replace(at=self.AT).as_text() == "03:04:05.678  invalidate  keys a"

    @pytest.mark.parametrize("name", ["two words", "line\nbreak", "\x1b[2J", "\x9b2J", 'quo"te', "right\u202eleft"])
    def test_a_name_from_the_wire_stays_one_word_and_moves_no_cursor(self, name: str) -> None:
        line = describe(Invalidation((name,), (), False, "invalidate", "", name))
        assert line.as_text().isprintable()
        assert json.dumps(name) in line.as_text()
        assert line.as_json().isascii()
        assert json.loads(line.as_json())["keys"] == [name]

    def test_a_thousand_names_are_one_line_that_can_be_read(self) -> None:
        names = tuple(f"product:{n}" for n in range(1000))
        line = describe(Invalidation(names, (), False, "invalidate", "", ""))
        assert "product:19 … and 980 more" in line.as_text()
        assert json.loads(line.as_json())["keys"] == list(names)
