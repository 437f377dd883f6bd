"""The demo's real processes, used as people and scripts use them: over HTTP and from a shell."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0  # for what takes milliseconds; reached only when something is broken
POLL_S = 0.01  # between two requests

T = TypeVar("T")


def environ() -> dict[str, str]:
    """The environment without variables that configure a Django project: other tests or the shell may have set them."""
    chosen = (
        "DJANGO_SETTINGS_MODULE",
        "SERVERS",
        "REDIS_URL",
        "NAMESPACE",
        "DATABASE",
        "MAX_STALENESS",
        "LEDGER",
        "FLEET",
    )
    return {name: value for name, value in os.environ.items() if name not in chosen}


def until(what: str, ask: Callable[[], T], good: Callable[[T], object]) -> T:
    """Call *ask* until its answer is good, and return that answer; after `DEADLINE_S`, fail with the last one."""
    deadline = time.monotonic() + DEADLINE_S
    while not good(answer := ask()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {DEADLINE_S:.0f} s; the last answer was {answer!r}")
        time.sleep(POLL_S)
    return answer


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    text: str
    cookies: list[str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Place:
    """An address: of a server, where any of its workers answers, or of one worker."""

    name: str
    url: str

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        """Send one request. *body* is sent as JSON unless it is a string."""
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=DEADLINE_S)
        with contextlib.closing(connection):
            content = body if body is None or isinstance(body, str) else json.dumps(body)
            kind = {} if content is None else {"Content-Type": "application/json"}
            connection.request(method, path, content, kind | (headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(), response.headers.get_all("Set-Cookie") or [])

    def get(self, path: str) -> Any:
        """GET *path* and return its JSON."""
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.json

    def post(self, path: str, body: object) -> Any:
        """POST *body* and return the JSON of the answer."""
        answer = self.ask("POST", path, body)
        assert answer.status == 200, answer
        return answer.json

    def cached(self, path: str) -> Any:
        """Read *path* until the answer comes from a near cache; return that answer."""
        return until(f"{self.name} caches {path}", lambda: self.get(path), lambda answer: answer["from"] == "cache")


@dataclass(frozen=True)
class Server(Place):
    """One of the demo's app servers."""

    pid: int
    sidecar: int
    ledger: str
    workers: list[Place]


class Demo:
    """A running demo: `python -m example_project.demo --json`."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "example_project.demo", "--json", *arguments],
            cwd=ROOT,
            env=environ() | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        if not ready:
            self.process.wait(DEADLINE_S)
            self.servers: list[Server] = []
            return
        facts = json.loads(ready)
        self.redis_url: str = facts["redis"]
        self.redis_pid: int | None = facts["redis_pid"]
        self.namespace: str = facts["namespace"]
        self.database: str = facts["database"]
        self.servers = [
            Server(**server | {"workers": [Place(f"{server['name']}/{n}", url) for n, url in enumerate(urls, start=1)]})
            for server in facts["servers"]
            for urls in [server["workers"]]
        ]

    @property
    def workers(self) -> list[Place]:
        """Every worker of every server."""
        return [worker for server in self.servers for worker in server.workers]

    @property
    def errors(self) -> str:
        """What the demo has written to stderr so far."""
        self._errors.seek(0)
        return self._errors.read().decode()

    def pids(self) -> list[int]:
        """Every process that the demo has started: masters, their workers, sidecars, Redis."""
        workers = [worker.get("/api/status")["pid"] for worker in self.workers]
        servers = [pid for server in self.servers for pid in (server.pid, server.sidecar)]
        return [*servers, *workers, *([self.redis_pid] if self.redis_pid else [])]

    def stop(self, number: signal.Signals) -> int:
        """Send the demo a signal, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def end(self) -> None:
        """Clean up after a test, whatever state the demo is in."""
        if self.process.poll() is None:
            self.stop(signal.SIGTERM)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()

    def shell(self, *command: str) -> str:
        """Run a command with the demo's Redis, namespace and database, and return its output."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environ() | {"REDIS_URL": self.redis_url, "NAMESPACE": self.namespace, "DATABASE": self.database},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done
        return done.stdout


def alive(pid: int) -> bool:
    """Whether process *pid* runs. A zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """
    A demo of three servers, shared by all tests that leave it running.

    Its staleness bound is longer than any pause of a loaded machine: an entry leaves only when it is invalidated.
    """
    demo = Demo("--servers=3", MAX_STALENESS="60")
    try:
        assert demo.servers, demo.errors
        yield demo
    finally:
        demo.end()


PREPARE = """
import django
from django.core.management import call_command
django.setup()
call_command("migrate", verbosity=0)
call_command("seed")
"""


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated and seeded database for demos to copy: to make one takes as long as to start two servers."""
    path = tmp_path_factory.mktemp("shop") / "shop.sqlite3"
    settings = {"DJANGO_SETTINGS_MODULE": "example_project.settings", "DATABASE": str(path)}
    subprocess.run([sys.executable, "-c", PREPARE], cwd=ROOT, env=environ() | settings, check=True)
    return path


@pytest.fixture
def start_demo(database: Path) -> Iterator[Callable[..., Demo]]:
    """Return a function that starts a demo which the test may break, with a database of its own."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **environment: str) -> Demo:
            demo = Demo(f"--database={database}", *arguments, **environment)
            stack.callback(demo.end)
            return demo

        yield start
