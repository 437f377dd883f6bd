"""
Real database servers for tests. Each has a directory of its own, with its Unix socket; both are gone afterwards.

Rule 1: a server that is missing is an error that names Debian's package; never a skip.
Rule 2: tests neither use nor end a server that they did not start. There is no port that it could share with another,
and its socket is in a directory with a random name.
Rule 3: a server ends with the process that started it, however that process ends, and its directory is removed
(`guardian.py`).
Rule 4: nothing waits for the disk: the data need not survive a crash of the machine.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import psycopg
import pymysql

try:
    from MySQLdb import connect as connect_to_mariadb
except ImportError:  # it has to be compiled: PyMySQL takes its place, for Django, too
    pymysql.install_as_MySQLdb()
    from pymysql import connect as connect_to_mariadb

GUARDIAN = Path(__file__).with_name("guardian.py")
START_TIMEOUT_S = 60.0  # takes one or two; a loaded machine takes long
STOP_TIMEOUT_S = 30.0
POLL_S = 0.01
LOCK_TIMEOUT_S = 20  # Django's 5 are too few for a loaded machine

UNPRIVILEGED = "nobody"
"""The user that runs the server where the tests run as root: PostgreSQL refuses root, MariaDB needs an option."""

DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")


class DatabaseServerError(Exception):
    """The server could not be found or started. The message names the package to install, or ends with the log."""


class DatabaseServer(ABC):
    """One server, as a context manager or by `start()` and `stop()`. After a fork it belongs to the parent."""

    name: ClassVar[str]
    package: ClassVar[str]
    end: ClassVar[signal.Signals]
    """Upon this signal the server ends at once and leaves no shared memory."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self.directory = Path(tempfile.gettempdir()) / f"invalidator-{self.name}-{secrets.token_hex(4)}"
        """Of its data and its socket. `start()` makes it."""
        self._guardian: subprocess.Popen[bytes] | None = None
        _servers.add(self)

    @classmethod
    @abstractmethod
    def found(cls) -> Path:
        """
        Return the server's binary.

        Raises:
            DatabaseServerError: it is not there; the message names the package.
        """

    @abstractmethod
    def django_settings(self, name: str) -> dict[str, Any]:
        """The entry in `DATABASES` for a database *name* on this server."""

    @abstractmethod
    def _commands(self, directory: Path) -> tuple[list[list[str]], list[str]]:
        """The commands that prepare the data, and the command that serves it."""

    @abstractmethod
    def _connect(self) -> None:
        """Connect once, or raise."""

    # ------------------------------------------------------------------------------------------------ life

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the server runs. (Its guardian does, which ends with it.)"""
        return self._guardian is not None and self._guardian.poll() is None

    def start(self) -> Self:
        """
        Start the server and return once it answers.

        Raises:
            DatabaseServerError: it is missing, ended, or did not answer in time.
        """
        self.found()
        user = pwd.getpwnam(UNPRIVILEGED) if os.getuid() == 0 else None
        self.directory.mkdir(mode=0o700)
        if user:
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        prepare, serve = self._commands(self.directory)
        what = {
            "directory": str(self.directory),
            "user": user and user.pw_uid,
            "group": user and user.pw_gid,
            "prepare": prepare,
            "serve": serve,
            "end": self.end,
        }
        with (self.directory / "server.log").open("wb") as log:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", GUARDIAN, json.dumps(what)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(self.directory),
                start_new_session=True,  # Ctrl-C is for the owner, which stops the server when it no longer needs it
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and remove its directory. Does nothing in a process that did not start it."""
        if os.getpid() != self._owner or self._guardian is None:
            return
        if self._guardian.stdin is not None:
            self._guardian.stdin.close()
        self._guardian.wait(STOP_TIMEOUT_S)
        self._guardian = None
        shutil.rmtree(self.directory, ignore_errors=True)  # the server may have ended by itself

    def _wait_until_ready(self) -> None:
        assert self._guardian is not None
        assert self._guardian.stdout is not None
        with self._guardian.stdout as output:
            if output.readline() != b"serving\n":
                self._guardian.wait(STOP_TIMEOUT_S)
                raise DatabaseServerError(f"{self.name} could not prepare its data. Its log:\n{self.log}")
        pause, problem = threading.Event(), "nothing"
        for _ in range(int(START_TIMEOUT_S / POLL_S)):
            if not self.running:
                raise DatabaseServerError(f"{self.name} ended at its start. Its log:\n{self.log}")
            try:
                self._connect()
            except Exception as error:  # noqa: BLE001 - each driver has its own
                problem = str(error)
                pause.wait(POLL_S)
            else:
                return
        raise DatabaseServerError(f"{self.name} cannot be reached ({problem}). Its log:\n{self.log}")

    @property
    def log(self) -> str:
        """The server's log."""
        return (self.directory / "server.log").read_text(errors="backslashreplace")

    def _disown(self) -> None:
        """In a forked child: close the pipe, so that the server ends when the parent does, whatever the child does."""
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.close()
            self._guardian.returncode = 0  # not our child: nothing to wait for, nothing to warn about
            self._guardian = None


_servers: weakref.WeakSet[DatabaseServer] = weakref.WeakSet()


def _disown_all() -> None:
    for server in list(_servers):
        server._disown()


os.register_at_fork(after_in_child=_disown_all)


def _environment(directory: Path) -> dict[str, str]:
    """The environment without variables that point to other servers, with a home that the server's user may enter."""
    others = ("PG", "MYSQL_", "MARIADB_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return {**kept, "HOME": str(directory), "TMPDIR": str(directory), "LC_ALL": "C"}


def _on_path(*commands: str) -> Path | None:
    """The first of *commands* on PATH or in directories of servers that PATH often lacks."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/usr/libexec"])
    for command in commands:
        if found := shutil.which(command, path=path):
            return Path(found).resolve()
    return None


class PostgreSQL(DatabaseServer):
    """PostgreSQL: the one on PATH, or else Debian's newest."""

    name = "postgresql"
    package = "postgresql"
    end = signal.SIGQUIT  # "immediate": a SIGKILL would leave its System V segment

    @classmethod
    def found(cls) -> Path:
        newest_first = sorted(DEBIAN_POSTGRESQL.glob("*/bin/postgres"), key=lambda path: -float(path.parts[-3]))
        for binary in (_on_path("postgres"), *newest_first):
            if binary and binary.with_name("initdb").exists():
                return binary
        raise DatabaseServerError(
            "No PostgreSQL server was found (postgres and initdb on PATH or in /usr/lib/postgresql/*/bin): "
            f"install Debian's package {cls.package}"
        )

    def _commands(self, directory: Path) -> tuple[list[list[str]], list[str]]:
        postgres, data = self.found(), str(directory / "data")
        own = ["--auth=trust", "--username=invalidator", "--encoding=UTF8", "--locale=C"]
        initdb = [str(postgres.with_name("initdb")), f"--pgdata={data}", *own, "--no-sync", "--no-instructions"]
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": directory,
            "dynamic_shared_memory_type": "mmap",
            "shared_buffers": "32MB",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "autovacuum": "off",
            "jit": "off",
        }
        return [initdb], [str(postgres), "-D", data, *(f"--{name}={value}" for name, value in settings.items())]

    def django_settings(self, name: str) -> dict[str, Any]:
        return {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": str(self.directory),
            "PORT": "5432",  # of the socket's name
            "USER": "invalidator",
            "NAME": name,
        }

    def _connect(self) -> None:
        psycopg.connect(host=str(self.directory), port=5432, user="invalidator", dbname="postgres").close()


class MariaDB(DatabaseServer):
    """MariaDB, reached by mysqlclient or, where that is not installed, by PyMySQL in its place."""

    name = "mariadb"
    package = "mariadb-server"
    end = signal.SIGKILL  # it has nothing outside its directory

    @classmethod
    def found(cls) -> Path:
        binary = _on_path("mariadbd")
        if binary and _on_path("mariadb-install-db") and _on_path("my_print_defaults"):
            return binary
        raise DatabaseServerError(
            "No MariaDB server was found (mariadbd, mariadb-install-db and my_print_defaults on PATH): "
            f"install Debian's package {cls.package}, or mariadb-server-core and mariadb-client-core"
        )

    def _commands(self, directory: Path) -> tuple[list[list[str]], list[str]]:
        install, data = _on_path("mariadb-install-db"), f"--datadir={directory / 'data'}"
        small = ["--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0"]
        prepare = [str(install), "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db"]
        serve = [
            str(self.found()),
            "--no-defaults",
            data,
            f"--socket={self._socket(directory)}",
            f"--pid-file={directory / 'server.pid'}",
            f"--tmpdir={directory}",
            "--skip-networking",
            "--character-set-server=utf8mb4",
            "--innodb-flush-method=nosync",
            "--performance-schema=off",
        ]
        return [[*prepare, *small]], [*serve, *small]

    def django_settings(self, name: str) -> dict[str, Any]:
        return {
            "ENGINE": "django.db.backends.mysql",
            "HOST": str(self._socket(self.directory)),
            "USER": "root",
            "NAME": name,
            "OPTIONS": {"charset": "utf8mb4"},
            "TEST": {"CHARSET": "utf8mb4"},
        }

    def _connect(self) -> None:
        with socket.socket(socket.AF_UNIX) as probe:  # PyMySQL leaves one open that cannot connect
            probe.connect(str(self._socket(self.directory)))
        connect_to_mariadb(unix_socket=str(self._socket(self.directory)), user="root").close()

    @staticmethod
    def _socket(directory: Path) -> Path:
        return directory / "server.sock"


class SQLite(DatabaseServer):
    """
    No server, but a directory that is removed when its owner ends.

    Databases are files, so that each thread has a connection of its own and sees what the others have committed, and
    nothing else. They are in WAL mode, so that readers do not wait for a writer.
    """

    name = "sqlite"
    end = signal.SIGKILL

    @classmethod
    def found(cls) -> Path:
        return Path(sys.executable)  # it is built in

    def _commands(self, directory: Path) -> tuple[list[list[str]], list[str]]:
        return [], ["tail", "-f", str(directory / "server.log")]  # until its guardian ends it

    def django_settings(self, name: str) -> dict[str, Any]:
        path = str(self.directory / f"{name}.sqlite3")
        pragmas = "PRAGMA journal_mode = wal; PRAGMA synchronous = off;"
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": path,
            "OPTIONS": {"timeout": LOCK_TIMEOUT_S, "init_command": pragmas},
            "TEST": {"NAME": path},
        }

    def _connect(self) -> None:
        pass


SERVERS: dict[str, type[DatabaseServer]] = {server.name: server for server in (PostgreSQL, MariaDB)}
DATABASES: dict[str, type[DatabaseServer]] = {SQLite.name: SQLite, **SERVERS}
