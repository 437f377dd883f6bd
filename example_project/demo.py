"""
The demo: a Redis of its own, several app servers, one command.

    make demo                          three servers
    make demo SERVERS=5                as many as that
    make demo REDIS_URL=redis://…      with a Redis that runs already
    make demo ARGS=--json              one line of JSON instead of the text, for scripts and tests

It runs until Ctrl-C or SIGTERM (exit code 0), or until one of its servers ends by itself (exit code 1).

Rule 1: nothing is left behind. Every process started here ends with this one, however this one ends: see
`gunicorn_conf.py` for the servers and `invalidator.testing` for Redis. The database lies in a temporary directory.
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
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
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


class DemoError(Exception):
    """The demo cannot go on; the message says why, and what to do."""


@dataclass(slots=True)
class Server:
    """One app server: a gunicorn of one worker process."""

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.poll() is not None

    def log_tail(self) -> str:
        """The last lines it wrote."""
        lines = self.log.read_text(errors="backslashreplace").splitlines()[-LOG_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"


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
    options = parser.parse_args(arguments)
    if not (options.servers.isascii() and options.servers.isdigit() and 1 <= int(options.servers) <= MAX_SERVERS):
        raise DemoError(f"SERVERS must be a whole number from 1 to {MAX_SERVERS}, not {options.servers!r}")
    options.servers = int(options.servers)
    return options


def run(options: argparse.Namespace, stack: contextlib.ExitStack, stop: threading.Event) -> None:
    """Start everything, tell, and wait for the end. Raises DemoError when a server ends first."""
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
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    manage(environment, "migrate", "--verbosity=0")
    manage(environment, "seed")
    servers = start_servers(options.servers, environment, directory, stack)
    wait_until_ready(servers, stop)
    if not stop.is_set():
        facts = {
            "servers": [{"name": server.name, "url": server.url, "pid": server.process.pid} for server in servers],
            "redis": redis_url,
            "redis_pid": redis.pid if redis else None,
            "namespace": options.namespace,
            "database": environment["DATABASE"],
        }
        print(json.dumps(facts) if options.json else describe(servers, redis_url, options.namespace), flush=True)
    watch(servers, stop)


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
    count: int, environment: dict[str, str], directory: Path, stack: contextlib.ExitStack
) -> list[Server]:
    """Start *count* servers on free loopback ports; *stack* stops them, together."""
    sockets = {f"app{number}": stack.enter_context(listening_socket()) for number in range(1, count + 1)}
    urls = {name: "http://{}:{}".format(*listening.getsockname()) for name, listening in sockets.items()}
    fleet = " ".join(f"{name}={url}" for name, url in urls.items())
    servers: list[Server] = []
    stack.callback(stop_servers, servers)
    for name, listening in sockets.items():
        log = directory / f"{name}.log"
        process = start_server(listening, log, {**environment, "SERVER_NAME": name, "FLEET": fleet})
        servers.append(Server(name, urls[name], log, process))
        listening.close()  # the server has its own; with ours open, a dead server's port would accept and never answer
    return servers


@contextlib.contextmanager
def listening_socket() -> Iterator[socket.socket]:
    """A socket on a loopback port that the system has chosen."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def start_server(listening: socket.socket, log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start one gunicorn on *listening*."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "example_project.wsgi:application"),
                *("--config", "python:example_project.gunicorn_conf"),
                *("--bind", f"fd://{listening.fileno()}"),
            ],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,  # our end: see gunicorn_conf.py
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(listening.fileno(),),
            start_new_session=True,  # Ctrl-C is for the demo, which stops the servers; and a group to end as a whole
        )


def wait_until_ready(servers: Sequence[Server], stop: threading.Event) -> None:
    """Wait until every server answers with a lease. Raises DemoError when one ends or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    waiting = list(servers)
    while waiting and not stop.is_set():
        check_alive(servers)
        waiting = [server for server in waiting if not is_ready(server)]
        if waiting and time.monotonic() > deadline:
            server = waiting[0]
            raise DemoError(
                f"{server.name} was not ready within {START_TIMEOUT_S:.0f} s. Its log:\n{server.log_tail()}"
            )
        stop.wait(POLL_S if waiting else 0)


def is_ready(server: Server) -> bool:
    """Whether *server* answers, has filled its cache once, and hears invalidations."""
    connection = HTTPConnection(server.url.removeprefix("http://"), timeout=START_TIMEOUT_S)
    try:
        connection.request("GET", "/api/copies")
        response = connection.getresponse()
        return response.status == 200 and bool(json.loads(response.read())["status"]["leased"])
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()


def watch(servers: Sequence[Server], stop: threading.Event) -> None:
    """Return when told to stop. Raises DemoError when a server ends."""
    while not stop.wait(POLL_S * 4):
        check_alive(servers)


def check_alive(servers: Sequence[Server]) -> None:
    """Raise DemoError if one of *servers* has ended."""
    for server in servers:
        if server.ended:
            raise DemoError(
                f"{server.name} ended by itself (exit code {server.process.returncode}), so all others were stopped. "
                f"Its log:\n{server.log_tail()}"
            )


def stop_servers(servers: Sequence[Server]) -> None:
    """End all of *servers*: asked first, killed after a while, whole groups in any case."""
    for server in servers:
        signal_group(server, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for server in servers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(max(0.0, deadline - time.monotonic()))
        # The group outlives a master that was killed, and holds its worker.
        signal_group(server, signal.SIGKILL)
        server.process.wait()
        if server.process.stdin is not None:
            server.process.stdin.close()


def signal_group(server: Server, number: signal.Signals) -> None:
    """Send a signal to all processes of *server*, if any is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the second of a group of zombies
        os.killpg(server.process.pid, number)


# ----------------------------------------------------------------------------------------- what is printed


def describe(servers: Sequence[Server], redis_url: str, namespace: str) -> str:
    """What runs where, and what to try."""
    first, last = servers[0], servers[-1]
    pages = "\n".join(f"    {server.name}   {server.url}/" for server in servers)
    invalidator = f"{command()} --url {shlex.quote(redis_url)} --namespace {namespace}"
    return f"""
{len(servers)} servers are ready, each with a near cache of its own:

{pages}

All side by side:

    {first.url}/fleet

Try it: change a price on one page and watch the others. Or from another terminal, in this directory:

    curl {last.url}/api/products/1
    curl -H 'Content-Type: application/json' -d '{{"price": 19.5}}' {first.url}/api/products/1
    curl {last.url}/api/products/1

    {invalidator} watch
    {invalidator} invalidate product:1 --tag prices

Redis (or Valkey) is at {redis_url}, the namespace is {namespace}. Ctrl-C stops everything."""


def command() -> str:
    """The library's own command line as it can be typed here."""
    script = Path(sys.executable).with_name("invalidator")
    if not script.exists():  # the library is not installed, only found
        return f"{shlex.quote(sys.executable)} example_project/manage.py invalidator"
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))


if __name__ == "__main__":
    sys.exit(main())
