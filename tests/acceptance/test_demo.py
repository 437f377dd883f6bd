"""The demo starts what its options ask for, and however it ends, no process is left."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from invalidator.testing import EmbeddedServer

from .conftest import ROOT, Demo, Place, Server, alive, environ, until

StartDemo = Callable[..., Demo]


def nothing_left(pids: list[int]) -> None:
    until("the demo's processes end", lambda: [pid for pid in pids if alive(pid)], lambda left: not left)


def status(place: Place) -> Any:
    """The status of *place*; None while it does not answer."""
    try:
        return place.get("/api/status")
    except (OSError, HTTPException):
        return None


def writer_of(server: Server) -> int | None:
    """The process whose id stands in the lock file beside the ledger; None while no such process runs."""
    written = Path(f"{server.ledger}.lock").read_text()
    return int(written) if written and alive(int(written)) else None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_upon_a_signal(start_demo: StartDemo, number: signal.Signals) -> None:
    demo = start_demo(SERVERS="2")
    pids = demo.pids()
    assert len(set(pids)) == 9, "two masters, two sidecars, four workers and Redis"
    assert demo.stop(number) == 0, demo.errors
    nothing_left(pids)
    assert not Path(demo.database).parent.exists()


def test_killed_it_leaves_nothing_either(start_demo: StartDemo) -> None:
    demo = start_demo("--servers=2")
    pids = demo.pids()
    assert demo.stop(signal.SIGKILL) == -signal.SIGKILL
    nothing_left(pids)
    shutil.rmtree(Path(demo.database).parent)  # a demo that is killed cannot remove it


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_first_server_that_does(start_demo: StartDemo, number: signal.Signals) -> None:
    demo = start_demo("--servers=2")
    pids = demo.pids()
    os.kill(demo.servers[1].pid, number)
    assert demo.process.wait(60) == 1
    nothing_left(pids)
    assert "app2 ended by itself" in demo.errors


def test_a_worker_that_dies_is_replaced_by_one_with_its_number(start_demo: StartDemo) -> None:
    demo = start_demo("--servers=1")
    [server] = demo.servers
    first, second = server.workers
    before = second.get("/api/status")
    os.kill(before["pid"], signal.SIGKILL)
    after = until("the second worker is another", lambda: status(second), lambda it: it and it["pid"] != before["pid"])
    assert after["worker"] == before["worker"] == 2
    first.cached("/api/products/1")
    second.post("/api/products/1", {"price": 71})
    assert first.get("/api/products/1")["price"] == 71


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_without_its_sidecar_a_server_goes_on_answering_until_there_is_a_new_one(
    start_demo: StartDemo, number: signal.Signals
) -> None:
    demo = start_demo("--servers=2")
    first, second = demo.servers
    os.kill(second.sidecar, number)
    for worker in second.workers:
        until(f"{worker.name}'s lease ends", lambda w=worker: w.get("/api/status"), lambda it: not it["leased"])
    for price, worker in enumerate(second.workers, start=81):
        first.post("/api/products/1", {"price": price})
        until(f"{worker.name} follows", lambda w=worker: w.get("/api/products/1")["price"], lambda it, p=price: it == p)
    for worker in second.workers:
        until(f"{worker.name} has a lease again", lambda w=worker: w.get("/api/status"), lambda it: it["leased"])
    assert "app2's sidecar was stopped" in demo.errors
    copies = [worker.cached("/api/products/1")["copy"] for worker in second.workers]
    first.post("/api/products/1", {"price": 90})
    for worker, copy in zip(second.workers, copies, strict=True):
        answer = until(
            f"{worker.name} drops it", lambda w=worker: w.get("/api/products/1"), lambda it: it["price"] == 90
        )
        assert answer["copy"] > copy
    pids = [*demo.pids(), writer_of(second)]
    assert demo.stop(signal.SIGTERM) == 0, demo.errors
    nothing_left(pids)


def test_killed_it_takes_a_sidecar_with_it_that_was_started_anew(start_demo: StartDemo) -> None:
    demo = start_demo("--servers=1")
    [server] = demo.servers
    os.kill(server.sidecar, signal.SIGKILL)
    sidecar = until("there is a new sidecar", lambda: writer_of(server), lambda pid: pid and pid != server.sidecar)
    assert sidecar is not None
    pids = [*demo.pids(), sidecar]
    demo.stop(signal.SIGKILL)
    nothing_left(pids)
    shutil.rmtree(Path(demo.database).parent)


def test_it_ends_with_the_first_sidecar_that_fails(start_demo: StartDemo) -> None:
    """A sidecar that is killed has not failed; the one that replaces it does, because its ledger is locked."""
    demo = start_demo("--servers=2")
    pids = demo.pids()
    with Path(demo.servers[1].ledger).open("rb") as ledger:
        os.kill(demo.servers[1].sidecar, signal.SIGKILL)
        fcntl.flock(ledger, fcntl.LOCK_EX)
        assert demo.process.wait(60) == 1
    nothing_left(pids)
    assert "app2's sidecar ended by itself (exit code 1)" in demo.errors
    assert "another sidecar" in demo.errors


def test_the_variable_servers_is_their_number(start_demo: StartDemo) -> None:
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


def test_a_redis_that_is_not_there_is_reported(start_demo: StartDemo, own_server: EmbeddedServer) -> None:
    url = own_server.url
    own_server.stop()
    demo = start_demo("--servers=1", REDIS_URL=url)
    assert demo.process.wait(60) == 1
    assert f"Redis at {url} cannot be used" in demo.errors


def test_without_redis_every_worker_goes_on_answering(start_demo: StartDemo) -> None:
    """Killed while the demo runs: workers answer, their leases end, and none serves an old value beyond the bound."""
    demo = start_demo("--servers=2")
    assert demo.redis_pid is not None
    os.kill(demo.redis_pid, signal.SIGKILL)
    for worker in demo.workers:
        until(f"{worker.name} sees it", lambda w=worker: w.get("/api/status"), lambda it: not it["leased"])
        assert worker.get("/api/products/1")["id"] == 1
    writer, *others = demo.workers
    assert writer.post("/api/products/1", {"price": 5})["price"] == 5
    for worker in others:
        until(f"{worker.name} loads it", lambda w=worker: w.get("/api/products/1")["price"], lambda price: price == 5)
    assert demo.process.poll() is None


ALONE = """
import django
django.setup()
from django.core.management import call_command
from django.test import Client
call_command("migrate", verbosity=0)
call_command("seed")
client = Client(headers={"host": "localhost"})
page = client.get("/")
assert page.status_code == 200 and b"Kettle" in page.content, page
assert client.post("/api/products/1", {"price": 3}, "application/json").json()["price"] == 3
[worker] = client.get("/api/server").json()["workers"]
assert [read["price"] for read in worker["products"] if read["id"] == 1] == [3]
assert (worker["worker"], worker["status"]["listener"]) == (1, "own")
assert client.get("/fleet").status_code == 200
"""


def test_without_the_demo_the_project_is_one_server_of_one_process(tmp_path: Path) -> None:
    """`manage.py runserver`: no Redis, no sidecar, no fleet."""
    settings = {"DJANGO_SETTINGS_MODULE": "example_project.settings", "DATABASE": str(tmp_path / "shop.sqlite3")}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=ROOT, env=environ() | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
