"""
The link to a real Redis or Valkey server. The only importer of redis.

redis-py connects, authenticates, encrypts and parses (with hiredis). It never reconnects or retries on its own here: a
subscription that is reconnected silently has missed messages, and nobody knows.
"""

from __future__ import annotations

import contextlib
import hashlib
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

from ..errors import InvalidSetting, LinkDown
from ..names import RedisNames
from ..protocol.frames import Command, Failure, Frame, Push, Reply
from .base import PUBLISH_SCRIPT, Accepted, Post

_SCRIPT_SHA = hashlib.sha1(PUBLISH_SCRIPT.encode(), usedforsecurity=False).hexdigest()

FRAMES_AT_ONCE = 1000
"""Frames that are read before the listener acts on them and looks at the time again."""
MAX_CONNECTIONS = 64
"""
Of publishing threads, at once. To a thread that finds none free the link is down, and its message waits in the queue.
"""


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
        url: as redis-py's `from_url` takes it, options in the query included.
        timeout_s: for connecting, and for each answer to a publish.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        options: dict[str, Any] = {
            "protocol": 3,
            "parser_class": _Parser,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            "max_connections": MAX_CONNECTIONS,
        }
        try:
            self._pool = redis.ConnectionPool.from_url(url, **options)
            self._make_connection()  # options that redis-py does not know show here
        except (ValueError, TypeError, redis.RedisError) as error:
            raise InvalidSetting(f"url cannot work: {error}") from error
        self._idle: list[Any] = []  # connections of the pool, for publishing

    def connect(self) -> RedisConnection:
        return RedisConnection(self._make_connection())

    def publish(self, names: RedisNames, journal_length: int, post: Post) -> Accepted:
        rest = _pack(_changing_arguments(post))
        try:
            try:
                id, listeners = self._ask(_packed_head("EVALSHA", names, journal_length), rest)
            except redis.exceptions.NoScriptError:  # a new server, a failover, SCRIPT FLUSH: EVAL also loads it
                id, listeners = self._ask(_packed_head("EVAL", names, journal_length), rest)
        except (redis.RedisError, OSError) as error:
            raise LinkDown(_describe(error)) from error
        return Accepted(id.decode(), listeners)

    def _ask(self, head: Packed, rest: Packed) -> Any:
        """
        Send a command and return its answer.

        This is redis-py's `execute_command` without half of the work that it does before it sends. A connection that
        the server closed while it was idle fails only when it is used. Then another one is tried, so the command may be
        carried out twice.
        """
        command = b"*%d\r\n%b%b" % (head.values + rest.values, head.data, rest.data)
        while True:
            try:
                connection, was_idle = self._idle.pop(), True
            except IndexError:
                connection, was_idle = self._pool.get_connection(), False
            try:
                connection.send_packed_command([command], check_health=False)
                answer = connection.read_response(disable_decoding=True)
            except redis.ResponseError:  # an answer, too
                self._idle.append(connection)
                raise
            except BaseException as error:
                connection.disconnect()
                self._pool.release(connection)
                if was_idle and isinstance(error, redis.ConnectionError):
                    continue
                raise
            self._idle.append(connection)
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
        self._idle = []
        self._pool.reset()

    def close(self) -> None:
        self._pool.disconnect()

    def _make_connection(self) -> Any:
        """Make a connection that the pool does not count, since it is never returned to the pool."""
        return self._pool.connection_class(**self._pool.connection_kwargs)


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
