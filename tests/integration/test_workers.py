"""
Workers of real servers with one sidecar: an invalidation reaches them all, and costs them nothing.

They serve `tests/integration/workers_app.py`.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from invalidator import Invalidator
from invalidator.testing import EmbeddedServer
from tests.support import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[2]
WORKERS = 3
AT_ONCE = 2 * WORKERS

GUNICORN = [sys.executable, "-m", "gunicorn", "--bind", "unix:{socket}", f"--workers={WORKERS}", "--log-level=warning"]
WSGI = "tests.integration.workers_app:wsgi"
UVICORN = [sys.executable, "-m", "uvicorn", "--uds", "{socket}", f"--workers={WORKERS}", "--lifespan=off"]
ASGI = "tests.integration.workers_app:asgi"
SERVERS = {
    "sync": [*GUNICORN, WSGI],
    "sync, preloaded": [*GUNICORN, "--preload", WSGI],
    "gthread": [*GUNICORN, "--threads=4", WSGI],
    "gthread, preloaded": [*GUNICORN, "--threads=4", "--preload", WSGI],
    "gevent": [*GUNICORN, "--worker-class=gevent", WSGI],
    "gevent, preloaded": [*GUNICORN, "--worker-class=gevent", "--preload", WSGI],
    "uvicorn": [*UVICORN, "--log-level=warning", ASGI],
}

SIDECAR = """
    import signal, sys
    from pathlib import Path
    from invalidator.config import Config
    from invalidator.sidecar.daemon import Sidecar
    url, namespace, path = sys.argv[1:]
    sidecar = Sidecar(url, [Config(namespace=namespace, max_staleness=1, slots=1024)], {namespace: Path(path)})
    sidecar.start()
    assert sidecar.served[0].wait_until_leased(30)
    print("ready", flush=True)
    signal.sigwait([signal.SIGTERM])
    sidecar.close()
"""


class Stage:
    """One host: a sidecar, and a web server with its workers."""

    def __init__(self, directory: Path, url: str, namespace: str) -> None:
        self.url = url
        self.namespace = namespace
        self.ledger = directory / "ledger"
        self.socket = directory / "http"
        self.source = directory / "source"
        self.log = directory / "server.log"
        self.source.write_text("1")
        self._stack = contextlib.ExitStack()
        self.start_sidecar()

    def start_sidecar(self) -> None:
        """Start the sidecar and wait for its first proof."""
        command = [sys.executable, "-c", textwrap.dedent(SIDECAR), self.url, self.namespace, str(self.ledger)]
        self.sidecar = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
        self._stack.callback(_end, self.sidecar)
        assert self.sidecar.stdout is not None
        assert self.sidecar.stdout.readline() == "ready\n"

    def start_server(self, kind: str, *, sidecar: bool = True, max_staleness: float = 5) -> None:
        """Start a web server and wait until all its workers answer."""
        environment = {
            **os.environ,
            "APP_URL": self.url,
            "APP_NAMESPACE": self.namespace,
            "APP_LEDGER": str(self.ledger) if sidecar else "",
            "APP_MAX_STALENESS": str(max_staleness),
            "APP_SOURCE": str(self.source),
        }
        arguments = [argument.format(socket=self.socket) for argument in SERVERS[kind]]
        log = self._stack.enter_context(self.log.open("w"))
        self.server = subprocess.Popen(
            arguments, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        self._stack.callback(_end, self.server)
        wait_until(self._answers)
        self.ask_all("/look")

    def _answers(self) -> bool:
        assert self.server.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return bool(self.ask("/look"))
        return False

    def ask(self, path: str) -> dict[str, Any]:
        """One request, answered by any worker."""
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.settimeout(PATIENCE_S)
            connection.sock.connect(str(self.socket))
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, (body, self.log.read_text())
            answer: dict[str, Any] = json.loads(body)
            return answer

    def ask_all(self, path: str) -> list[dict[str, Any]]:
        """Several requests at once, again and again, until every worker has answered. Returns all answers."""
        answers: list[dict[str, Any]] = []
        deadline = time.monotonic() + PATIENCE_S
        with ThreadPoolExecutor(AT_ONCE) as threads:
            while len({answer["pid"] for answer in answers}) < WORKERS:
                assert time.monotonic() < deadline, f"only some workers answer: {answers}"
                answers += threads.map(self.ask, [path] * AT_ONCE)
        return answers

    def values(self) -> set[str]:
        """The answers of all workers."""
        return {answer["value"] for answer in self.ask_all("/read")}

    def close(self) -> None:
        """End the sidecar and the web server."""
        self._stack.close()


def _end(process: "subprocess.Popen[Any]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its workers too
    process.wait(PATIENCE_S)
    if process.stdout is not None:
        process.stdout.close()


@pytest.fixture
def stage(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Stage]:
    with contextlib.closing(Stage(tmp_path, redis_url, namespace)) as stage:
        yield stage


@pytest.mark.parametrize("kind", [kind for kind in SERVERS if kind != "gthread"])  # the next test takes it
def test_all_workers_of_a_server_see_every_invalidation_and_start_nothing(stage: Stage, kind: str) -> None:
    """
    Published by any worker or by another host, with a bus made before the fork or after. A worker that has never
    published has no thread and no connection.
    """
    stage.start_server(kind)
    assert stage.values() == {"1"}
    for answer in stage.ask_all("/look"):
        assert (answer["listener"], answer["leased"]) == ("sidecar", True)
        assert (answer["threads"], answer["connections"]) == ([], 0)

    writers = set()
    for value in ("2", "3", "4"):
        written = stage.ask(f"/write/{value}")
        assert written["accepted"]
        writers.add(written["pid"])
        assert stage.values() == {value}, "a request after the write read what was before it"
    for answer in stage.ask_all("/look"):
        assert answer["threads"] == []
        assert answer["connections"] == (1 if answer["pid"] in writers else 0)

    with Invalidator(stage.url, namespace=stage.namespace, publish="raise") as elsewhere:
        stage.source.write_text("5")
        elsewhere.invalidate(tags=["products"])
    wait_until(lambda: stage.values() == {"5"})


@pytest.mark.parametrize("kind", ["sync, preloaded", "uvicorn"])
def test_a_killed_sidecar_fails_no_request_and_a_new_one_is_found(stage: Stage, kind: str) -> None:
    """A worker's own invalidations hold in it meanwhile; then the workers map the ledger of the new sidecar."""
    stage.start_server(kind, max_staleness=2)
    assert stage.values() == {"1"}
    stage.sidecar.send_signal(signal.SIGKILL)
    stage.sidecar.wait(PATIENCE_S)
    written = stage.ask("/write/2")
    assert written["accepted"]
    for answer in stage.ask_all("/read"):
        assert answer["value"] == "2" or answer["pid"] != written["pid"]
    stage.start_sidecar()
    assert stage.values() == {"2"}
    wait_until(lambda: all(answer["leased"] for answer in stage.ask_all("/look")))


@pytest.mark.parametrize("kind", ["gevent, preloaded", "gthread"])
def test_while_redis_is_away_every_worker_goes_on(
    tmp_path: Path, own_server: EmbeddedServer, namespace: str, kind: str
) -> None:
    """
    Many invalidations at once are queued, and delivered when Redis is back. (A lock made before gevent patches the
    standard library blocks all greenlets of a worker, if one is suspended while it holds the lock.)
    """
    with contextlib.closing(Stage(tmp_path, own_server.url, namespace)) as stage:
        stage.start_server(kind)
        assert stage.values() == {"1"}
        own_server.stop()
        answers = stage.ask_all("/write/2")
        assert not any(answer["accepted"] for answer in answers)
        own = {answer["pid"] for answer in answers}
        assert len(own) == WORKERS
        assert stage.values() == {"2"}
        own_server.start()
        wait_until(lambda: all(it["threads"] == [] and it["leased"] for it in stage.ask_all("/look")))
        assert stage.ask("/write/3")["accepted"]
        assert stage.values() == {"3"}


@pytest.mark.parametrize("kind", ["gevent, preloaded", "gthread, preloaded"])
def test_workers_that_listen_for_themselves_begin_after_the_fork(stage: Stage, kind: str) -> None:
    """
    Without a sidecar each worker starts one listener with its first fill, even if many requests fill at once.
    """
    stage.start_server(kind, sidecar=False)
    assert {answer["connections"] for answer in stage.ask_all("/look")} == {0}
    at = time.monotonic() + 0.3
    with ThreadPoolExecutor(4 * WORKERS) as threads:
        assert all(it["stored"] for it in threads.map(stage.ask, [f"/fill/{it}/{at}" for it in range(4 * WORKERS)]))
    assert stage.values() == {"1"}
    wait_until(lambda: all(answer["leased"] for answer in stage.ask_all("/look")))
    for answer in stage.ask_all("/look"):
        assert (answer["listener"], answer["threads"], answer["connections"]) == ("own", ["invalidator-listener"], 1)
    assert stage.ask("/write/2")["accepted"]
    wait_until(lambda: stage.values() == {"2"})
