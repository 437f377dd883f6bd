"""The server in this process behaves as a real one does, as far as the protocol looks."""

import threading
from itertools import pairwise

import pytest

from invalidator.errors import LinkDown
from invalidator.link import Post
from invalidator.link.memory import MemoryLink
from invalidator.message import bodies
from invalidator.names import redis_names
from invalidator.protocol.frames import Failure, Push, Reply
from tests.support import PATIENCE_S, Thread

NAMES = redis_names("shop")


@pytest.fixture
def link(namespace: str) -> MemoryLink:
    return MemoryLink(f"memory://{namespace}")


def ask(link: MemoryLink, *command: object) -> object:
    connection = link.connect()
    connection.send([command])
    [frame] = connection.receive(PATIENCE_S)
    return frame


def say(link: MemoryLink, *keys: str, length: int = 1000, **options: object) -> str:
    return link.publish(NAMES, length, Post(bodies("n", keys, ()), **options)).id


class TestMeeting:
    def test_links_of_one_name_meet(self, namespace) -> None:
        one, two, other = (MemoryLink(f"memory://{name}") for name in (namespace, namespace, f"{namespace}2"))
        assert one.server is two.server
        assert one.server is not other.server


class TestPublishing:
    def test_a_message_reaches_every_subscriber_with_its_predecessor(self, link) -> None:
        connections = [link.connect(), link.connect()]
        for connection in connections:
            connection.send([("SUBSCRIBE", NAMES.channel)])
        first = say(link, "a")
        accepted = link.publish(NAMES, 1000, Post(bodies("n", ["b"], ())))
        assert accepted.listeners == 2
        for connection in connections:
            confirmed, _, message = connection.receive(PATIENCE_S)
            assert confirmed == Push(b"subscribe", NAMES.channel.encode(), 1)
            assert message.payload.startswith(f"{accepted.id} {first} ".encode())

    def test_ids_only_grow_even_when_the_clock_does_not(self, link) -> None:
        ids = []
        for now in (5, 5, 4, 9):
            link.server.clock_ms = lambda now=now: now
            ids.append(say(link, "a"))
        numbers = [tuple(map(int, id.split("-"))) for id in ids]
        assert numbers == sorted(set(numbers))

    def test_the_journal_is_capped(self, link) -> None:
        for number in range(10):
            say(link, f"k{number}", length=3)
        assert len(link.server.streams[NAMES.journal]) == 3

    def test_holds_are_told_until_they_end(self, link) -> None:
        link.server.clock_ms = lambda: 1000
        hold = bodies("n", ["a"], ())
        link.publish(NAMES, 1000, Post(hold, hold_ms=500))
        assert ask(link, "ZRANGE", NAMES.holds, 0, -1) == Reply(hold)
        say(link, "b", ended=hold)
        assert ask(link, "ZRANGE", NAMES.holds, 0, -1) == Reply([])

    def test_who_has_left_is_not_reached(self, link) -> None:
        connection = link.connect()
        connection.send([("SUBSCRIBE", NAMES.channel)])
        connection.close()
        assert link.publish(NAMES, 1000, Post(bodies("n", ["a"], ()))).listeners == 0


class TestAnswers:
    def test_pages_begin_after_a_position(self, link) -> None:
        ids = [say(link, f"k{number}") for number in range(5)]
        page = ask(link, "XRANGE", NAMES.journal, f"({ids[1]}", "+", "COUNT", 2)
        assert [id.decode() for id, _ in page.value] == ids[2:4]

    def test_the_last_entry(self, link) -> None:
        assert ask(link, "XREVRANGE", NAMES.journal, "+", "-", "COUNT", 1) == Reply([])
        id = say(link, "a")
        [[last, _]] = ask(link, "XREVRANGE", NAMES.journal, "+", "-", "COUNT", 1).value
        assert last.decode() == id

    def test_beginning_a_journal_twice_begins_it_once(self, link) -> None:
        for _ in range(2):
            ask(link, "OPEN", NAMES.journal, NAMES.epoch)
        assert len(link.server.streams[NAMES.journal]) == 1

    def test_what_it_does_not_know_is_an_error_answer(self, link) -> None:
        assert isinstance(ask(link, "FLUSHALL"), Failure)


class TestConnections:
    def test_answers_come_in_the_order_of_the_questions(self, link) -> None:
        connection = link.connect()
        connection.send([("PING", 1), ("ROLE",), ("PING", 2)])
        one, role, two = connection.receive(PATIENCE_S)
        assert (one.value, role.value[0], two.value) == (b"1", b"master", b"2")

    def test_nothing_in_time_is_nothing(self, link) -> None:
        assert link.connect().receive(0) == []
        assert link.connect().receive(-1) == []

    def test_an_interruption_ends_the_waiting(self, link) -> None:
        connection = link.connect()
        waiting = Thread(lambda: connection.receive(PATIENCE_S))
        connection.interrupt()
        with pytest.raises(LinkDown):
            waiting.outcome()

    def test_an_interruption_ends_the_next_waiting_too(self, link) -> None:
        connection = link.connect()
        connection.interrupt()
        with pytest.raises(LinkDown):
            connection.receive(PATIENCE_S)

    def test_a_closed_one_takes_nothing(self, link) -> None:
        connection = link.connect()
        connection.close()
        with pytest.raises(LinkDown):
            connection.send([("PING", 1)])

    def test_publishers_of_several_threads_take_turns(self, link) -> None:
        """The chain is whole whoever writes it."""
        connection = link.connect()
        connection.send([("SUBSCRIBE", NAMES.channel)])
        together = threading.Barrier(4)

        def publish() -> None:
            together.wait()
            for _ in range(50):
                say(link, "a")

        for thread in [Thread(publish) for _ in range(4)]:
            thread.outcome()
        frames = []
        while len(frames) < 201:
            frames += connection.receive(PATIENCE_S)
        chain = [frame.payload.split(b" ")[:2] for frame in frames[1:]]
        assert all(before[0] == after[1] for before, after in pairwise(chain))


class TestReadingTheJournal:
    def test_it_is_read_backwards_in_pages(self, link) -> None:
        ids = [say(link, key) for key in "abc"]
        newest = link.read_journal(NAMES, "", 2)
        assert [id for id, _ in newest] == ids[:0:-1]
        older = link.read_journal(NAMES, newest[-1][0], 10)
        assert [id for id, _ in older[:1]] == ids[:1]
        assert older[-1][1] == b'{"v":1,"op":"epoch"}'

    def test_there_may_be_none(self, link) -> None:
        assert link.read_journal(NAMES, "", 2) == []
