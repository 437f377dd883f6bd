"""
`embedded://`: for development, a server that the processes of one project share, and that nobody has to start or stop.

The first process starts it, on a Unix socket in a directory that belongs to this user alone. Other processes (workers,
a shell, a development server after a reload) join, and the server stops when the last one has ended. Processes of one
user share a server if they use the same name: that of the URL (`embedded://name`), or else the namespace.

Locks show which processes are there, since the kernel frees a lock when its process ends, however it ends. The
directory contains

    start.lock    held by a process while it checks whether there is a server, and starts it if there is none
    members.lock  shared by every process that uses the server
    keeper.lock   held by the server's keeper as long as the server lives

Rule 1: the server is the child of its keeper, a small process that does nothing else. The keeper waits for an exclusive
lock on `members.lock`, which it gets when no member is left, and then stops the server. So whichever process ends, even
by `kill -9`, no server is left behind, and none is taken from the others.
Rule 2: if the server or its keeper has died, the next process that connects or publishes starts the server anew. To the
others that looks like a restart of Redis, which the protocol handles. (On Linux the kernel ends the server with its
keeper; elsewhere the next start does.)
Rule 3: a process that has got a lock checks that its file is still the one of that name: the keeper removes the
directory at the end, with the locks in it.
Rule 4: a forked child becomes a member of its own with its first use. It closes the descriptors that it inherited, and
unlocks nothing, since a lock belongs to all copies of a descriptor.
Rule 5: if the directory does not belong to this user alone, nothing is done. No symbolic link is followed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ..config import CONNECTIONS
from ..errors import InvalidSetting, LinkDown
from ..names import RedisNames, check_namespace
from ..protocol.frames import Command
from .base import Accepted, Post
from .local_server import (
    UNIX_SOCKET_PATH_MAX,
    CommandError,
    EmbeddedServerError,
    ask,
    configuration,
    find_server_binary,
)
from .redis import RedisConnection, RedisLink

START_TIMEOUT_S = 20.0
"""It takes 100 ms, and much longer on a loaded machine."""
POLL_S = 0.005

# Arguments: the directory; seconds for the start; the server's command line. Its output is the server's log.
_KEEPER = """
import ctypes, fcntl, os, shutil, socket, subprocess, sys, threading, time

directory, patience_s, *command = sys.argv[1:]
reading, writing = os.pipe()
if os.fork():  # the process that starts the keeper waits for this half alone
    os.close(writing)
    os._exit(0 if os.read(reading, 1) else 1)
os.setsid()
os.chdir("/")
os.close(reading)
libc = ctypes.CDLL(None) if sys.platform == "linux" else None
keeper = os.getpid()

def end_with_the_keeper():
    if libc is not None:
        libc.prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
        if os.getppid() != keeper:
            os._exit(1)

def lock(name, how):
    descriptor = os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, how)
    return descriptor

lock("keeper.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=end_with_the_keeper)
is_alone = threading.Event()
members = os.open(os.path.join(directory, "members.lock"), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

def watch():
    fcntl.flock(members, fcntl.LOCK_EX)
    is_alone.set()
    server.kill()

threading.Thread(target=watch, daemon=True).start()
deadline = time.monotonic() + float(patience_s)
while server.poll() is None and time.monotonic() < deadline:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(os.path.join(directory, "server.sock"))
    except OSError:
        time.sleep(0.005)
    else:
        os.write(writing, b"1")
        break
else:
    server.kill()
os.close(writing)
server.wait()
if is_alone.is_set():
    try:
        is_ours = os.path.samestat(os.lstat(os.path.join(directory, "members.lock")), os.fstat(members))
    except OSError:
        is_ours = False
    if is_ours:
        # In one step: a process that comes meanwhile must not find half of it, nor lose its new files.
        ended = directory + ".ended"
        shutil.rmtree(ended, ignore_errors=True)
        os.rename(directory, ended)
        shutil.rmtree(ended, ignore_errors=True)
os._exit(0)
"""


def directory_of(name: str) -> Path:
    """
    Return the directory of the server called *name*.

    Raises:
        EmbeddedServerError: the path would be too long for a socket.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and _is_own_directory(Path(runtime)):
        base = Path(runtime) / "invalidator"
    else:
        base = Path(tempfile.gettempdir()) / f"invalidator-{os.geteuid()}"
    digest = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
    found = base / f"{name[:20].strip('.:')}-{digest}"
    if len(os.fsencode(found / "server.sock")) > UNIX_SOCKET_PATH_MAX:
        raise EmbeddedServerError(
            f"{found}/server.sock is too long for a Unix socket: set XDG_RUNTIME_DIR or TMPDIR to a shorter path"
        )
    return found


class SharedServer:
    """This process' membership in the server called *name*. Any thread may call `join`, at any time."""

    def __init__(self, name: str, binary: Path) -> None:
        self.directory = directory_of(name)
        self._binary = binary
        self._lock = threading.Lock()
        self._members: int | None = None
        self._open: set[int] = set()

    @property
    def url(self) -> str:
        """Where the server listens, while there is one."""
        return f"unix://{self._socket}?db=0"

    @property
    def _socket(self) -> Path:
        return self.directory / "server.sock"

    def join(self) -> None:
        """
        Become a member, start the server if there is none, and wait until it answers.

        Raises:
            EmbeddedServerError: it cannot be started, or the directory is not ours; the message ends with its log.
            OSError: a file cannot be made.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        with self._lock:
            while not self._try_to_join(deadline):
                time.sleep(POLL_S)

    def leave(self) -> None:
        """Stop being a member. When the last one leaves, the server stops."""
        with self._lock:
            if self._members is not None:
                self._unlock(self._members)
                self._members = None

    def after_fork(self) -> None:
        """In a child, stop being a member. The parent stays one."""
        self._lock = threading.Lock()
        self._members = None
        while self._open:
            os.close(self._open.pop())

    def _try_to_join(self, deadline: float) -> bool:
        """Return whether it worked. It does not while the keeper of an earlier server removes its directory."""
        try:
            _make_private(self.directory.parent)
            _make_private(self.directory)
            with self._locked("start.lock", fcntl.LOCK_EX, deadline) as start:
                self._become_member(deadline)
                # With both locks current, the directory stays: a keeper removes nothing while there is a member.
                if self._members is None or not self._is_current(start, "start.lock"):
                    return False
                if not self._is_kept():
                    self._start(deadline)
        except FileNotFoundError:
            if time.monotonic() > deadline:
                raise
            return False
        return True

    def _become_member(self, deadline: float) -> None:
        if self._members is not None:
            if self._is_current(self._members, "members.lock"):
                return
            self._unlock(self._members)
            self._members = None
        # This waits while the keeper of a server that is about to end has the lock for itself.
        members = self._acquire("members.lock", fcntl.LOCK_SH, deadline)
        if self._is_current(members, "members.lock"):
            self._members = members
        else:
            self._unlock(members)

    def _is_kept(self) -> bool:
        """Whether a keeper lives, and with it a server."""
        keeper = self._open_file("keeper.lock")
        try:
            fcntl.flock(keeper, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            self._unlock(keeper)
        return False

    def _start(self, deadline: float) -> None:
        self._end_orphan()
        data = self.directory / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        configured, log = self.directory / "server.conf", self.directory / "server.log"
        settings: dict[str, str | int | Path] = {"port": 0, "unixsocket": self._socket, "unixsocketperm": 700}
        settings |= {"daemonize": "no", "dir": data, "save": "", "appendonly": "no"}
        configured.write_text(configuration(settings))
        patience_s = max(1.0, deadline - time.monotonic())
        arguments = map(str, (self.directory, patience_s, self._binary, configured))
        keeper = [sys.executable, "-I", "-S", "-c", _KEEPER, *arguments]
        with log.open("wb") as output:
            try:
                done = subprocess.run(
                    keeper, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=2 * patience_s, check=False
                )
            except subprocess.TimeoutExpired:
                raise EmbeddedServerError(f"{sys.executable} did not start {self._binary} in time") from None
        if done.returncode:
            text = log.read_text(errors="backslashreplace")
            raise EmbeddedServerError(f"{self._binary} could not be started. Its log:\n{text}")

    def _end_orphan(self) -> None:
        """Stop a server whose keeper has died, since it would never end."""
        with contextlib.suppress(OSError, CommandError):
            ask(str(self._socket), "SHUTDOWN", "NOSAVE", timeout_s=1)

    @contextlib.contextmanager
    def _locked(self, name: str, how: int, deadline: float) -> Iterator[int]:
        """Hold a lock, and yield its descriptor."""
        descriptor = self._acquire(name, how, deadline)
        try:
            yield descriptor
        finally:
            self._unlock(descriptor)

    def _acquire(self, name: str, how: int, deadline: float) -> int:
        descriptor = self._open_file(name)
        while True:
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    self._unlock(descriptor)
                    raise EmbeddedServerError(f"{self.directory / name} is locked by another process") from None
                time.sleep(POLL_S)
            else:
                return descriptor

    def _open_file(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.directory / name, flags, 0o600)
        self._open.add(descriptor)
        return descriptor

    def _unlock(self, descriptor: int) -> None:
        # Closing is not enough: a child that is being forked right now has a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        self._open.discard(descriptor)
        os.close(descriptor)

    def _is_current(self, descriptor: int, name: str) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.lstat(self.directory / name))
        except FileNotFoundError:
            return False


class EmbeddedLink:
    """
    The way to the server that the processes of a project share.

    Args:
        url: `embedded://`, or `embedded://name`.
        timeout_s, connections: as for `RedisLink`; the start of the server takes longer.
        namespace: the name of the server if the URL has none.

    Raises:
        InvalidSetting: the URL holds more than a name, the name is not valid as a namespace, or no server is
            installed.
    """

    def __init__(self, url: str, *, timeout_s: float, namespace: str, connections: int = CONNECTIONS.default) -> None:
        parts = urlsplit(url)
        if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise InvalidSetting("an embedded:// URL holds nothing but a name: embedded://, or embedded://shop")
        try:
            name = check_namespace(parts.netloc or namespace)
            self._server = SharedServer(name, find_server_binary())
        except EmbeddedServerError as error:
            raise InvalidSetting(f"embedded:// cannot work: {error}") from error
        self._inner = RedisLink(self._server.url, timeout_s=timeout_s, connections=connections)
        self._is_there = False

    def connect(self) -> RedisConnection:
        self._join()
        return self._inner.connect()

    def publish(self, names: RedisNames, journal_length: int, post: Post) -> Accepted:
        if not self._is_there:
            self._join()
        try:
            return self._inner.publish(names, journal_length, post)
        except LinkDown:
            self._is_there = False
            raise

    def read_journal(self, names: RedisNames, before: str, count: int) -> list[tuple[str, bytes]]:
        self._join()
        return self._inner.read_journal(names, before, count)

    def open_journal(self, names: RedisNames, journal_length: int) -> Command:
        return self._inner.open_journal(names, journal_length)

    def after_fork(self) -> None:
        self._is_there = False
        self._server.after_fork()
        self._inner.after_fork()

    def close(self) -> None:
        self._inner.close()
        self._is_there = False
        self._server.leave()

    def _join(self) -> None:
        try:
            self._server.join()
        except (EmbeddedServerError, OSError) as error:
            raise LinkDown(f"the embedded server: {error}") from error
        self._is_there = True


def _is_own_directory(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _make_private(path: Path) -> None:
    """Make the directory *path* if need be, and check that it is this user's alone. Raises EmbeddedServerError."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if not _is_own_directory(path) or path.lstat().st_mode & 0o077:
        raise EmbeddedServerError(
            f"{path} is there and not a directory of this user alone (mode 0700): remove it, or let XDG_RUNTIME_DIR "
            "name another place"
        )
