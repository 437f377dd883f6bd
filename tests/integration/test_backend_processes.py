"""The cache backend in several real processes on one server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from invalidator.testing import EmbeddedServer
from tests.integration.node import Node as Process
from tests.support import wait_until

NODE = Path(__file__).parent / "backend_node.py"


class Node(Process):
    """A process of backend_node.py."""

    def get(self, key: str, alias: str = "over") -> Any:
        return self("call", alias, "get", key)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[EmbeddedServer]:
    """A Redis server that tests may empty."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture(scope="module")
def processes(redis_server: EmbeddedServer) -> Iterator[list[Node]]:
    """Three processes, for all tests: to start them takes longer than most tests."""
    processes = [Node(NODE, redis_server.url) for _ in range(3)]
    yield processes
    for process in processes:
        process.close()


@pytest.fixture
def nodes(redis_server: EmbeddedServer, processes: list[Node], namespace: str) -> Callable[..., list[Node]]:
    """Return a function that makes the processes begin anew, with the second level in database *l2_db* of Redis."""

    def begin(l2_db: int = 1) -> list[Node]:
        redis_server.command("FLUSHALL")
        for node in processes:
            assert node("begin", namespace, l2_db)
        assert Node.all_leased(processes)
        return processes

    return begin


@pytest.fixture
def l2(redis_server: EmbeddedServer) -> Iterator[Any]:
    """A client of the second level itself, which takes whole keys."""
    with redis.Redis.from_url(redis_server.url.replace("/0", "/1")) as client:
        yield client


@pytest.fixture
def source(redis_server: EmbeddedServer) -> Iterator[Any]:
    """A client of the source of truth."""
    with redis.Redis.from_url(redis_server.url.replace("/0", "/2"), decode_responses=True) as client:
        yield client


def test_servers_that_fill_the_same_keys_publish_nothing_and_do_not_evict_each_other(nodes) -> None:
    """get → miss → set, get_many → set_many, in → add, get_or_set, {% cache %} and cache_page."""
    three = nodes()
    computed = {"plain", "m1", "m2", "added", "loaded", "box", "page"}
    for _ in range(5):
        for node in three:
            assert node("read all ways") == dict.fromkeys(computed, 1)
    assert [node("published") for node in three] == [0, 0, 0]


def all_received(here, there) -> None:
    """Wait until *here* has received all that *there* has published: messages come in order."""
    here("call", "default", "set", "mark", 1)
    there("call", "default", "set", "mark", 1)
    wait_until(lambda: here.get("mark", "default") is None)


def test_what_one_server_sets_the_others_drop(nodes) -> None:
    a, b, c = nodes()
    for node in (a, b, c):
        node("read all ways")
    a("call", "default", "set", "plain", "new")
    assert a.get("plain", "default") == "new"
    for node in (b, c):
        wait_until(lambda node=node: node.get("plain", "default") is None)
    assert a.get("plain", "default") == "new"
    assert a("published") == 1


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("delete", ["n"]), ("touch", ["n", 60]), ("incr", ["n"]), ("clear", []), ("add", ["n", 7])],
)
def test_every_write_reaches_the_others(nodes, method, arguments) -> None:
    a, b, _ = nodes()
    b("call", "default", "set", "n", 1)
    all_received(a, b)  # otherwise that message could void what a stores next
    if method != "add":
        a("call", "default", "set", "n", 1)
        wait_until(lambda: b.get("n", "default") is None)
        b("call", "default", "get_or_set", "n", 1)
    a("call", "default", method, *arguments)
    wait_until(lambda: b.get("n", "default") is None)


class TestOverASecondLevel:
    def test_values_are_shared_and_read_near(self, nodes, l2) -> None:
        a, b, _ = nodes()
        assert a("call", "over", "set", "k", {"price": 1}) is None
        all_received(b, a)  # otherwise that message could void b's near copy
        assert b.get("k") == {"price": 1}
        l2.flushdb()
        assert b.get("k") == {"price": 1}, "a near copy"

    def test_every_write_invalidates_the_near_copies(self, nodes) -> None:
        a, b, c = nodes()
        a("call", "over", "set", "n", 1)
        assert [node.get("n") for node in (a, b, c)] == [1, 1, 1]
        assert b("call", "over", "incr", "n") == 2
        for node in (a, b, c):
            wait_until(lambda node=node: node.get("n") == 2)
        assert c("call", "over", "add", "n", 9) is False
        assert c("call", "over", "delete", "n") is True
        for node in (a, b, c):
            wait_until(lambda node=node: node.get("n") is None)
        assert a("call", "over", "add", "n", 9) is True
        for node in (a, b, c):
            wait_until(lambda node=node: node.get("n") == 9)

    def test_increments_of_all_servers_are_counted(self, nodes) -> None:
        three = nodes()
        three[0]("call", "over", "set", "n", 0)
        for _ in range(30):
            for node in three:
                node.begin("call", "over", "incr", "n")
            for node in three:
                node.answer()
        assert three[0]("call", "l2", "get", ":1:n") == 90

    def test_a_fill_that_comes_after_the_delete_is_taken_back(self, nodes, source) -> None:
        """
        The loader reads the source before the change, and stores in the second level after the delete and its
        message. A server that reads the value there meanwhile drops it, too.
        """
        a, b, c = nodes()
        source.set("k", "old")
        a("load late", "k")  # it has read "old", and waits before it stores
        b("write", "k", "new")
        assert b("settle") is True
        a("arrive")
        assert a("settle") is True
        assert a("call", "l2", "get", ":1:k") is None
        assert a("taken back") == 1
        for node in (a, b, c):
            wait_until(lambda node=node: node("load", "k") == "new")

    def test_a_race_of_readers_and_a_writer_ends_with_the_second_level_equal_to_the_source(self, nodes, source) -> None:
        """One server writes each key once, while two others read it from the source and fill: many fills come late."""
        three = nodes()
        for turn in range(3):
            keys = [f"{turn}:{number}" for number in range(120)]
            for key in keys:
                source.set(key, "old")
            for number, node in enumerate(three):
                node.begin("race", keys, "write" if number == turn else "read", 10 * turn + number)
            for node in three:
                assert node.answer() is True
            for node in three:
                assert node("settle") is True
            in_l2 = three[0]("call", "l2", "get_many", [f":1:{key}" for key in keys])
            assert in_l2 == {whole: f"new {whole[3:]}" for whole in in_l2}
            for node in three:
                for key in keys[::10]:
                    wait_until(lambda node=node, key=key: node("load", key) == f"new {key}")
        assert sum(node("taken back") for node in three), "no fill came late: there was no race"

    def test_a_clear_that_also_empties_the_journal_voids_everything_everywhere(self, nodes) -> None:
        """RedisCache.clear() is FLUSHDB: with the second level in the bus' own database it deletes the journal, too."""
        a, b, c = nodes(l2_db=0)
        for node in (a, b, c):
            node("call", "over", "set", "k", "old")
            assert node.get("k") == "old"
        before = [node("flushes") for node in (a, b, c)]
        a("call", "over", "clear")
        for node in (a, b, c):
            wait_until(lambda node=node: node.get("k") is None)
        for node, flushes in zip((b, c), before[1:], strict=True):
            wait_until(lambda node=node, flushes=flushes: node("flushes") > flushes)
        b("call", "over", "delete", "k")  # b has just missed k: without this, the next line would be a fill
        b("call", "over", "set", "k", "new")
        for node in (a, b, c):
            wait_until(lambda node=node: node.get("k") == "new")

    def test_a_session_follows_its_visitor_from_server_to_server(self, nodes) -> None:
        """Engine "cache": a session is in the second level alone."""
        three, cookie = nodes(), ""
        for visits in range(1, 10):
            node = three[visits % 3]
            seen, cookie = node("visit", "/count", "cache", cookie)
            assert seen == f"{visits}"

    def test_a_session_of_cached_db_is_read_from_memory(self, nodes) -> None:
        node = nodes()[0]
        node("migrate")
        cookie = ""
        for visits in range(1, 5):
            seen, cookie = node("visit", "/count", "cached_db", cookie)
            assert seen == f"{visits}"
        key = f"django.contrib.sessions.cached_db{cookie}"
        assert node.get(key)["visits"] == 4
        node("call", "over", "delete", key)
        assert node("visit", "/count", "cached_db", cookie)[0] == "5", "from the database"

    def test_a_page_of_the_cache_middleware_is_rendered_by_one_server(self, nodes) -> None:
        """UpdateCacheMiddleware and FetchFromCacheMiddleware around the whole site."""
        three = nodes()
        for _ in range(3):
            for node in three:
                assert node("visit", "/everybody", "cache", "")[0] == "42"
        assert sum(node("read all ways").get("everybody", 0) for node in three) == 1
        assert [node("published") for node in three] == [0, 0, 0]
