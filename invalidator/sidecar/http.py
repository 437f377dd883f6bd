"""
The state of the sidecar, over HTTP: `/livez`, `/readyz`, `/status`, `/metrics`.

The answers name the namespaces and the state of their subscriptions, but never a key, a tag or a password. The server
listens on loopback or on a Unix socket; another address has to be allowed explicitly.

Rule 1: no client can hold up the listener. There are few requests at once, each small and short, and each in a thread
that dies with the process.
Rule 2: a request is read completely, within a time and a size, before anything is done with it.
"""

from __future__ import annotations

import contextlib
import http.server
import io
import ipaddress
import json
import logging
import socket
import socketserver
import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from ..errors import InvalidatorError, InvalidSetting
from .daemon import Health, identity
from .metrics import exposition

log = logging.getLogger("invalidator.sidecar.http")

REQUESTS_AT_ONCE = 8
"""Two probes, a scraper and a person, twice. Further connections are closed at once."""
MAX_REQUEST_BYTES = 8 * 1024
"""What nginx and Apache take as a header line, too."""
REQUEST_TIMEOUT_S = 5.0
SOCKET_MODE = 0o660
MAX_SOCKET_PATH_BYTES = 100
"""Linux takes 107, macOS 103."""


class HttpError(InvalidatorError):
    """The sidecar cannot listen for HTTP there; the message says why."""


class Subject(Protocol):
    """What the answers are about. Called by several threads."""

    def is_alive(self) -> bool:
        """Whether every listener makes progress."""

    def why_not_ready(self) -> list[str]:
        """Return a line for each namespace without a lease."""

    def status(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""

    def health(self) -> Sequence[Health]:
        """Return the state of each namespace."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP address and a port; port 0 takes one that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


def parse_address(text: str, *, anywhere: bool = False) -> TcpAddress | UnixAddress | None:
    """
    Read `127.0.0.1:9187`, `[::1]:9187`, `localhost:9187`, `unix:/path` or `off`, which is None.

    Args:
        anywhere: allow addresses that other hosts reach.

    Raises:
        InvalidSetting: it is none of these, or other hosts reach it and *anywhere* is False.
    """
    if text == "off":
        return None
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:"))
        if not path.is_absolute() or len(bytes(path)) > MAX_SOCKET_PATH_BYTES:
            raise InvalidSetting(
                f"http must name an absolute path of at most {MAX_SOCKET_PATH_BYTES} bytes, not {text!r}"
            )
        return UnixAddress(path)
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InvalidSetting(f"http must be an IP address and a port, 'unix:/path' or 'off', not {text!r}")
    if not (address.is_loopback or anywhere):
        raise InvalidSetting(
            f"http would listen on {text}, which other hosts reach: take 127.0.0.1, or add --http-any if that is meant"
        )
    return TcpAddress(host, int(port))


class HttpServer:
    """
    Answers at *address*, from its construction until `close`.

    Args:
        address: where; see `parse_address`.
        subject: what the answers are about.

    Raises:
        HttpError: the address is taken, or this process may not listen there.
    """

    def __init__(self, address: TcpAddress | UnixAddress, subject: Subject) -> None:
        self.address = address
        self._identity: tuple[int, int] | None = None
        try:
            if isinstance(address, UnixAddress):
                _remove_dead_socket(address.path)
                self._server = _Server(socket.AF_UNIX, str(address.path), subject)
                address.path.chmod(SOCKET_MODE)
                self._identity = identity(address.path)
            else:
                family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
                self._server = _Server(family, (address.host, address.port), subject)
                self.address = TcpAddress(address.host, self._server.socket.getsockname()[1])
        except OSError as error:
            raise HttpError(f"cannot listen for HTTP on {address}: {error.strerror or error}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="invalidator-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and remove the socket. May be called again."""
        self._server.shutdown()
        self._server.server_close()
        if isinstance(self.address, UnixAddress) and self._identity == identity(self.address.path):
            with contextlib.suppress(OSError):
                self.address.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _remove_dead_socket(path: Path) -> None:
    """Remove the socket of a process that was killed. Raises HttpError if one listens there, or it is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise HttpError(f"cannot listen for HTTP on unix:{path}: it is there, and no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise HttpError(f"cannot listen for HTTP on unix:{path}: another process does")


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 32

    def __init__(self, family: socket.AddressFamily, address: Any, subject: Subject) -> None:
        self.address_family = family
        self.subject = subject
        self._free = threading.BoundedSemaphore(REQUESTS_AT_ONCE)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's method, which asks the name service for this host's name.
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # out of threads
                self._free.release()
                self.shutdown_request(request)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("request failed", exc_info=True)  # noqa: LOG014 - the base class calls this in its except block


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_TIMEOUT_S

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BytesIO(_read_head(self.connection))

    def do_GET(self) -> None:
        subject = self.server.subject
        match self.path.partition("?")[0]:
            case "/livez":
                alive = subject.is_alive()
                self._answer(200 if alive else 503, "alive" if alive else "a listener is stuck")
            case "/readyz":
                missing = subject.why_not_ready()
                self._answer(503 if missing else 200, "\n".join(missing) or "ready")
            case "/status":
                self._answer(200, json.dumps(subject.status(), indent=2), "application/json")
            case "/metrics":
                self._answer_metrics()
            case _:
                self._answer(404, "there are /livez, /readyz, /status and /metrics")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer_metrics(self) -> None:
        try:
            body, content_type = exposition(self.server.subject.health, self.headers.get("Accept", ""))
        except ImportError:
            self._answer(501, "install the extra: pip install 'invalidator[prometheus]'")
        else:
            self._answer(200, body, content_type)

    def _answer(self, code: int, body: str | bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        data = body if isinstance(body, bytes) else f"{body}\n".encode()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def version_string(self) -> str:
        return "invalidator"

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class' name
        """Log nothing: probes come every few seconds."""


def _read_head(connection: socket.socket) -> bytes:
    """Read a request up to its empty line. Raises OSError if it takes too long, is too large, or ends before."""
    deadline = time.monotonic() + REQUEST_TIMEOUT_S
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        if len(head) > MAX_REQUEST_BYTES:
            connection.sendall(f"HTTP/1.0 431 {HTTPStatus(431).phrase}\r\n\r\n".encode())
            raise ConnectionAbortedError("the request is too large")
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        received = connection.recv(4096)
        if not received:
            raise ConnectionResetError("the request ended before its empty line")
        head += received
        if time.monotonic() >= deadline:
            raise TimeoutError("the request took too long")
    connection.settimeout(REQUEST_TIMEOUT_S)
    return head
