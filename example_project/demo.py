"""
The demo: a Redis of its own, several app servers, one command.

Each server stands for a host: a gunicorn with two worker processes, and the sidecar that listens for both of them and
writes the ledger that they read.

    make demo                          three servers
    make demo SERVERS=5                as many as that
    make demo REDIS_URL=redis://…      with a Redis that runs already
    make demo ARGS=--json              one line of JSON instead of the text, for scripts and tests

It runs until Ctrl-C or SIGTERM (exit code 0), or until one of its servers ends by itself (exit code 1).

A sidecar that is killed or stopped does not end the demo, which is there for watching just that: its workers go on
without a lease, and a new sidecar starts after `RESTART_AFTER_S`, as systemd would start one. A sidecar that fails
(any other exit code) is one.

Rule 1: nothing is left behind. Every process started here ends with this one, however this one ends: see `tether.py`
for the servers and their sidecars, and `invalidator.testing` for Redis. Database and ledgers lie in a temporary
directory.
Rule 2: no port is guessed. The sockets are bound here and handed to the servers, so nobody can take one in between.
Rule 3: all other processes on the machine are left alone, and so is a Redis that was not started here, but for the
namespace's own keys.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import FrameType

from invalidator import Invalidator, InvalidatorError
from invalidator.testing import EmbeddedServer

ROOT = Path(__file__).resolve().parent.parent
MAX_SERVERS = 20
START_TIMEOUT_S = 60.0  # takes 1-2 s; a loaded machine takes long
STOP_TIMEOUT_S = 15.0  # gunicorn's own grace is 5 s
REDIS_TIMEOUT_S = 5.0
POLL_S = 0.05
LOG_LINES = 20
WORKERS = 2  # of each server
MAX_STALENESS = "2"  # seconds; as in settings.py
SLOTS = 2**17  # of each ledger: 1 MiB, and many more than a shop with five products needs
RESTART_AFTER_S = 5.0  # longer than a lease: one can watch it end


class DemoError(Exception):
    """The demo cannot go on; the message has the reason, and what to do."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process of ours, in a group of its own."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.poll() is not None

    @property
    def was_stopped(self) -> bool:
        """Whether it has ended because somebody stopped or killed it, and not because it failed."""
        return self.ended and self.process.returncode <= 0

    def check(self) -> None:
        """Raise DemoError if it has ended."""
        if self.ended:
            raise DemoError(
                f"{self.name} ended by itself (exit code {self.process.returncode}), so all others were stopped. "
                f"Its log:\n{self.log_tail()}"
            )

    def log_tail(self) -> str:
        """The last lines it wrote."""
        lines = self.log.read_text(errors="backslashreplace").splitlines()[-LOG_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of its group, if any is left."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS raises the second for a group of zombies
            os.killpg(self.process.pid, number)

    def close_in_child(self) -> None:
        """It has ended: close our end of its pipe."""
        if self.process.stdin is not None:
            self.process.stdin.close()


class Server:
    """
    One app server, as if on a host of its own: a gunicorn with worker processes, and their sidecar.

    Args:
        name: in all answers, pages and messages.
        directory: where its ledger and its logs go.
        environment: of its processes.
    """

    def __init__(self, name: str, directory: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.ledger = directory / f"{name}.ledger"
        self._directory = directory
        self._environment = {**environment, "SERVER_NAME": name, "LEDGER": str(self.ledger)}
        # One where all workers answer, and one for each of them.
        self._sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(1 + WORKERS)]
        self.ports = [listening.getsockname()[1] for listening in self._sockets]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.url = self.urls[0]
        self._restart_at: float | None = None
        self.sidecar: Child | None = None
        self.web: Child | None = None

    @property
    def children(self) -> list[Child]:
        """What runs, or ran."""
        return [child for child in (self.web, self.sidecar) if child is not None]

    def start_sidecar(self) -> None:
        """Start the sidecar; it is ready when `has_lease`."""
        environment = self._environment
        self.sidecar = start(
            f"{self.name}'s sidecar",
            self._directory / f"{self.name}.sidecar.log",
            [
                *("example_project.sidecar", "--path", str(self.ledger), "--slots", str(SLOTS)),
                *("--max-staleness", environment["MAX_STALENESS"]),
            ],
            # Not as options: there may be a password in the URL, and everybody can list processes.
            {**environment, "INVALIDATOR_URL": environment["REDIS_URL"]}
            | {"INVALIDATOR_NAMESPACE": environment["NAMESPACE"]},
        )

    def has_lease(self) -> bool:
        """Whether the sidecar has proved that it receives everything, as a worker would see it."""
        environment = self._environment
        try:
            bus = Invalidator(
                environment["REDIS_URL"],
                namespace=environment["NAMESPACE"],
                max_staleness=float(environment["MAX_STALENESS"]),
                sidecar=self.ledger,
            )
        except InvalidatorError:  # it has not written its ledger yet
            return False
        with bus:
            return bus.wait_until_leased(0)

    def start_web(self, fleet: str) -> None:
        """Start gunicorn; it is ready when it `answers`."""
        self.web = start(
            self.name,
            self._directory / f"{self.name}.log",
            [
                *("gunicorn", "example_project.wsgi:application", "--config", "python:example_project.gunicorn_conf"),
                *(word for listening in self._sockets for word in ("--bind", f"fd://{listening.fileno()}")),
            ],
            {**self._environment, "FLEET": fleet, "WORKER_PORTS": " ".join(map(str, self.ports[1:]))},
            keep=[listening.fileno() for listening in self._sockets],
        )
        self.close()  # with ours open, a dead server's port would accept and never answer

    def answers(self) -> bool:
        """Whether every worker answers, has filled its cache once, and has a lease."""
        return all(map(is_ready, self.urls[1:]))

    def tend(self) -> None:
        """See that all runs. Raises DemoError when something has ended by itself."""
        assert self.web is not None
        assert self.sidecar is not None
        self.web.check()
        if not self.sidecar.was_stopped:
            self.sidecar.check()
        elif self._restart_at is None:
            self._restart_at = time.monotonic() + RESTART_AFTER_S
            print(
                f"demo: {self.sidecar.name} was stopped: watch {self.name}'s workers lose their lease. "
                f"A new one starts in {RESTART_AFTER_S:.0f} s.",
                file=sys.stderr,
                flush=True,
            )
        elif time.monotonic() >= self._restart_at:
            self._restart_at = None
            self.sidecar.close_in_child()
            self.start_sidecar()

    def close(self) -> None:
        """Close our ends of the sockets."""
        for listening in self._sockets:
            listening.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return its exit code."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        options = parse(arguments)
        with contextlib.ExitStack() as stack:
            run(options, stack, stop)
    except (DemoError, InvalidatorError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    if not options.json:
        print("\nStopped: no process is left.")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, with the environment's SERVERS, REDIS_URL and NAMESPACE as defaults."""
    parser = argparse.ArgumentParser(prog="python -m example_project.demo", description="A shop on several servers.")
    parser.add_argument("--servers", default=os.environ.get("SERVERS") or "3", help="how many (default: SERVERS, or 3)")
    parser.add_argument(
        "--redis",
        default=os.environ.get("REDIS_URL") or None,
        metavar="URL",
        help="a running Redis (default: REDIS_URL, or one of its own)",
    )
    parser.add_argument(
        "--namespace", default=os.environ.get("NAMESPACE") or "shop", help="default: NAMESPACE, or shop"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one line of JSON when all servers are ready, and nothing else"
    )
    parser.add_argument(
        "--database",
        type=Path,
        metavar="PATH",
        help="begin with a copy of this SQLite file, which an earlier demo or `manage.py migrate` and `seed` have made",
    )
    options = parser.parse_args(arguments)
    if not (options.servers.isascii() and options.servers.isdigit() and 1 <= int(options.servers) <= MAX_SERVERS):
        raise DemoError(f"SERVERS must be a whole number from 1 to {MAX_SERVERS}, not {options.servers!r}")
    options.servers = int(options.servers)
    return options


def run(options: argparse.Namespace, stack: contextlib.ExitStack, stop: threading.Event) -> None:
    """Start everything, print where, and wait for the end. Raises DemoError when a server ends first."""
    directory = Path(
        stack.enter_context(tempfile.TemporaryDirectory(prefix="invalidator-demo-", ignore_cleanup_errors=True))
    )
    redis = None if options.redis else stack.enter_context(EmbeddedServer())
    redis_url = redis.url if redis else options.redis
    check_redis(redis_url, options.namespace)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "DATABASE": str(directory / "shop.sqlite3"),
        "REDIS_URL": redis_url,
        "NAMESPACE": options.namespace,
        "MAX_STALENESS": os.environ.get("MAX_STALENESS") or MAX_STALENESS,
        "LEDGER": "",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    if options.database:
        shutil.copyfile(options.database, environment["DATABASE"])
    else:
        manage(environment, "migrate", "--verbosity=0")
        manage(environment, "seed")
    servers = start_servers(options.servers, environment, directory, stack, stop)
    if not stop.is_set():
        facts = {
            "servers": [facts_of(server) for server in servers],
            "redis": redis_url,
            "redis_pid": redis.pid if redis else None,
            "namespace": options.namespace,
            "database": environment["DATABASE"],
        }
        print(json.dumps(facts) if options.json else describe(servers, redis_url, options.namespace), flush=True)
    while not stop.wait(POLL_S * 4):
        for server in servers:
            server.tend()


def check_redis(url: str, namespace: str) -> None:
    """Raise DemoError unless invalidations can be published to *url*."""
    with Invalidator(url, namespace=namespace) as bus:
        bus.start()
        if not bus.wait_until_leased(REDIS_TIMEOUT_S):
            detail = bus.status().last_error or "no answer"
            raise DemoError(
                f"Redis at {url} cannot be used: {detail}. Start it, or run without REDIS_URL for one of our own."
            )


def manage(environment: dict[str, str], *command: str) -> None:
    """Run a management command. Raises DemoError with what it wrote when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "example_project.manage", *command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,  # as for the servers: Ctrl-C is for the demo
        text=True,
        check=False,
    )
    if done.returncode:
        raise DemoError(f"manage.py {command[0]} failed:\n{done.stdout}{done.stderr}")


# ------------------------------------------------------------------------------------------------- servers


def start_servers(
    count: int, environment: Mapping[str, str], directory: Path, stack: contextlib.ExitStack, stop: threading.Event
) -> list[Server]:
    """
    Start *count* servers, and return when all are ready or *stop* is set; *stack* stops them, together.

    Raises DemoError when one ends or takes too long. A gunicorn starts when its sidecar is ready, as on a host.
    """
    servers: list[Server] = []
    stack.callback(stop_servers, servers)
    for number in range(1, count + 1):
        servers.append(Server(f"app{number}", directory, environment))
        servers[-1].start_sidecar()
    wait_until(Server.has_lease, servers, stop)
    fleet = " ".join(f"{server.name}={','.join(server.urls)}" for server in servers)
    if not stop.is_set():
        for server in servers:
            server.start_web(fleet)
    wait_until(Server.answers, servers, stop)
    return servers


def start(
    name: str, log: Path, module: Sequence[str], environment: Mapping[str, str], keep: Sequence[int] = ()
) -> Child:
    """Start `python -m` *module* with its arguments. It inherits the descriptors *keep*, and writes to *log*."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,  # our end: see tether.py
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=keep,
            start_new_session=True,  # Ctrl-C is for the demo, which stops the servers; and a group to end as a whole
        )
    return Child(name, log, process)


def wait_until(is_so: Callable[[Server], bool], servers: Sequence[Server], stop: threading.Event) -> None:
    """Wait until *is_so* for every server. Raises DemoError when a process ends or it takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    waiting = list(servers)
    while waiting and not stop.is_set():
        for child in (child for server in servers for child in server.children):
            child.check()
        waiting = [server for server in waiting if not is_so(server)]
        if waiting and time.monotonic() > deadline:
            late = waiting[0].children[0]
            raise DemoError(f"{late.name} was not ready within {START_TIMEOUT_S:.0f} s. Its log:\n{late.log_tail()}")
        stop.wait(POLL_S if waiting else 0)


def is_ready(url: str) -> bool:
    """Whether the worker at *url* answers, has filled its cache once, and has a lease."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=START_TIMEOUT_S)
    try:
        connection.request("GET", "/api/copies")
        response = connection.getresponse()
        return response.status == 200 and bool(json.loads(response.read())["status"]["leased"])
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()


def stop_servers(servers: Sequence[Server]) -> None:
    """End all of *servers*: asked first, killed after a while, whole groups in any case."""
    children = [child for server in servers for child in server.children]
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(max(0.0, deadline - time.monotonic()))
        # The group outlives a master that was killed, and holds its workers.
        child.signal(signal.SIGKILL)
        child.process.wait()
        child.close_in_child()
    for server in servers:
        server.close()


# ----------------------------------------------------------------------------------------- what is printed


def facts_of(server: Server) -> dict[str, object]:
    """What scripts and tests want to know of *server*."""
    web, sidecar = server.children
    return {
        "name": server.name,
        "url": server.url,
        "pid": web.process.pid,
        "workers": server.urls[1:],
        "sidecar": sidecar.process.pid,
        "ledger": str(server.ledger),
    }


def describe(servers: Sequence[Server], redis_url: str, namespace: str) -> str:
    """What runs where, and what to try."""
    first, last = servers[0], servers[-1]
    pages = "\n".join(f"    {server.name}   {server.url}/" for server in servers)
    workers = "\n".join(
        f"    curl {url}/api/products/1   # always worker {n}" for n, url in enumerate(last.urls[1:], 1)
    )
    invalidator = f"{command()} --url {shlex.quote(redis_url)} --namespace {namespace}"
    _, sidecar = last.children
    return f"""
{len(servers)} servers are ready. Each is {WORKERS} workers with a near cache of their own, and a sidecar that listens:

{pages}

All side by side:

    {first.url}/fleet

Django's admin, with the action "Invalidate caches" and a page about each process' caches (name and password: staff):

    {first.url}/admin/

Try it: change a price on one page and watch the others. Or from another terminal, in this directory:

    curl {last.url}/api/products/1   # whichever worker it reaches
{workers}
    curl -H 'Content-Type: application/json' -d '{{"price": 19.5}}' {first.url}/api/products/1

    curl {last.url}/rest/products/1/   # the same by Django REST framework, with what it reads recorded
    curl {last.url}/async/products/1   # and by an async view

    {invalidator} watch
    {invalidator} invalidate product:1 --tag prices

    kill -9 {sidecar.process.pid}   # {sidecar.name}: its workers lose their lease, and go on answering

Redis (or Valkey) is at {redis_url}, the namespace is {namespace}. Ctrl-C stops everything."""


def command() -> str:
    """The library's own command line as it can be typed here."""
    script = Path(sys.executable).with_name("invalidator")
    if not script.exists():  # the library is not installed, only found
        return f"{shlex.quote(sys.executable)} example_project/manage.py invalidator"
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))


if __name__ == "__main__":
    sys.exit(main())
