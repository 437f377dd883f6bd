"""
`invalidator sidecar` as a process of its own, a real server, and workers in this process.

Tests wait for events, up to `PATIENCE_S`; they measure no durations.
"""

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from invalidator import Invalidator, NearCache
from invalidator.errors import LedgerFileError
from invalidator.ledger.file import default_path
from invalidator.testing import EmbeddedServer
from tests.support import PATIENCE_S

SCRIPT = Path(sys.executable).with_name("invalidator")
SLOTS = 4096


def wait_until(is_so: Callable[[], object], what: str = "it") -> None:
    """Wait until *is_so*; fail after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not happen"
        pause.wait(0.005)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Daemon:
    """A running sidecar."""

    def __init__(self, process: "subprocess.Popen[str]", http_path: Path) -> None:
        self.process = process
        self._http_path = http_path

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next record of *event* in its log. The log must be read to the end: a pipe holds 64 KiB."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            record: dict[str, Any] = json.loads(line)
            if record["event"] == event:
                return record
        raise AssertionError(f"it ended before {event}")

    def ask(self, path: str) -> tuple[int, str]:
        connection = UnixConnection(self._http_path)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def health(self, namespace: str) -> dict[str, Any]:
        found = json.loads(self.ask("/status")[1])["namespaces"]
        (health,) = [each for each in found if each["namespace"] == namespace]
        return dict(health)

    def end(self, number: signal.Signals) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


Start = Callable[..., Daemon]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "ledgers"
    directory.mkdir()
    return directory


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "ledger"


@pytest.fixture
def http_path(tmp_path: Path) -> Path:
    return tmp_path / "http.sock"


@pytest.fixture
def command(redis_url: str, namespace: str) -> list[str]:
    place = ["--url", redis_url, "--namespace", namespace]
    return [str(SCRIPT), "sidecar", *place, "--slots", str(SLOTS), "--log-format", "json"]


@pytest.fixture
def start(command: list[str], path: Path, http_path: Path) -> Iterator[Start]:
    """Start a sidecar for `path`, with more arguments; at the end of the test it is killed, if it still runs."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, where: tuple[str, ...] = ("--path", str(path)), **environment: str) -> Daemon:
            process = subprocess.Popen(
                [*command, *where, "--http", f"unix:{http_path}", *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Daemon(process, http_path)

        yield start


@pytest.fixture
def daemon(start: Start) -> Daemon:
    """A sidecar that is ready."""
    daemon = start()
    daemon.wait_for("ready")
    return daemon


@pytest.fixture
def elsewhere(redis_url: str, namespace: str) -> Iterator[Invalidator]:
    """A bus on another host, which publishes what becomes stale."""
    with Invalidator(redis_url, namespace=namespace, publish="raise") as bus:
        yield bus


WorkerOn = Callable[..., tuple[Invalidator, NearCache]]


@pytest.fixture
def worker_on(redis_url: str, namespace: str) -> Iterator[WorkerOn]:
    """Return a function that makes a worker of this host: its bus and its cache."""
    with contextlib.ExitStack() as stack:

        def worker_on(sidecar: Path | str, url: str = redis_url, **options: Any) -> tuple[Invalidator, NearCache]:
            bus = stack.enter_context(Invalidator(url, namespace=namespace, sidecar=sidecar, **options))
            return bus, NearCache(bus)

        yield worker_on


def run_until_it_fails(command: list[str], *arguments: str, **more: Any) -> tuple[int, str]:
    """Run a command that must fail. Returns its exit code, and the line with the reason."""
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE_S, **more
    )
    *_, line = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert line.startswith("invalidator: ")
    return done.returncode, line


class TestWorkers:
    def test_see_what_the_sidecar_receives(
        self, daemon: Daemon, path: Path, worker_on: WorkerOn, elsewhere: Invalidator
    ) -> None:
        workers = [worker_on(path) for _ in range(3)]
        for bus, cache in workers:
            assert bus.status().leased
            cache.set("product:42", "old", tags=["prices"])
            cache.set("product:43", "old")
        elsewhere.invalidate("product:42")
        for _, cache in workers:
            wait_until(lambda cache=cache: cache.get("product:42") is None)  # type: ignore[misc]
            assert cache.get("product:43") == "old"

    def test_start_no_thread_and_open_no_connection(
        self, daemon: Daemon, path: Path, worker_on: WorkerOn, server: EmbeddedServer, namespace: str
    ) -> None:
        threads = threading.active_count()
        bus, cache = worker_on(path)
        assert cache.get_or_set("product:42", lambda: "new") == "new"
        assert cache.get("product:42") == "new"
        assert threading.active_count() == threads
        assert bus.status().listener == "sidecar"
        channel = f"invalidator:{{{namespace}}}:messages"
        assert server.command("PUBSUB", "NUMSUB", channel) == [channel, 1]

    def test_read_what_a_sibling_wrote(self, daemon: Daemon, path: Path, worker_on: WorkerOn) -> None:
        """`invalidate` returns when the host's ledger has the stamp: the test need not wait."""
        writer, _ = worker_on(path)
        _, cache = worker_on(path)
        for turn in range(50):
            cache.set("product:42", turn)
            assert writer.invalidate("product:42").accepted
            assert cache.get("product:42") is None

    def test_auto_takes_a_sidecar_that_lives(self, start: Start, worker_on: WorkerOn, namespace: str) -> None:
        place = default_path(namespace)
        try:
            daemon = start(where=())
            daemon.wait_for("ready")
            assert worker_on("auto")[0].status().listener == "sidecar"
            daemon.end(signal.SIGTERM)
            wait_until(lambda: worker_on("auto", max_staleness=0.01)[0].status().listener == "own")
        finally:
            place.unlink(missing_ok=True)
            place.with_name(f"{place.name}.lock").unlink(missing_ok=True)


class TestRestart:
    def test_a_killed_one_is_followed_by_one_that_replays_and_voids_nothing(
        self, start: Start, path: Path, worker_on: WorkerOn, elsewhere: Invalidator, namespace: str
    ) -> None:
        first = start()
        first.wait_for("ready")
        _, cache = worker_on(path)
        cache.set("kept", "value")
        cache.set("dropped", "value")
        first.end(signal.SIGKILL)
        id = elsewhere.invalidate("dropped").id
        second = start()
        second.wait_for("ready")
        wait_until(lambda: second.health(namespace)["position"] == id)
        assert cache.get("dropped") is None
        assert cache.get("kept") == "value"
        health = second.health(namespace)
        assert (health["flushes"], health["replays"]) == (0, 1)

    def test_an_ended_one_too(
        self, start: Start, path: Path, worker_on: WorkerOn, elsewhere: Invalidator, namespace: str
    ) -> None:
        first = start()
        first.wait_for("ready")
        _, cache = worker_on(path)
        cache.set("kept", "value")
        assert first.end(signal.SIGTERM) == 0
        elsewhere.invalidate("other")
        second = start()
        second.wait_for("ready")
        assert second.health(namespace)["flushes"] == 0
        assert cache.get("kept") == "value"

    def test_without_a_sidecar_requests_go_on_within_the_bound(
        self, daemon: Daemon, path: Path, worker_on: WorkerOn
    ) -> None:
        bus, cache = worker_on(path, max_staleness=0.3)
        cache.set("product:42", "old")
        daemon.end(signal.SIGKILL)
        wait_until(lambda: not bus.status().leased)
        wait_until(lambda: cache.get("product:42") is None)
        assert cache.get_or_set("product:42", lambda: "new") == "new"

    def test_another_number_of_slots_is_reported_by_the_workers(
        self, start: Start, path: Path, worker_on: WorkerOn
    ) -> None:
        first = start()
        first.wait_for("ready")
        bus, cache = worker_on(path, max_staleness=0.3)
        first.end(signal.SIGTERM)
        start("--slots", str(2 * SLOTS)).wait_for("ready")

        def is_reported() -> bool:
            cache.set("any", "value")
            return "restart this process" in (bus.status().last_error or "")

        wait_until(is_reported)


class TestPause:
    def test_a_paused_one_serves_nothing_stale_and_catches_up(
        self, start: Start, path: Path, worker_on: WorkerOn, elsewhere: Invalidator, namespace: str
    ) -> None:
        """It wakes with unread messages in its socket: it must not renew the lease before it has applied them."""
        daemon = start("--max-staleness", "0.5")
        daemon.wait_for("ready")
        bus, cache = worker_on(path, max_staleness=0.5)
        cache.set("product:42", "old")
        cache.set("product:43", "old")
        daemon.process.send_signal(signal.SIGSTOP)
        id = elsewhere.invalidate("product:42").id
        wait_until(lambda: not bus.status().leased)
        wait_until(lambda: cache.get("product:42") is None)
        daemon.process.send_signal(signal.SIGCONT)
        wait_until(lambda: bus.status().leased)
        assert cache.get("product:42") is None
        assert bus.status().position == id
        assert daemon.health(namespace)["flushes"] == 0


class TestTheFile:
    def test_a_second_sidecar_is_refused_and_the_first_goes_on(
        self, daemon: Daemon, command: list[str], path: Path, worker_on: WorkerOn, elsewhere: Invalidator
    ) -> None:
        code, line = run_until_it_fails(command, "--path", str(path))
        assert code == 1
        assert f"another sidecar (pid {daemon.process.pid}) writes {path}" in line
        _, cache = worker_on(path)
        cache.set("product:42", "old")
        elsewhere.invalidate("product:42")
        wait_until(lambda: cache.get("product:42") is None)

    @pytest.mark.parametrize("with_lock", [False, True])
    def test_one_that_was_removed_is_put_back_and_found(
        self,
        with_lock: bool,
        daemon: Daemon,
        path: Path,
        worker_on: WorkerOn,
        elsewhere: Invalidator,
    ) -> None:
        bus, cache = worker_on(path, max_staleness=0.3)
        path.unlink()
        if with_lock:
            path.with_name(f"{path.name}.lock").unlink()
        daemon.wait_for("ledger was removed or replaced, and is put back")

        def is_back() -> bool:
            cache.set("product:42", "old")
            return bus.status().leased

        wait_until(is_back)
        elsewhere.invalidate("product:42")
        wait_until(lambda: cache.get("product:42") is None)

    def test_one_that_cannot_be_put_back_leaves_the_others_alone(
        self, start: Start, directory: Path, namespace: str
    ) -> None:
        daemon = start("--namespace", f"{namespace}.b", where=("--directory", str(directory)))
        daemon.wait_for("ready")
        lost = directory / f"invalidator.{namespace}.ledger"
        lost.unlink()
        lost.mkdir()
        assert daemon.wait_for("ledger lost")["namespace"] == namespace
        wait_until(lambda: not daemon.health(namespace)["leased"])
        assert daemon.health(namespace)["last_error"]
        assert daemon.health(f"{namespace}.b")["leased"]
        lost.rmdir()
        daemon.wait_for("ledger was removed or replaced, and is put back")
        wait_until(lambda: daemon.ask("/readyz")[0] == 200)

    def test_whatever_is_in_its_place_is_replaced(self, start: Start, path: Path, worker_on: WorkerOn) -> None:
        path.write_text("no ledger at all")
        start().wait_for("ready")
        assert worker_on(path)[0].status().leased

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda path: path.write_bytes(b"x" * 4096), "magic"),
            (lambda path: os.truncate(path, 4096), "size in slots"),
            (lambda path: path.chmod(0o666), "written by others"),
        ],
    )
    def test_workers_refuse_what_does_not_fit(
        self, spoil: Callable[[Path], object], reason: str, daemon: Daemon, path: Path, worker_on: WorkerOn
    ) -> None:
        assert daemon.end(signal.SIGTERM) == 0
        spoil(path)
        with pytest.raises(LedgerFileError, match=reason):
            worker_on(path)

    def test_workers_refuse_the_ledger_of_another_namespace(self, daemon: Daemon, path: Path, redis_url: str) -> None:
        with pytest.raises(LedgerFileError, match="namespace"):
            Invalidator(redis_url, namespace="another", sidecar=path)

    def test_a_full_disk_is_one_line(self, command: list[str], directory: Path) -> None:
        """A file system that is full where mounting is permitted, or else a limit upon which the same call fails."""
        with full(directory) as limit:
            code, line = run_until_it_fails(command, "--directory", str(directory), preexec_fn=limit)
            assert code == 1
            assert "make room or take fewer slots" in line
            assert [found.name for found in directory.iterdir() if found.suffix != ".lock"] == []

    def test_no_directory_is_one_line(self, command: list[str], directory: Path) -> None:
        code, line = run_until_it_fails(command, "--path", str(directory / "none" / "ledger"))
        assert code == 1
        assert "No such file or directory" in line


@contextlib.contextmanager
def full(directory: Path) -> Iterator[Callable[[], None]]:
    """A directory without room for a ledger. Yields a function that a process must call first."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield lambda: None
        finally:
            subprocess.run(["umount", str(directory)], check=True)
    else:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))


class TestHttp:
    def test_alive_and_ready(self, daemon: Daemon, namespace: str) -> None:
        assert daemon.ask("/livez") == (200, "alive\n")
        assert daemon.ask("/readyz") == (200, "ready\n")
        assert daemon.health(namespace)["slots"] == SLOTS
        code, text = daemon.ask("/metrics")
        assert code == 200
        assert f'invalidator_sidecar_leased{{namespace="{namespace}"}} 1.0' in text.splitlines()

    def test_counts_what_it_applies(self, daemon: Daemon, namespace: str, elsewhere: Invalidator) -> None:
        before = daemon.health(namespace)["names"]
        id = elsewhere.invalidate("a", "b", tags=["c"]).id
        wait_until(lambda: daemon.health(namespace)["position"] == id)
        assert daemon.health(namespace)["names"] == before + 3

    def test_without_redis_it_is_alive_and_not_ready_and_names_the_reason(
        self, start: Start, own_server: EmbeddedServer, namespace: str
    ) -> None:
        own_server.kill()
        daemon = start("--url", own_server.url, "--max-staleness", "0.5")
        daemon.wait_for("disconnected")
        code, reason = daemon.ask("/readyz")
        assert code == 503
        assert reason.startswith(f"{namespace}: no lease, connecting")
        assert "refused" in reason
        assert daemon.ask("/livez")[0] == 200
        own_server.start()
        daemon.wait_for("ready")
        assert daemon.ask("/readyz")[0] == 200
        own_server.kill()
        assert daemon.wait_for("lease lost")["namespace"] == namespace
        assert daemon.ask("/readyz")[0] == 503

    def test_an_address_that_others_reach_is_refused(self, command: list[str], path: Path) -> None:
        code, line = run_until_it_fails(command, "--path", str(path), "--http", "0.0.0.0:0")
        assert code == 2
        assert "--http-any" in line

    def test_loopback_takes_a_free_port(self, start: Start) -> None:
        host, _, port = start("--http", "127.0.0.1:0").wait_for("http listening")["address"].rpartition(":")

        def is_alive() -> bool:
            connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
            with contextlib.closing(connection):
                connection.request("GET", "/livez")
                return connection.getresponse().status == 200

        wait_until(is_alive)  # it answers before the listener's first turn


class TestSeveralNamespaces:
    def test_have_a_ledger_each(
        self, start: Start, directory: Path, redis_url: str, namespace: str, worker_on: WorkerOn
    ) -> None:
        other = f"{namespace}.b"
        daemon = start("--namespace", other, where=("--directory", str(directory)))
        assert daemon.wait_for("ready")["namespaces"] == f"{namespace},{other}"
        _, cache = worker_on(directory / f"invalidator.{namespace}.ledger")
        cache.set("product:42", "old")
        with Invalidator(redis_url, namespace=other, sidecar=directory / f"invalidator.{other}.ledger") as bus:
            assert bus.status().leased
            bus.invalidate("product:42")
        assert cache.get("product:42") == "old"

    def test_may_come_from_the_environment(self, command: list[str], directory: Path, start: Start) -> None:
        at = command.index("--namespace")
        names = command[at + 1]
        del command[at : at + 2]
        daemon = start(where=("--directory", str(directory)), INVALIDATOR_NAMESPACE=f"{names}, {names}.b")
        assert daemon.wait_for("ready")["namespaces"] == f"{names},{names}.b"


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_end_it_with_0_and_nothing_is_left_behind(
        self,
        number: signal.Signals,
        daemon: Daemon,
        path: Path,
        http_path: Path,
        server: EmbeddedServer,
        namespace: str,
    ) -> None:
        assert daemon.end(number) == 0
        assert sorted(found.name for found in path.parent.iterdir()) == ["ledger", "ledger.lock"]
        assert not http_path.exists()
        channel = f"invalidator:{{{namespace}}}:messages"
        wait_until(lambda: server.command("PUBSUB", "NUMSUB", channel) == [channel, 0])

    def test_end_it_while_redis_does_not_answer(self, start: Start, own_server: EmbeddedServer) -> None:
        daemon = start("--url", own_server.url)
        daemon.wait_for("ready")
        own_server.pause()
        assert daemon.end(signal.SIGTERM) == 0

    def test_hangup_reopens_the_log(self, start: Start, tmp_path: Path) -> None:
        log = tmp_path / "sidecar.log"
        daemon = start("--log-file", str(log))
        wait_until(lambda: log.exists() and "ready" in [json.loads(line)["event"] for line in whole_lines(log)])
        log.rename(tmp_path / "sidecar.log.1")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: log.exists() and whole_lines(log))
        assert [json.loads(line)["event"] for line in whole_lines(log)] == ["log reopened"]
        assert daemon.end(signal.SIGTERM) == 0
        assert [json.loads(line)["event"] for line in whole_lines(log)] == ["log reopened", "stopping", "stopped"]


def whole_lines(path: Path) -> list[str]:
    """The records whose lines are complete."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


class TestSystemd:
    @pytest.fixture
    def systemd(self, tmp_path: Path) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(tmp_path / "notify"))
            receiver.settimeout(PATIENCE_S)
            yield receiver

    def test_is_notified_when_it_is_ready_alive_and_about_to_end(self, start: Start, systemd: socket.socket) -> None:
        daemon = start(NOTIFY_SOCKET=systemd.getsockname(), WATCHDOG_USEC="100000")
        wait_for(systemd, "READY=1")
        for _ in range(3):
            wait_for(systemd, "WATCHDOG=1")
        daemon.process.send_signal(signal.SIGTERM)
        wait_for(systemd, "STOPPING=1")
        assert daemon.process.wait(PATIENCE_S) == 0

    def test_is_notified_why_it_is_not_ready(
        self, start: Start, systemd: socket.socket, own_server: EmbeddedServer
    ) -> None:
        own_server.kill()
        start("--url", own_server.url, NOTIFY_SOCKET=systemd.getsockname())
        while "refused" not in systemd.recv(4096).decode():
            pass
        own_server.start()
        wait_for(systemd, "READY=1")


def wait_for(systemd: socket.socket, line: str) -> None:
    """Receive until one datagram has this line. Raises TimeoutError."""
    while line not in systemd.recv(4096).decode().splitlines():
        pass


class TestMisuse:
    @pytest.mark.parametrize(
        ("arguments", "what_would_be_right"),
        [
            (["--namespace", "b", "--path", "ledger"], "directory"),
            (["--namespace", "two words"], "namespace must be"),
            (["--slots", "8"], "slots must be"),
            (["--max-staleness", "0"], "max_staleness must be"),
            (["--http", "nonsense"], "http must be"),
            (["--url", "memory://"], "memory://"),
            (["--url", "http://x"], "url must begin with"),
        ],
    )
    def test_is_one_line_and_2(self, arguments: list[str], what_would_be_right: str, command: list[str]) -> None:
        code, line = run_until_it_fails(command, *arguments)
        assert code == 2
        assert what_would_be_right in line

    def test_a_log_that_cannot_be_written_is_one_line_and_1(self, command: list[str], tmp_path: Path) -> None:
        code, line = run_until_it_fails(command, "--log-file", str(tmp_path / "none" / "log"))
        assert code == 1
        assert "cannot write the log" in line
