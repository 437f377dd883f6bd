"""The life of the demo: it starts as asked, and however it ends, no process is left."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from invalidator.testing import EmbeddedServer

from .conftest import Demo, alive, until

StartDemo = Callable[..., Demo]


def nothing_left(pids: list[int]) -> None:
    until("the demo's processes end", lambda: [pid for pid in pids if alive(pid)], lambda left: not left)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_when_told(start_demo: StartDemo, number: signal.Signals) -> None:
    demo = start_demo(SERVERS="2")
    pids = demo.pids()
    assert len(pids) == 5, "two masters, two workers and Redis"
    assert demo.stop(number) == 0, demo.errors
    nothing_left(pids)
    assert not Path(demo.database).parent.exists()


def test_killed_it_leaves_nothing_either(start_demo: StartDemo) -> None:
    demo = start_demo("--servers=2")
    pids = demo.pids()
    assert demo.stop(signal.SIGKILL) == -signal.SIGKILL
    nothing_left(pids)
    shutil.rmtree(Path(demo.database).parent)  # the one thing that nobody was left to remove


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_first_server_that_does(start_demo: StartDemo, number: signal.Signals) -> None:
    demo = start_demo("--servers=2")
    pids = demo.pids()
    os.kill(demo.servers[1].pid, number)
    assert demo.process.wait(60) == 1
    nothing_left(pids)
    assert "app2 ended by itself" in demo.errors


def test_servers_says_how_many(start_demo: StartDemo) -> None:
    demo = start_demo(SERVERS="2")
    assert [server.name for server in demo.servers] == ["app1", "app2"]
    first, second = demo.servers
    second.cached("/api/products/1")
    first.post("/api/products/1", {"price": 77})
    until("app2 follows", lambda: second.get("/api/products/1")["price"], lambda price: price == 77)


@pytest.mark.parametrize("servers", ["0", "-1", "three", "1000", "2.5", "²"])
def test_a_number_of_servers_that_cannot_be_is_refused(start_demo: StartDemo, servers: str) -> None:
    demo = start_demo(SERVERS=servers)
    assert demo.process.wait(60) == 1
    assert f"SERVERS must be a whole number from 1 to 20, not {servers!r}" in demo.errors


def test_it_uses_a_redis_that_runs_already_and_leaves_it_running(
    start_demo: StartDemo, server: EmbeddedServer, namespace: str
) -> None:
    demo = start_demo("--servers=2", REDIS_URL=server.url, NAMESPACE=namespace)
    assert (demo.redis_url, demo.redis_pid) == (server.url, None)
    first, second = demo.servers
    second.cached("/api/products/2")
    first.post("/api/products/2", {"price": 78})
    until("app2 follows", lambda: second.get("/api/products/2")["price"], lambda price: price == 78)
    pids = demo.pids()
    assert demo.stop(signal.SIGTERM) == 0
    nothing_left(pids)
    assert server.command("PING") == "PONG"


def test_a_redis_that_is_not_there_is_said(start_demo: StartDemo, own_server: EmbeddedServer) -> None:
    url = own_server.url
    own_server.stop()
    demo = start_demo("--servers=1", REDIS_URL=url)
    assert demo.process.wait(60) == 1
    assert f"Redis at {url} cannot be used" in demo.errors


def test_without_redis_every_server_goes_on_answering(start_demo: StartDemo) -> None:
    """Killed in the middle: requests are answered, the lease ends, and it comes back by itself with nothing of ours."""
    demo = start_demo("--servers=2")
    assert demo.redis_pid is not None
    os.kill(demo.redis_pid, signal.SIGKILL)
    for server in demo.servers:
        until(f"{server.name} sees it", lambda s=server: s.get("/api/status"), lambda status: not status["leased"])
        assert server.get("/api/products/1")["id"] == 1
    assert demo.servers[0].post("/api/products/1", {"price": 5})["price"] == 5
    second = demo.servers[1]
    until("app2 reads the database", lambda: second.get("/api/products/1")["price"], lambda price: price == 5)
    assert demo.process.poll() is None
