"""The link to a real server: it carries bytes, and raises errors."""

import os
import secrets
import socket
from itertools import pairwise
from typing import Any

import pytest

from invalidator.config import CONNECTIONS
from invalidator.errors import InvalidSetting, LinkDown
from invalidator.link import Post
from invalidator.link.redis import RedisConnection, RedisLink
from invalidator.message import bodies
from invalidator.names import RedisNames, redis_names
from invalidator.protocol.frames import Failure, Frame, Push, Reply
from invalidator.testing import EmbeddedServer
from tests.support import PATIENCE_S, Thread


@pytest.fixture
def names(namespace: str) -> RedisNames:
    return redis_names(namespace)


@pytest.fixture
def link(redis_url: str) -> Any:
    link = RedisLink(redis_url, timeout_s=10)
    yield link
    link.close()


@pytest.fixture
def connection(link: RedisLink) -> Any:
    connection = link.connect()
    yield connection
    connection.close()


def read(connection: RedisConnection, count: int) -> list[Frame]:
    frames: list[Frame] = []
    while len(frames) < count:
        frames += connection.receive(PATIENCE_S)
    return frames


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "redis://localhost:port/0",
            "redis://localhost:6379/0?no_such_option=1",
            "redis://localhost:99999999/0",
            "redis://localhost/0?socket_timeout=soon",
        ],
    )
    def test_one_that_cannot_work_is_refused_before_anything_is_sent(self, url) -> None:
        with pytest.raises(InvalidSetting, match="url cannot work"):
            RedisLink(url, timeout_s=1)

    def test_a_unix_socket(self) -> None:
        with EmbeddedServer(unix_socket=True) as server:
            link = RedisLink(server.url, timeout_s=10)
            connection = link.connect()
            connection.send([("PING", "x")])
            assert read(connection, 1) == [Reply(b"x")]
            connection.close()
            link.close()

    def test_a_password(self, own_server) -> None:
        """A wrong one is not in the error, which ends in logs and on status pages."""
        own_server.command("CONFIG", "SET", "requirepass", "secret")
        right, wrong, none = (
            RedisLink(own_server.url.replace("://", f"://{who}"), timeout_s=10) for who in (":secret@", ":hunter2@", "")
        )
        right.connect().close()
        for link in (wrong, none):
            with pytest.raises(LinkDown) as caught:
                link.connect()
            assert "hunter2" not in str(caught.value)
        for link in (right, wrong, none):
            link.close()


class TestConnections:
    def test_answers_come_in_the_order_of_the_questions(self, connection) -> None:
        connection.send([("PING", "1"), ("ROLE",), ("PING", 2)])
        one, role, two = read(connection, 3)
        assert (one, two) == (Reply(b"1"), Reply(b"2"))
        assert role.value[0] == b"master"

    def test_an_error_answer_is_an_answer(self, connection) -> None:
        """The subscription decides what it means."""
        connection.send([("NOSUCHCOMMAND",), ("PING", "x")])
        error, pong = read(connection, 2)
        assert isinstance(error, Failure)
        assert "unknown command" in error.text
        assert pong == Reply(b"x")

    def test_a_subscriber_may_run_any_command_and_order_is_kept(self, connection, link, names) -> None:
        """RESP3. The lease rests on this: what was published before the PING is read before its PONG."""
        connection.send([("SUBSCRIBE", names.channel)])
        assert read(connection, 1) == [Push(b"subscribe", names.channel.encode(), 1)]
        for number in range(100):
            link.publish(names, 1000, Post(bodies("n", [f"k{number}"], ())))
        connection.send([("PING", "t"), ("GET", "nothing")])
        *pushes, pong, nothing = read(connection, 102)
        assert (pong, nothing) == (Reply(b"t"), Reply(None))
        assert [push.kind for push in pushes] == [b"message"] * 100
        assert b'"k99"' in pushes[-1].payload

    def test_bytes_are_left_as_they_are(self, connection, names, server) -> None:
        connection.send([("SUBSCRIBE", names.channel)])
        payload = bytes(range(256))
        server.command("PUBLISH", names.channel, payload)
        assert read(connection, 2)[1].payload == payload

    def test_nothing_in_time_is_nothing(self, connection) -> None:
        assert connection.receive(0) == []

    def test_an_interruption_ends_the_waiting(self, connection) -> None:
        waiting = Thread(lambda: connection.receive(PATIENCE_S))
        connection.interrupt()
        with pytest.raises(LinkDown):
            waiting.outcome()

    def test_a_server_that_dies_ends_the_waiting(self, own_server) -> None:
        link = RedisLink(own_server.url, timeout_s=10)
        connection = link.connect()
        waiting = Thread(lambda: connection.receive(PATIENCE_S))
        own_server.kill()
        with pytest.raises(LinkDown):
            waiting.outcome()
        with pytest.raises(LinkDown):
            connection.receive(PATIENCE_S)
        with pytest.raises(LinkDown):
            link.connect()
        connection.close()

    def test_a_port_where_no_server_listens(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            link = RedisLink(f"redis://127.0.0.1:{taken.getsockname()[1]}", timeout_s=1)
            with pytest.raises(LinkDown, match="refused"):
                link.connect()
            with pytest.raises(LinkDown):
                link.publish(redis_names("shop"), 100, Post([b"{}"]))

    def test_what_is_no_redis_is_a_link_that_is_down(self) -> None:
        """The port of another service: no other exception may reach the listener."""
        with socket.create_server(("127.0.0.1", 0)) as stranger:
            link = RedisLink(f"redis://127.0.0.1:{stranger.getsockname()[1]}", timeout_s=10)
            connecting = Thread(link.connect)
            accepted, _ = stranger.accept()
            with accepted:
                accepted.recv(1)
                accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with pytest.raises(LinkDown):
                connecting.outcome()

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_childs_close_leaves_the_parents_connection_alone(self, connection) -> None:
        """shutdown() would end the connection for both processes."""
        pid = os.fork()
        if pid == 0:
            connection.close()
            os._exit(0)
        os.waitpid(pid, 0)
        connection.send([("PING", "still here")])
        assert read(connection, 1) == [Reply(b"still here")]


class TestPublishing:
    def journal(self, server: EmbeddedServer, names: RedisNames) -> list[Any]:
        return server.command("XRANGE", names.journal, "-", "+")

    def test_journal_and_channel_carry_the_same(self, connection, link, names, server) -> None:
        connection.send([("SUBSCRIBE", names.channel)])
        read(connection, 1)
        accepted = link.publish(names, 1000, Post([b"one", b"two"]))
        assert accepted.listeners == 1
        epoch, (id1, fields1), (id2, fields2) = self.journal(server, names)
        assert fields1 == ["p", epoch[0], "m", "one"]
        assert fields2 == ["p", id1, "m", "two"]
        assert accepted.id == id2
        payloads = [push.payload.decode() for push in read(connection, 2)]
        assert payloads == [f"{id1} {epoch[0]} one", f"{id2} {id1} two"]

    def test_the_first_message_begins_the_journal(self, link, names, server) -> None:
        link.publish(names, 1000, Post([b"x"]))
        (_, fields), _ = self.journal(server, names)
        assert fields == ["p", "", "m", '{"v":1,"op":"epoch"}']
        assert server.command("GET", names.epoch)

    def test_a_journal_begun_anew_gives_no_id_again(self, link, names, server) -> None:
        """The journal before may have been deleted in this very millisecond, with messages that a node has missed."""
        drawn = set()
        for _ in range(5):
            link.publish(names, 1000, Post([b"one"]))
            first, second = self.journal(server, names)
            assert int(second[0].split("-")[1]) in (0, int(first[0].split("-")[1]) + 1)
            drawn.add(first[0].split("-")[1])
            server.command("FLUSHALL")
        assert len(drawn) == 5

    def test_an_emptied_journal_goes_on_with_later_ids(self, link, names, server) -> None:
        link.publish(names, 1000, Post([b"one"]))
        server.command("XADD", names.journal, "9999999999999-5", "p", "", "m", "from before the clock went back")
        server.command("XTRIM", names.journal, "MAXLEN", "0")
        link.publish(names, 1000, Post([b"two"]))
        assert [entry[0] for entry in self.journal(server, names)] == ["9999999999999-6", "9999999999999-7"]

    def test_a_journal_begun_anew_has_another_epoch(self, link, names, server) -> None:
        link.publish(names, 1000, Post([b"x"]))
        epoch = server.command("GET", names.epoch)
        server.command("DEL", names.journal)
        link.publish(names, 1000, Post([b"x"]))
        assert server.command("GET", names.epoch) != epoch

    def test_opening_it_twice_begins_it_once(self, link, connection, names, server) -> None:
        for _ in range(2):
            connection.send([link.open_journal(names, 1000)])
            [answer] = read(connection, 1)
            assert isinstance(answer, Reply)
        assert len(self.journal(server, names)) == 1
        epoch = server.command("GET", names.epoch)
        server.command("DEL", names.epoch)
        connection.send([link.open_journal(names, 1000)])
        read(connection, 1)
        assert server.command("GET", names.epoch) not in (None, epoch)

    def test_the_journal_is_capped(self, link, names, server) -> None:
        """Approximately: Redis trims whole nodes of a stream."""
        for _ in range(20):
            link.publish(names, 100, Post([secrets.token_hex(8).encode() for _ in range(64)]))
        assert server.command("XLEN", names.journal) < 500

    def test_the_chain_is_whole_whoever_writes_it(self, redis_url, names, server) -> None:
        """The script is atomic."""
        links = [RedisLink(redis_url, timeout_s=10) for _ in range(4)]
        for thread in [
            Thread(lambda link=link: [link.publish(names, 10_000, Post([b"x"])) for _ in range(50)]) for link in links
        ]:
            thread.outcome()
        chain = [(id, fields[1]) for id, fields in self.journal(server, names)]
        assert len(chain) == 201
        assert all(before[0] == after[1] for before, after in pairwise(chain))
        for link in links:
            link.close()

    def test_holds_are_kept_until_they_end_or_are_released(self, link, names, server) -> None:
        link.publish(names, 1000, Post([b"mine"], hold_ms=60_000))
        link.publish(names, 1000, Post([b"yours"], hold_ms=30_000))
        assert set(server.command("ZRANGE", names.holds, 0, -1)) == {"mine", "yours"}
        assert 30_000 < server.command("PTTL", names.holds) <= 60_000
        link.publish(names, 1000, Post([b"released"], ended=[b"mine"]))
        assert server.command("ZRANGE", names.holds, 0, -1) == ["yours"]

    def test_many_threads_publish_at_once(self, link, names, server) -> None:
        together = [
            Thread(lambda: [link.publish(names, 10_000, Post([b"x"])) for _ in range(5)])
            for _ in range(CONNECTIONS.default // 2)
        ]
        for thread in together:
            thread.outcome()
        assert server.command("XLEN", names.journal) == 1 + 5 * len(together)

    def test_a_server_that_forgot_the_script_is_sent_it_again(self, own_server) -> None:
        link, names = RedisLink(own_server.url, timeout_s=10), redis_names("shop")
        link.publish(names, 1000, Post([b"x"]))
        own_server.command("SCRIPT", "FLUSH")
        assert link.publish(names, 1000, Post([b"x"])).id
        link.close()

    @pytest.mark.parametrize("refusal", [("replicaof", "127.0.0.1 1"), ("maxmemory", "1")])
    def test_a_server_that_refuses_writes_is_a_link_that_is_down(self, own_server, refusal) -> None:
        """As a demoted or a full primary does: the message is queued and tried again."""
        option, value = refusal
        if option == "replicaof":
            own_server.command("REPLICAOF", *value.split())
        else:
            own_server.command("CONFIG", "SET", option, value)
        link = RedisLink(own_server.url, timeout_s=10)
        with pytest.raises(LinkDown):
            link.publish(redis_names("shop"), 1000, Post([b"x"]))
        link.close()

    def test_a_connection_that_was_closed_while_idle_is_made_anew(self, own_server) -> None:
        """Closed by `timeout` of the server, or by a proxy in between: no caller notices, and no message is lost."""
        link, names = RedisLink(own_server.url, timeout_s=10), redis_names("shop")
        for _ in range(CONNECTIONS.default + 1):
            link.publish(names, 1000, Post([b"x"]))
            own_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert own_server.command("XLEN", names.journal) == CONNECTIONS.default + 2
        link.close()

    def test_a_refusal_costs_no_connection(self, own_server) -> None:
        link, names = RedisLink(own_server.url, timeout_s=10), redis_names("shop")
        own_server.command("CONFIG", "SET", "maxmemory", "1")
        for _ in range(CONNECTIONS.default + 1):
            with pytest.raises(LinkDown, match="maxmemory"):
                link.publish(names, 1000, Post([b"x"]))
        clients = [line for line in own_server.command("CLIENT", "LIST").splitlines() if "cmd=eval" in line]
        assert len(clients) == 1
        link.close()

    def test_a_server_that_does_not_answer_is_down_in_time(self, own_server) -> None:
        link = RedisLink(own_server.url, timeout_s=0.2)
        own_server.pause()
        with pytest.raises(LinkDown):
            link.publish(redis_names("shop"), 1000, Post([b"x"]))
        own_server.resume()
        link.close()


class TestReadingTheJournal:
    def test_it_is_read_backwards_in_pages(self, link: RedisLink, names: RedisNames) -> None:
        assert link.read_journal(names, "", 2) == []
        ids = [link.publish(names, 1000, Post(bodies("n", [key], ()))).id for key in "abc"]
        newest = link.read_journal(names, "", 2)
        assert [id for id, _ in newest] == ids[:0:-1]
        assert newest[0][1] == bodies("n", ["c"], ())[0]
        older = link.read_journal(names, newest[-1][0], 10)
        assert [id for id, _ in older[:1]] == ids[:1]
        assert older[-1][1] == b'{"v":1,"op":"epoch"}'

    def test_a_server_that_is_away_is_an_error(self, names: RedisNames) -> None:
        with pytest.raises(LinkDown):
            RedisLink("redis://127.0.0.1:1/0", timeout_s=1).read_journal(names, "", 2)
