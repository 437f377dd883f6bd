"""The database of this run, by `INVALIDATOR_TEST_DATABASE`: started by `start()`, gone with the process."""

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
        ValueError: the variable names none that we know.
    """
    name = os.environ.get(VARIABLE) or "sqlite"
    if name not in CHOICES:
        raise ValueError(f"{VARIABLE}={name!r} is not one of {', '.join(CHOICES)}")
    return name


def databases(*aliases: str) -> dict[str, dict[str, Any]]:
    """Django's `DATABASES` for *aliases*, on the chosen server."""
    server = _server(chosen())
    return {alias: server.django_settings(f"invalidator_{alias}") for alias in aliases}


@functools.cache  # whoever asks first
def start() -> None:
    """
    Start the chosen server, for as long as this process lives. (Under xdist one process only collects, and needs none.)

    Raises:
        DatabaseServerError: it cannot be found or started.
    """
    atexit.register(_server(chosen()).start().stop)


@functools.cache
def _server(name: str) -> DatabaseServer:
    return DATABASES[name]()
