"""
Tools for tests, demos and benchmarks: a bus in this process of which messages can be lost, delayed and repeated
(`MemoryBus`), and a private Valkey or Redis server (`EmbeddedServer`).

`EmbeddedServer` starts a real server process of its own, on a free loopback port or a Unix socket, without
persistence, and removes every trace of it at the end. It never talks to a server that it did not start, and never
listens on 6379, where the developer's own may be.

Rule 1: the server dies with the process that started it, however that one ends. Between the two stands a
guardian: a small Python process that is the server's parent and reads a pipe whose other end only the
owner holds. The kernel closes that end when the owner is gone, `kill -9` included; the guardian then kills
the server and removes its directory. (`PR_SET_PDEATHSIG` needs no third process, but fires when the *thread*
that started the server ends, must be set between fork and exec, and exists on Linux only.)

Rule 2: ready means that *this* server answered: its process id is compared, since another program may have taken the
port in between.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from invalidator import forks
from invalidator.errors import LinkDown
from invalidator.link import Accepted, Post
from invalidator.link.local_server import (
    COMMAND_TIMEOUT_S,
    SERVER_VARIABLE,
    UNIX_SOCKET_PATH_MAX,
    CommandError,
    EmbeddedServerError,
    Reply,
    ask,
    configuration,
    find_server_binary,
    major_version,
)
from invalidator.link.memory import Deliver, MemoryServer, close_server, open_server
from invalidator.names import RedisNames
from invalidator.protocol.frames import Frame, Push

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

__all__ = [
    "SERVER_VARIABLE",
    "CommandError",
    "EmbeddedServer",
    "EmbeddedServerError",
    "MemoryBus",
    "Reply",
    "find_server_binary",
]

START_TIMEOUT_S = 20.0  # takes 20 ms; a loaded machine takes long
STOP_TIMEOUT_S = 20.0  # as above: nothing but SIGKILL and the removal of a directory
POLL_S = 0.005  # between two looks at a server that is starting

# Below every system's range for outgoing connections (32768 on Linux, 49152 on macOS): inside it, a client that keeps
# trying to reach a killed server can be given that very port as its own, connect to itself, and block the restart.
# Above 6379 and its neighbours.
PORTS = range(20_000, 30_000)

_DEFAULTS: Mapping[str, str | int] = {"save": "", "appendonly": "no"}
_DEFAULTS_SINCE_7: Mapping[str, str | int] = {"enable-debug-command": "local"}  # before, DEBUG was always allowed
_OWN_SETTINGS = frozenset({"bind", "daemonize", "dir", "port", "unixsocket"})

# Arguments: the directory to remove at the end, then the server's command line.
# os.read and not sys.stdin: a daemon thread inside a buffered read aborts the interpreter's shutdown.
_GUARDIAN = """
import os, shutil, subprocess, sys, threading

directory, *command = sys.argv[1:]
server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
print(server.pid, flush=True)
owner_gone = threading.Event()

def watch():
    os.read(0, 1)
    owner_gone.set()
    server.kill()

threading.Thread(target=watch, daemon=True).start()
server.wait()
if owner_gone.is_set():
    shutil.rmtree(directory, ignore_errors=True)
"""


class _FaultyServer(MemoryServer):
    """What `MemoryBus` breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.losing = 0
        self.repeating = 0
        self.is_down = False
        self.late: list[tuple[Deliver, Frame]] | None = None

    def publish(self, names: RedisNames, journal_length: int, post: Post) -> Accepted:
        if self.is_down:
            raise LinkDown("the test has taken the server down")
        return super().publish(names, journal_length, post)

    def spread(self, clients: Sequence[Deliver], message: Push) -> None:
        if self.losing:
            self.losing -= 1
            return
        super().spread(clients, message)
        if self.repeating:
            self.repeating -= 1
            super().spread(clients, message)

    def deliver(self, client: Deliver, frame: Frame) -> None:
        if self.late is None:
            client(frame)
        else:
            self.late.append((client, frame))


class MemoryBus:
    """
    A bus of this process alone, apart from every other test, that can be broken: a context manager.

        with MemoryBus() as memory, Invalidator(memory.url, namespace="shop") as bus:
            memory.lose()
            bus.invalidate("product:42")  # no subscription receives it, and each of them notices

    A publisher knows its own invalidations, so a fault is seen by *another* `Invalidator` or `NearCache` on `url`.
    """

    def __init__(self) -> None:
        self._name = secrets.token_hex(8)
        self._server = _FaultyServer()
        self._meeting = open_server(self._name, self._server)

    @property
    def url(self) -> str:
        """Where it is: an Invalidator's `url`."""
        return f"memory://{self._name}"

    def lose(self, messages: int = 1) -> None:
        """The next *messages* reach no subscription. They are in the journal, and the message after them shows that."""
        with self._meeting.lock:
            self._server.losing += messages

    def repeat(self, messages: int = 1) -> None:
        """The next *messages* arrive twice."""
        with self._meeting.lock:
            self._server.repeating += messages

    @contextlib.contextmanager
    def delayed(self) -> Iterator[None]:
        """
        Inside the block nothing is received, neither messages nor answers; all of it arrives at the end, in order.

        Invalidations are accepted as ever. A block that is longer than a lease shows what a cache does without one.
        """
        with self._meeting.lock:
            if self._server.late is not None:
                raise RuntimeError("this bus is delayed already")
            self._server.late = []
        try:
            yield
        finally:
            with self._meeting.lock:
                late, self._server.late = self._server.late, None
                for client, frame in late:
                    client(frame)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Inside the block nothing is accepted: invalidations wait in their queue, or raise PublishError."""
        self._server.is_down = True
        try:
            yield
        finally:
            self._server.is_down = False

    def cut(self) -> None:
        """Every subscription loses its connection, and makes a new one."""
        with self._meeting.lock:
            for client in {client for clients in self._server.subscribers.values() for client in clients}:
                client(None)

    def close(self) -> None:
        """Forget it. Close what is connected before."""
        close_server(self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class EmbeddedServer:
    """
    A Valkey or Redis server of our own, as a context manager or by `start()` and `stop()`.

    After a fork it stays the parent's: the child can use `url` and `command`, and can neither start nor end it.

    Args:
        binary: path or command of the server; None looks for one, see `find_server_binary`.
        unix_socket: listen on a Unix socket instead of a loopback port.
        config: further lines of the server's configuration, e.g. `{"maxmemory": "10mb"}`; they win over our
            defaults (no persistence, DEBUG allowed). Where it listens and lives is not negotiable.

    Raises:
        ValueError: *config* holds a setting that is ours.
    """

    def __init__(
        self,
        *,
        binary: str | Path | None = None,
        unix_socket: bool = False,
        config: Mapping[str, str | int] | None = None,
    ) -> None:
        config = config or {}
        if taken := sorted(_OWN_SETTINGS & config.keys()):
            raise ValueError(f"config may not set {', '.join(taken)}: an embedded server chooses its own")
        self._binary = binary
        self._unix_socket = unix_socket
        self._config: dict[str, str | int] = {**_DEFAULTS, **config}
        self._owner = os.getpid()
        self._directory: Path | None = None
        self._port: int | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._pid = 0
        forks.register_for_forks(self)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {f'pid {self._pid}' if self.running else 'not running'}>"

    # ------------------------------------------------------------------------------------------ what it is

    @property
    def url(self) -> str:
        """Where clients connect; the same for life, so it holds while the server is killed or restarting."""
        if self._port is None and self._directory is None:
            raise EmbeddedServerError("The embedded server has no URL before start()")
        return f"unix://{self._socket_path}?db=0" if self._unix_socket else f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """The process id of the server itself, not of its guardian."""
        if not self.running:
            raise EmbeddedServerError("The embedded server is not running")
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._guardian is not None and self._guardian.poll() is None

    @property
    def log(self) -> str:
        """What the server has written since it was last started; empty before that and after `stop()`."""
        path = self._directory and self._directory / "server.log"
        return path.read_text(errors="backslashreplace") if path and path.exists() else ""

    # ------------------------------------------------------------------------------------------------ life

    def start(self) -> Self:
        """
        Start the server and return once it answers; does nothing if it is running.

        After `kill()` it comes back where it was, with what a `SAVE` command left on disk, and nothing else.

        Raises:
            EmbeddedServerError: no binary, or it did not answer in time or died; the message ends with its log.
        """
        if os.getpid() != self._owner:
            raise EmbeddedServerError("This embedded server belongs to the parent process: make another one here")
        if self.running:
            return self
        binary = find_server_binary(self._binary)
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="invalidator-"))
        try:
            self._start(binary, self._directory)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Kill the server, paused or not, and remove its directory; does nothing if it was not started here."""
        if os.getpid() != self._owner:
            return
        self._end_guardian()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def kill(self) -> None:
        """End the server as `kill -9` does and return when it is gone; does nothing if it is gone already."""
        if self._guardian is not None and self.running:
            with contextlib.suppress(ProcessLookupError):  # died by itself a moment ago
                os.kill(self._pid, signal.SIGKILL)
            self._guardian.wait(STOP_TIMEOUT_S)

    def pause(self) -> None:
        """Stop the process in its tracks (SIGSTOP): connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, persist: bool = False) -> None:
        """
        Kill the server and start it again at the same address, empty or, with *persist*, with its data.

        Args:
            persist: save the data first; the server must be running and not paused.
        """
        if persist:
            self.command("SAVE")
        self.kill()
        if self._directory is not None and not persist:
            shutil.rmtree(self._directory / "data")
        self.start()

    def command(self, *args: str | bytes | float, timeout_s: float = COMMAND_TIMEOUT_S) -> Reply:
        """
        Send one command over a connection of its own and return the answer, e.g. `command("CLIENT", "LIST")`.

        Raises:
            CommandError: the server answered with an error.
            OSError: it cannot be reached, or did not answer within *timeout_s* seconds.
        """
        return ask(self._address(), *args, timeout_s=timeout_s)

    # ------------------------------------------------------------------------------------------------ inside

    @property
    def _socket_path(self) -> Path:
        if self._directory is None:
            raise EmbeddedServerError("The embedded server was not started, or was stopped")
        return self._directory / "server.sock"

    def _address(self) -> str | tuple[str, int]:
        return str(self._socket_path) if self._unix_socket else ("127.0.0.1", self._port or 0)

    def _start(self, binary: Path, directory: Path) -> None:
        """Launch until a process of ours answers: a port can be taken between our look and the server's."""
        deadline = time.monotonic() + START_TIMEOUT_S
        may_choose_port = self._port is None and not self._unix_socket
        while True:
            if may_choose_port:
                self._port = _free_port()
            self._launch(binary, directory)
            problem = self._wait_until_ready(deadline)
            if not problem:
                return
            port_taken = not self.running and "Address already in use" in self.log
            if not port_taken or time.monotonic() >= deadline:
                raise EmbeddedServerError(f"{binary} {problem}. Its log:\n{self.log}")

    def _launch(self, binary: Path, directory: Path) -> None:
        self._end_guardian()  # of a server that is dead: its own end closes nothing here
        data = directory / "data"
        data.mkdir(exist_ok=True)
        place: dict[str, int | Path] = {"port": self._port or 0}
        if self._unix_socket:
            place["unixsocket"] = self._socket_path
        if self._unix_socket and len(os.fsencode(self._socket_path)) > UNIX_SOCKET_PATH_MAX:
            raise EmbeddedServerError(
                f"{self._socket_path} is too long for a Unix socket: set TMPDIR to a shorter path"
            )
        own: dict[str, str | int | Path] = {"bind": "127.0.0.1", "daemonize": "no", "dir": data, **place}
        configured = directory / "server.conf"
        defaults = _DEFAULTS_SINCE_7 if major_version(binary) >= 7 else {}
        configured.write_text(configuration({**defaults, **self._config, **own}))
        with (directory / "server.log").open("wb") as log:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARDIAN, directory, binary, configured],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the owner, who stops us when it needs the server no more
            )
        with self._guardian.stdout or io.BytesIO() as answer:
            self._pid = int(answer.readline() or 0)

    def _wait_until_ready(self, deadline: float) -> str:
        """Return "" once the very process that was launched answers, else what is wrong with it."""
        problem = "did not answer"
        while time.monotonic() < deadline:
            if not self.running:
                return "ended at its start"
            try:
                # While it reads saved data from disk, PING is answered with an error.
                if self.command("PING", timeout_s=1) == "PONG" and self._answers_itself():
                    return ""
            except (OSError, CommandError) as error:
                problem = f"did not answer properly ({error})"
            time.sleep(POLL_S)
        return f"{problem} within {START_TIMEOUT_S:.0f} s"

    def _answers_itself(self) -> bool:
        return f"process_id:{self._pid}" in str(self.command("INFO", "server", timeout_s=1)).splitlines()

    def _end_guardian(self) -> None:
        if self._guardian is not None:
            if self._guardian.stdin is not None:
                self._guardian.stdin.close()
            self._guardian.wait(STOP_TIMEOUT_S)
            self._guardian = None

    def fork_locks(self) -> Iterable[forks.Lock]:
        """See `forks.ForkOwner`: it has none."""
        return ()

    def after_fork_in_child(self) -> None:
        """Let go of the guardian's pipe, so that the server ends with the parent and not with this process."""
        if self._guardian is not None:
            if self._guardian.stdin is not None:
                self._guardian.stdin.close()
            self._guardian.returncode = 0  # not our child: nothing to wait for, nothing to warn about


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
