"""
The database of this run, by `INVALIDATOR_TEST_DATABASE`: told to Django, started by `start()`, gone with the process.

All three are real: SQLite's is a file, too, so that each thread has a connection of its own and sees what the others
have committed, and nothing else. Files are in WAL mode, as a server's are by now: readers do not wait for a writer.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.databases.servers import SERVERS, DatabaseServer

VARIABLE = "INVALIDATOR_TEST_DATABASE"
CHOICES = ("sqlite", *SERVERS)
LOCK_TIMEOUT_S = 20  # Django's 5 are too few for a loaded machine


def chosen() -> str:
    """
    The name of the database that this run is on.

    Raises:
        ValueError: the variable names none that we know.
    """
    name = os.environ.get(VARIABLE) or "sqlite"
    if name not in CHOICES:
        raise ValueError(f"{VARIABLE}={name!r} is not one of {', '.join(CHOICES)}")
    return name


def databases(*aliases: str) -> dict[str, dict[str, Any]]:
    """Django's `DATABASES` for *aliases*, on the chosen server."""
    name = chosen()
    if name == "sqlite":
        return {alias: _sqlite(_directory() / f"{alias}.sqlite3") for alias in aliases}
    return {alias: _server(name).django_settings(f"invalidator_{alias}") for alias in aliases}


@functools.cache  # whoever asks first
def start() -> None:
    """
    Start the chosen server, for as long as this process lives. (Under xdist one process only collects, and needs none.)

    Raises:
        DatabaseServerError: it cannot be found or started.
    """
    if (name := chosen()) in SERVERS:
        atexit.register(_server(name).start().stop)


@functools.cache
def _server(name: str) -> DatabaseServer:
    return SERVERS[name]()


@functools.cache
def _directory() -> Path:
    directory, owner = tempfile.mkdtemp(prefix="invalidator-sqlite-"), os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(directory, ignore_errors=True))
    return Path(directory)


def _sqlite(path: Path) -> dict[str, Any]:
    pragmas = "PRAGMA journal_mode = wal; PRAGMA synchronous = off;"
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {"timeout": LOCK_TIMEOUT_S, "init_command": pragmas},
        "TEST": {"NAME": str(path)},
    }
