"""Two nodes and a real server that is killed, paused, restarted, flushed, demoted and cut off."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from invalidator import Invalidation, Invalidator, NearCache
from invalidator.testing import EmbeddedServer
from tests.support import PATIENCE_S, Thread, wait_until


class Node:
    """One node: a bus, a cache without a TTL, and the invalidations that were received."""

    def __init__(self, url: str, namespace: str, **options: Any) -> None:
        options = {"max_staleness": 1.0, "publish_timeout": 0.5, "close_timeout": 0.1, **options}
        self.bus = Invalidator(url, namespace=namespace, **options)
        self.cache = NearCache(self.bus)
        self.received: list[Invalidation] = []
        self.bus.on_invalidate(self.received.append)

    def until_leased(self) -> "Node":
        assert self.bus.wait_until_leased(PATIENCE_S), self.bus.status()
        return self

    def until_live(self) -> "Node":
        wait_until(lambda: self.bus.status().state == "live")
        return self.until_leased()

    def until_heard(self, key: str) -> None:
        wait_until(lambda: key in self.keys)

    @property
    def keys(self) -> list[str]:
        return [key for it in self.received for key in it.keys]

    @property
    def flushes(self) -> list[str]:
        return [it.reason for it in self.received if it.everything and not it.id]


@pytest.fixture
def make(namespace: str) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(url: str, **options: Any) -> Node:
        made.append(Node(url, namespace, **options))
        return made[-1]

    yield make
    for node in made:
        node.bus.close()


@pytest.fixture
def two(make, own_server) -> tuple[Node, Node]:
    """A writer and a reader, both with a lease, on a server that the test may break."""
    writer, reader = make(own_server.url).until_live(), make(own_server.url).until_live()
    reader.received.clear()
    return writer, reader


def drop_connections(server: EmbeddedServer) -> None:
    """Cut the connection of every subscriber."""
    server.command("CLIENT", "KILL", "TYPE", "pubsub")


class TestNormally:
    def test_what_one_invalidates_the_other_drops(self, two) -> None:
        writer, reader = two
        reader.cache.set("a", "old", tags=["t"])
        reader.cache.set("b", "old", tags=["u"])
        receipt = writer.bus.invalidate("a", tags=["u"])
        assert receipt.accepted
        assert receipt.listeners == 2
        reader.until_heard("a")
        assert reader.cache.get_many(["a", "b"]) == {}

    def test_the_own_echo_leaves_the_fresh_value(self, two) -> None:
        writer, _ = two
        writer.bus.invalidate("a")
        writer.cache.get_or_set("a", lambda: "fresh")
        writer.until_heard("a")
        assert writer.cache.get("a") == "fresh"

    def test_the_lease_is_renewed(self, two, own_server) -> None:
        _, reader = two
        first = reader.bus.ledger.read_lease()[0]
        wait_until(lambda: reader.bus.ledger.read_lease()[0] > first)

    def test_a_publish_typed_into_a_client(self, two, own_server, namespace) -> None:
        """Any language can publish, and so can redis-cli."""
        _, reader = two
        own_server.command("PUBLISH", f"invalidator:{{{namespace}}}:messages", '{"v":1,"keys":["a"]}')
        reader.until_heard("a")

    def test_garbage_on_the_channel(self, two, own_server, namespace) -> None:
        writer, reader = two
        for payload in (b"garbage", b"\xff\x00", b"x" * 100_000, b"99999999999999999999-0 1-0 {}"):
            own_server.command("PUBLISH", f"invalidator:{{{namespace}}}:messages", payload)
        writer.bus.invalidate("a")
        reader.until_heard("a")
        status = reader.bus.status()
        assert (status.state, status.reconnects) == ("live", 0)
        assert sum(status.refused.values()) == 4
        assert len(reader.flushes) == 4


class TestOutages:
    def test_a_dropped_connection_costs_nothing(self, two, own_server) -> None:
        """What was published meanwhile is replayed; an idle entry that was not invalidated stays."""
        writer, reader = two
        reader.cache.set("kept", "value", ttl=None)
        drop_connections(own_server)
        for number in range(450):
            writer.bus.invalidate(f"k{number}")
        reader.until_heard("k449")
        assert [key for key in reader.keys if key.startswith("k") and key != "kept"] == [f"k{n}" for n in range(450)]
        reader.until_live()
        assert reader.cache.get("kept") == "value"
        assert reader.flushes == []
        assert reader.bus.status().reconnects == 1

    def test_a_server_killed_and_begun_anew_flushes(self, two, own_server) -> None:
        writer, reader = two
        reader.cache.set("idle", "old")
        own_server.restart()
        reader.until_live()
        wait_until(lambda: reader.flushes)
        assert reader.cache.get("idle") is None
        writer.until_live().bus.invalidate("a")
        reader.until_heard("a")

    def test_a_server_restarted_with_its_data_flushes(self, two, own_server) -> None:
        """The chain is whole, and yet an accepted message may be missing: it is another run of the server."""
        _, reader = two
        reader.cache.set("idle", "old")
        own_server.restart(persist=True)
        wait_until(lambda: reader.flushes)
        assert reader.flushes == ["the server restarted or failed over"]
        assert reader.cache.get("idle") is None

    def test_a_deleted_journal_flushes_with_the_next_message(self, two, own_server, namespace) -> None:
        writer, reader = two
        own_server.command("DEL", f"invalidator:{{{namespace}}}:journal")
        writer.bus.invalidate("a")
        wait_until(lambda: reader.flushes)
        reader.until_live()
        writer.bus.invalidate("b")
        reader.until_heard("b")

    def test_flushall(self, two, own_server) -> None:
        writer, reader = two
        own_server.command("FLUSHALL")
        drop_connections(own_server)
        wait_until(lambda: reader.flushes)
        writer.until_live().bus.invalidate("a")
        reader.until_heard("a")

    def test_a_frozen_server_ends_the_lease_and_is_taken_up_again(self, two, own_server) -> None:
        """A half-open connection: no FIN, no answer. Requests go on; nothing stale is served beyond the bound."""
        writer, reader = two
        reader.cache.set("a", "old")
        own_server.pause()
        wait_until(lambda: not reader.bus.status().leased)
        wait_until(lambda: reader.bus.status().state == "connecting")
        wait_until(lambda: reader.cache.get("a") is None)  # it was loaded after the lease began
        assert reader.cache.get_or_set("a", lambda: "from the source") == "from the source"
        own_server.resume()
        reader.until_live()
        writer.until_live().bus.invalidate("b")
        reader.until_heard("b")

    def test_a_demoted_server_is_left(self, two, own_server) -> None:
        """A demoted server keeps its subscribers, but its PONGs prove nothing."""
        _, reader = two
        own_server.command("REPLICAOF", "127.0.0.1", "1")
        wait_until(lambda: reader.bus.status().state == "connecting")
        wait_until(lambda: "primary" in (reader.bus.status().last_error or ""))
        wait_until(lambda: not reader.bus.status().leased)
        own_server.command("REPLICAOF", "NO", "ONE")
        reader.until_live()

    def test_no_server_at_the_start(self, make, own_server) -> None:
        url = own_server.url
        own_server.kill()
        reader = make(url)
        assert reader.cache.get_or_set("a", lambda: "value") == "value"
        assert reader.cache.get("a") == "value"
        wait_until(lambda: reader.bus.status().last_error)
        assert reader.bus.wait_until_leased(0) is False
        own_server.start()
        reader.until_live()
        assert reader.bus.status().last_error is None


class TestRights:
    def user(self, server: EmbeddedServer, *rights: str) -> str:
        server.command("ACL", "SETUSER", "app", "on", ">pw", "~invalidator:*", "&invalidator:*", *rights)
        return server.url.replace("://", "://app:pw@")

    def test_a_user_who_may_only_do_what_is_needed(self, make, own_server) -> None:
        """docs/wire-protocol.md lists the commands. Without INFO and ROLE a reconnect flushes."""
        url = self.user(
            own_server,
            "-@all",
            *[
                "+subscribe",
                "+publish",
                "+get",
                "+set",
                "+xrange",
                "+xrevrange",
                "+xadd",
                "+zrange",
                "+zadd",
                "+zrem",
                "+zremrangebyscore",
            ],
            *["+pexpire", "+pttl", "+time", "+eval", "+evalsha", "+script|load", "+ping", "+hello", "+client"],
        )
        writer, reader = make(url).until_live(), make(url).until_live()
        writer.bus.invalidate("a")
        reader.until_heard("a")
        assert "INFO refused" in reader.bus.status().last_error
        reader.received.clear()
        drop_connections(own_server)
        wait_until(lambda: reader.flushes)
        assert "cannot tell whether the server restarted" in reader.flushes[0]

    def test_a_user_who_may_not_subscribe_is_an_error_that_is_shown(self, make, own_server) -> None:
        reader = make(self.user(own_server, "+@all", "-subscribe"))
        wait_until(lambda: "no permissions to run the 'subscribe'" in (reader.bus.status().last_error or ""))
        assert reader.cache.get_or_set("a", lambda: "value") == "value"


class TestClose:
    @pytest.mark.parametrize("state", ["live", "paused", "dead"])
    def test_it_ends_whatever_the_server_does(self, make, own_server, state) -> None:
        node = make(own_server.url, close_timeout=PATIENCE_S).until_live()
        if state == "paused":
            own_server.pause()
        if state == "dead":
            own_server.kill()
            wait_until(lambda: node.bus.status().state == "connecting")
        closing = [Thread(node.bus.close) for _ in range(3)]
        for thread in closing:
            thread.outcome()
        assert node.bus.status().state == "closed"
        assert node.bus._feed._listener.close(0)

    def test_a_script_that_forgets_to_close_ends(self, redis_url, namespace) -> None:
        """It delivers what is queued first, if it can."""
        script = f"""
            from invalidator import NearCache
            cache = NearCache({redis_url!r}, namespace={namespace!r})
            cache.set("a", 1)
            cache.bus.wait_until_leased(30)
            cache.invalidate("a")
            print(cache.bus.status().state)
        """
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "live\n", "")


class TestProcesses:
    """A reader in a process of its own."""

    @pytest.fixture
    def process(self, redis_url, namespace) -> Iterator[subprocess.Popen[str]]:
        """It caches `a`, prints "leased", then answers each line on its stdin with what it serves for `a`."""
        script = f"""
            import sys
            from invalidator import NearCache
            cache = NearCache({redis_url!r}, namespace={namespace!r}, max_staleness=1.0)
            cache.bus.wait_until_leased(30)
            cache.set("a", "old")
            print("leased", flush=True)
            for line in sys.stdin:
                print(cache.get("a", "nothing"), flush=True)
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "leased\n"
            yield process
            process.kill()

    def ask(self, process: "subprocess.Popen[str]") -> str:
        process.stdin.write("?\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    def test_a_stopped_process_wakes_up_to_nothing_stale(self, process, make, redis_url) -> None:
        """SIGSTOP, an invalidation, SIGCONT: the first read comes before the listener can run."""
        writer = make(redis_url)
        assert self.ask(process) == "old"
        os.kill(process.pid, signal.SIGSTOP)
        try:
            assert writer.bus.invalidate("a").accepted
            lease_is_over = writer.bus.clock() + 1_000_000_000
            wait_until(lambda: writer.bus.clock() > lease_is_over)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert self.ask(process) == "nothing"
