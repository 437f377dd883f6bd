"""
A server in this process, and the link to it: for tests, and for development in a single process.

`MemoryServer` answers the few commands that a subscription sends as Redis would, so everything above the link runs
unchanged on `memory://`. Links of the same name share one server. It is not visible to other processes, and ends with
its own.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from ..errors import LinkDown
from ..message import seal_envelope
from ..names import RedisNames
from ..protocol.frames import Command, Failure, Frame, Push, Reply
from .base import Accepted, Post

StreamId = tuple[int, int]
Deliver = Callable[[Frame | None], None]
"""Passes a frame to a client; None is the end of its connection."""

_EPOCH_BODY = b'{"v":1,"op":"epoch"}'


class MemoryServer:
    """
    As much of a Redis server as the protocol needs. Not thread-safe: `MemoryLink` holds a lock around it.

    Args:
        clock_ms: the server's own wall clock, for the ids of stream entries.
        token: draws the id of this run of the server, and the epochs.
    """

    def __init__(
        self,
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        token: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self.clock_ms = clock_ms
        self.token = token
        self.run_id = token()
        self.role = "master"
        self.streams: dict[str, list[tuple[StreamId, bytes, bytes]]] = {}
        self.last_ids: dict[str, StreamId] = {}
        self.strings: dict[str, str] = {}
        self.holds: dict[str, dict[bytes, int]] = {}
        self.subscribers: dict[str, list[Deliver]] = {}

    def execute(self, command: Command, client: Deliver) -> None:
        """Carry out one command of *client* and deliver its answer."""
        match command:
            case ("PING", token):
                self.deliver(client, Reply(str(token).encode()))
            case ("ROLE",):
                self.deliver(client, Reply([self.role.encode(), 0, []]))
            case ("INFO",):
                self.deliver(client, Reply(f"# Server\r\nrun_id:{self.run_id}\r\nrole:{self.role}\r\n".encode()))
            case ("SUBSCRIBE", str(channel)):
                self.subscribers.setdefault(channel, []).append(client)
                self.deliver(client, Push(b"subscribe", channel.encode(), 1))
            case ("GET", str(key)):
                self.deliver(client, Reply(self.strings[key].encode() if key in self.strings else None))
            case ("XREVRANGE", str(key), "+", "-", "COUNT", 1):
                self.deliver(client, Reply([_entry(*entry) for entry in self.streams.get(key, [])[-1:]]))
            case ("XRANGE", str(key), str(start), "+", "COUNT", int(count)):
                after = parse_id(start.removeprefix("("))
                found = [entry for entry in self.streams.get(key, []) if entry[0] > after]
                self.deliver(client, Reply([_entry(*entry) for entry in found[:count]]))
            case ("ZRANGE", str(key), 0, -1):
                self.deliver(client, Reply(list(self.holds.get(key, {}))))
            case ("OPEN", str(journal), str(epoch)):
                self.begin_journal(journal, epoch)
                self.deliver(client, Reply([]))
            case _:
                self.deliver(client, Failure(f"ERR unknown command {command[0]!r}"))

    def publish(self, names: RedisNames, journal_length: int, post: Post) -> Accepted:
        """Do what `PUBLISH_SCRIPT` does."""
        last = self.begin_journal(names.journal, names.epoch, keep_epoch=True)
        now = self.clock_ms()
        holds = {body: ends for body, ends in self.holds.get(names.holds, {}).items() if ends > now}
        for body in post.ended:
            holds.pop(body, None)
        if post.hold_ms:
            holds.update(dict.fromkeys(post.bodies, now + post.hold_ms))
        self.holds[names.holds] = holds
        reached = 0
        for body in post.bodies:
            previous, last = last, self._append(names.journal, last, body)
            stream = self.streams[names.journal]
            del stream[: max(0, len(stream) - journal_length)]
            listeners = self.subscribers.get(names.channel, [])
            message = Push(b"message", names.channel.encode(), seal_envelope(_id(last), _id(previous), body))
            self.spread(list(listeners), message)
            reached = len(listeners)
        return Accepted(_id(last), reached)

    def spread(self, clients: Sequence[Deliver], message: Push) -> None:
        """Deliver *message* to its subscribers. Tests override this and `deliver` to break the network."""
        for client in clients:
            self.deliver(client, message)

    def deliver(self, client: Deliver, frame: Frame) -> None:
        """Deliver one frame to *client*: every frame that it gets, in order."""
        client(frame)

    def begin_journal(self, journal: str, epoch: str, *, keep_epoch: bool = False) -> StreamId:
        """Make sure that there is a journal and, unless *keep_epoch*, its epoch. Returns the journal's last id."""
        stream = self.streams.setdefault(journal, [])
        if stream:
            if not keep_epoch:
                self.strings.setdefault(epoch, self.token())
            return stream[-1][0]
        self.strings[epoch] = token = self.token()
        return self._append(journal, None, _EPOCH_BODY, drawn=int(token[:12], 16))

    def forget(self, client: Deliver) -> None:
        """The connection of *client* is gone."""
        for listeners in self.subscribers.values():
            if client in listeners:
                listeners.remove(client)

    def _append(self, journal: str, previous: StreamId | None, body: bytes, *, drawn: int = 0) -> StreamId:
        now = self.clock_ms()
        last = self.last_ids.get(journal, (0, 0))
        id = (now, drawn) if now > last[0] else (last[0], last[1] + 1)
        self.last_ids[journal] = id
        self.streams[journal].append((id, b"" if previous is None else _id(previous).encode(), body))
        return id


def _id(id: StreamId) -> str:
    return f"{id[0]}-{id[1]}"


def parse_id(text: str) -> StreamId:
    """Read the id of a stream entry."""
    ms, _, seq = text.partition("-")
    return int(ms), int(seq)


def _entry(id: StreamId, predecessor: bytes, body: bytes) -> list[object]:
    return [_id(id).encode(), [b"p", predecessor, b"m", body]]


class _Meeting:
    """A server and the lock around it."""

    def __init__(self, server: MemoryServer | None = None) -> None:
        self.server = MemoryServer() if server is None else server
        self.lock = threading.RLock()
        self._pid = os.getpid()

    def after_fork(self) -> None:
        """The child has a server of its own, as it is at the moment of the fork, without the parent's subscribers."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self.lock = threading.RLock()
            self.server.subscribers.clear()


_meetings: dict[str, _Meeting] = {}


def open_server(name: str, server: MemoryServer) -> _Meeting:
    """Let links to `memory://`*name* use *server*, until `close_server`."""
    meeting = _meetings[name] = _Meeting(server)
    return meeting


def close_server(name: str) -> None:
    """Forget the server called *name*. Connections to it stay open; new links get another server."""
    _meetings.pop(name, None)


class MemoryConnection:
    """A subscription's connection: a queue."""

    def __init__(self, meeting: _Meeting) -> None:
        self._meeting = meeting
        self._arrived: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._closed = False

    def send(self, commands: Sequence[Command]) -> None:
        if self._closed:
            raise LinkDown("closed")
        with self._meeting.lock:
            for command in commands:
                self._meeting.server.execute(command, self._arrived.put)

    def receive(self, timeout_s: float) -> list[Frame]:
        try:
            frame = self._arrived.get(timeout=max(0.0, timeout_s))
            frames = [frame]
            while not self._arrived.empty():
                frames.append(self._arrived.get_nowait())
        except queue.Empty:
            return []
        if None in frames:
            raise LinkDown("closed")
        return [frame for frame in frames if frame is not None]

    def interrupt(self) -> None:
        self._arrived.put(None)

    def close(self) -> None:
        with self._meeting.lock:
            self._closed = True
            self._meeting.server.forget(self._arrived.put)


class MemoryLink:
    """The way to a server in this process: `memory://`, or one with a name, `memory://name`."""

    def __init__(self, url: str) -> None:
        self._meeting = _meetings.setdefault(urlsplit(url).netloc, _Meeting())

    @property
    def server(self) -> MemoryServer:
        """The server, for tests that break it."""
        return self._meeting.server

    def connect(self) -> MemoryConnection:
        return MemoryConnection(self._meeting)

    def publish(self, names: RedisNames, journal_length: int, post: Post) -> Accepted:
        with self._meeting.lock:
            return self._meeting.server.publish(names, journal_length, post)

    def read_journal(self, names: RedisNames, before: str, count: int) -> list[tuple[str, bytes]]:
        with self._meeting.lock:
            stream = self._meeting.server.streams.get(names.journal, [])
            found = [(id, body) for id, _, body in stream if not before or id < parse_id(before)]
        return [(_id(id), body) for id, body in found[: -count - 1 : -1]]

    def open_journal(self, names: RedisNames, journal_length: int) -> Command:
        return ("OPEN", names.journal, names.epoch)

    def after_fork(self) -> None:
        self._meeting.after_fork()

    def close(self) -> None:
        pass
