"""
The link to a real Redis or Valkey server. The only importer of redis.

redis-py connects, authenticates, encrypts and parses (with hiredis). It never reconnects or retries on its own here: a
subscription that is reconnected silently has missed messages, and nobody knows.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import socket
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.connection import DefaultParser
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from ..config import CONNECTIONS
from ..errors import InvalidSetting, LinkDown
from ..names import RedisNames
from ..protocol.frames import Command, Failure, Frame, Push, Reply
from .address import Address, parse_address
from .base import PUBLISH_SCRIPT, Accepted, Post
from .connections import Connections

_SCRIPT_SHA = hashlib.sha1(PUBLISH_SCRIPT.encode(), usedforsecurity=False).hexdigest()

FRAMES_AT_ONCE = 1000
"""Frames that are read before the listener acts on them and looks at the time again."""


class _Parser(DefaultParser):  # type: ignore[misc, valid-type]
    """Recognizes pushes, and does not format each message for a debug log."""

    def handle_pubsub_push_response(self, response: list[Any]) -> Push:
        kind, channel, payload = (*response, None, None)[:3]
        return Push(kind, channel or b"", payload)

    def has_more(self) -> bool:
        """Whether the buffer holds more to parse. Makes no system call, unlike redis-py's `can_read`."""
        reader: Any = self._reader
        return reader is not None and bool(reader.has_data())


class RedisConnection:
    """A subscription's connection."""

    def __init__(self, connection: Any) -> None:  # redis-py does not type its connections
        self._connection = connection
        try:
            connection.connect()
        except (redis.RedisError, OSError) as error:
            raise LinkDown(_describe(error)) from error

    def send(self, commands: Sequence[Command]) -> None:
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
        except (redis.RedisError, OSError) as error:
            raise LinkDown(_describe(error)) from error

    def receive(self, timeout_s: float) -> list[Frame]:
        try:
            try:
                frames = [self._read_frame(timeout=timeout_s)]
            except redis.TimeoutError:
                return []
            while len(frames) < FRAMES_AT_ONCE and self._connection._parser.has_more():  # noqa: SLF001
                frames.append(self._read_frame())
        except (redis.RedisError, OSError) as error:
            raise LinkDown(_describe(error)) from error
        return frames

    def interrupt(self) -> None:
        # redis-py has no public access to the socket, and its disconnect() closes it under a thread that reads.
        connected: Any = self._connection._sock  # noqa: SLF001
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.disconnect()  # redis-py shuts the socket down only in the process that opened it

    def _read_frame(self, **timeout: float) -> Frame:
        try:
            answer = self._connection.read_response(
                disable_decoding=True, push_request=True, disconnect_on_error=False, **timeout
            )
        except redis.ResponseError as error:
            return Failure(str(error))
        return answer if isinstance(answer, Push) else Reply(answer)


class RedisLink:
    """
    The way to one server.

    Args:
        url: see `address.py`.
        timeout_s: for connecting, for each answer to a publish, and for a connection on which to publish.
        connections: how many threads may publish at once.
    """

    def __init__(self, url: str, *, timeout_s: float, connections: int = CONNECTIONS.default) -> None:
        self.address = parse_address(url)
        self._connection_class, self._connection_options = _how_to_connect(self.address, timeout_s)
        try:
            self._make_connection()  # TLS options that redis-py cannot use show here
        except (ValueError, TypeError, OSError, redis.RedisError) as error:
            raise InvalidSetting(f"url cannot work: {error}") from error
        self._most = connections
        self._connections = Connections(self._make_connection, most=connections, wait_s=timeout_s)
        self._sends_text = False
        """Whether the script is sent as text each time, because the server refuses to run it by its hash."""

    def connect(self) -> RedisConnection:
        return RedisConnection(self._make_connection())

    def publish(self, names: RedisNames, journal_length: int, post: Post) -> Accepted:
        rest = _pack(_changing_arguments(post))
        try:
            id, listeners = self._run_script(names, journal_length, rest)
        except (redis.RedisError, OSError) as error:
            raise LinkDown(_describe(error)) from error
        return Accepted(id.decode(), listeners)

    def _run_script(self, names: RedisNames, journal_length: int, rest: Packed) -> Any:
        was_refused = False
        if not self._sends_text:
            try:
                return self._ask(_packed_head("EVALSHA", names, journal_length), rest)
            except redis.ResponseError as error:
                was_refused = _is_refused_command(error)  # this user may send EVAL alone, or EVALSHA was renamed
                # Else a new server, a failover, SCRIPT FLUSH: EVAL also loads the script.
                if not (was_refused or isinstance(error, redis.exceptions.NoScriptError)):
                    raise
        answer = self._ask(_packed_head("EVAL", names, journal_length), rest)
        self._sends_text = self._sends_text or was_refused
        return answer

    def _ask(self, head: Packed, rest: Packed) -> Any:
        """
        Send a command and return its answer.

        This is redis-py's `execute_command` without half of the work that it does before it sends. A connection that
        the server closed while it was idle fails only when it is used. Then another one is tried, so the command may be
        carried out twice.
        """
        command = b"*%d\r\n%b%b" % (head.values + rest.values, head.data, rest.data)
        while True:
            lent = self._connections.lend()
            if lent is None:
                raise LinkDown(f"all {self._most} connections are in use (see the option publish_connections)")
            was_idle = lent.used_at > 0
            try:
                lent.connection.send_packed_command([command], check_health=False)
                answer = lent.connection.read_response(disable_decoding=True)
            except redis.ResponseError as error:
                if _is_for_another_server(error):
                    # A primary that was demoted: the name may lead to another one by now.
                    self._connections.drop(lent)
                    self._connections.close()
                else:
                    self._connections.give_back(lent)
                raise
            except BaseException as error:
                self._connections.drop(lent, and_as_old=was_idle and isinstance(error, redis.RedisError))
                if was_idle and isinstance(error, redis.ConnectionError):
                    continue
                raise
            self._connections.give_back(lent)
            return answer

    def read_journal(self, names: RedisNames, before: str, count: int) -> list[tuple[str, bytes]]:
        newest = f"({before}" if before else "+"
        command = ("XREVRANGE", names.journal, newest, "-", "COUNT", str(count))
        try:
            found = self._ask(_pack([word.encode() for word in command]), _pack([]))
        except (redis.RedisError, OSError) as error:
            raise LinkDown(_describe(error)) from error
        return [(id.decode(), dict(zip(pairs[::2], pairs[1::2], strict=True)).get(b"m", b"")) for id, pairs in found]

    def open_journal(self, names: RedisNames, journal_length: int) -> Command:
        return ("EVAL", PUBLISH_SCRIPT, *_fixed_arguments(names, journal_length), *_changing_arguments(Post(())))

    def after_fork(self) -> None:
        self._connections.forget()

    def close(self) -> None:
        self._connections.close()

    def _make_connection(self) -> Any:
        """Make a connection, which connects when it is first used."""
        return self._connection_class(**self._connection_options)


def _how_to_connect(address: Address, timeout_s: float) -> tuple[Any, dict[str, Any]]:
    """The class of redis-py's connections to *address*, and their options."""
    options: dict[str, Any] = {
        "db": address.database,
        "username": address.username,
        "password": address.password,
        "protocol": 3,
        "parser_class": _Parser,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **address.options,
    }
    if address.path:
        return redis.UnixDomainSocketConnection, {**options, "path": address.path}
    kind = redis.SSLConnection if address.scheme == "rediss" else redis.Connection
    keepalive = {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    return kind, {**options, **keepalive, "host": address.host, "port": address.port}


_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
"""Seconds of silence, seconds between questions, questions: a peer that is gone shows within a minute."""

_ANOTHER_SERVER: tuple[type[redis.RedisError], ...] = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.AskError,  # and with it MovedError
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)
_ANOTHER_SERVER_SAYS = re.compile(r"\b(?:READONLY|MASTERDOWN|CLUSTERDOWN|NOREPLICAS)\b")
"""The same in the text of an error that a script ends with; how it begins differs between versions."""


def _is_for_another_server(error: redis.RedisError) -> bool:
    """Whether this server takes no writes now. Another one may have taken its place under the same name."""
    return isinstance(error, _ANOTHER_SERVER) or _ANOTHER_SERVER_SAYS.search(str(error)) is not None


def _is_refused_command(error: redis.ResponseError) -> bool:
    return isinstance(error, redis.exceptions.NoPermissionError) or "unknown command" in str(error).lower()


def _fixed_arguments(names: RedisNames, journal_length: int) -> list[str]:
    """Return the first arguments of the script, which are the same in each call."""
    return ["3", names.journal, names.epoch, names.holds, names.channel, str(journal_length)]


def _changing_arguments(post: Post) -> list[bytes]:
    token = secrets.token_hex(8).encode()
    return [token, b"%d" % post.hold_ms, b"%d" % len(post.ended), *post.ended, *post.bodies]


class Packed(NamedTuple):
    """Some values of a command, encoded as they are sent."""

    values: int
    data: bytes


def _pack(values: Sequence[bytes]) -> Packed:
    return Packed(len(values), b"".join([b"$%d\r\n%b\r\n" % (len(value), value) for value in values]))


@lru_cache(maxsize=64)
def _packed_head(command: Literal["EVALSHA", "EVAL"], names: RedisNames, journal_length: int) -> Packed:
    script = _SCRIPT_SHA if command == "EVALSHA" else PUBLISH_SCRIPT
    return _pack([value.encode() for value in (command, script, *_fixed_arguments(names, journal_length))])


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
