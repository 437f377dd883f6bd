"""The database of this run, named by `INVALIDATOR_TEST_DATABASE`. `start()` starts it; it ends with the process."""

from __future__ import annotations

import atexit
import functools
import os
from typing import Any

from tests.databases.servers import DATABASES, DatabaseServer

VARIABLE = "INVALIDATOR_TEST_DATABASE"
CHOICES = tuple(DATABASES)


def chosen() -> str:
    """
    The name of the database that this run is on.

    Raises:
        ValueError: the variable names an unknown database.
    """
    name = os.environ.get(VARIABLE) or "sqlite"
    if name not in CHOICES:
        raise ValueError(f"{VARIABLE}={name!r} is not one of {', '.join(CHOICES)}")
    return name


def databases(*aliases: str) -> dict[str, dict[str, Any]]:
    """Django's `DATABASES` for *aliases*, on the chosen server."""
    server = _server(chosen())
    return {alias: server.django_settings(f"invalidator_{alias}") for alias in aliases}


@functools.cache  # once for each process
def start() -> None:
    """
    Start the chosen server, for as long as this process lives. (The process of xdist that runs no tests needs none.)

    Raises:
        DatabaseServerError: it cannot be found or started.
    """
    atexit.register(_server(chosen()).start().stop)


@functools.cache
def _server(name: str) -> DatabaseServer:
    return DATABASES[name]()
