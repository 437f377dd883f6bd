"""
A Redis that can be paused, killed, rolled back and replaced, and the connections to it.

A connection keeps order in both directions; each command and each answer arrives after a delay of its own, never before
the one in front of it. Whatever happens to a server or a connection, the commands that are already on their way may
still arrive: a client that gave up on an answer does not know whether its command was carried out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from invalidator.errors import LinkDown
from invalidator.link import Accepted, Post
from invalidator.link.memory import MemoryServer, StreamId, parse_id
from invalidator.message import decode
from invalidator.names import RedisNames
from invalidator.protocol.frames import Command, Failure, Frame, Push, Reply

from .choices import MS, US, S

if TYPE_CHECKING:
    from .process import Process
    from .world import World

PUBLISH_TIMEOUT = 1 * S


class SimServer(MemoryServer):
    """One run of one server."""

    def __init__(self, world: World) -> None:
        super().__init__(clock_ms=world.server_clock_ms, token=world.token)
        self.world = world
        self.replid = self.token()
        self.reachable = True
        self.paused_until = 0
        self.trimmed: StreamId = (0, 0)

    def execute(self, command: Command, client: Any) -> None:
        if command[0] == "INFO":
            info = f"run_id:{self.run_id}\r\nmaster_replid:{self.replid}\r\nrole:{self.role}\r\n"
            client(Failure("NOPERM info") if self.world.info_refused else Reply(info.encode()))
        else:
            super().execute(command, client)

    def publish(self, names: RedisNames, journal_length: int, post: Post) -> Accepted:
        if self.role != "master":
            raise LinkDown("READONLY")
        kept = {entry[0] for entry in self.streams.get(names.journal, [])}
        accepted = super().publish(names, journal_length, post)
        self._note_trimmed(kept - {entry[0] for entry in self.streams[names.journal]})
        return accepted

    def _append(self, journal: str, previous: StreamId | None, body: bytes, *, drawn: int = 0) -> StreamId:
        id = super()._append(journal, previous, body, drawn=drawn)
        self.world.checks.journals_begun += previous is None
        self.world.note_id(id)
        return id

    def trim(self, journal: str, length: int) -> None:
        """XTRIM: keep the newest entries only."""
        stream = self.streams.get(journal, [])
        gone = stream[: max(0, len(stream) - length)]
        del stream[: len(gone)]
        self._note_trimmed({entry[0] for entry in gone})

    def delete_entry(self, journal: str, index: int) -> None:
        """XDEL of one entry, but not of the newest: whoever missed that one cannot know."""
        stream = self.streams.get(journal, [])
        if len(stream) > 1:
            del stream[index % (len(stream) - 1)]

    def delete(self, key: str) -> None:
        """DEL. A stream's last id is gone with it."""
        self.streams.pop(key, None)
        self.last_ids.pop(key, None)
        self.strings.pop(key, None)
        self.holds.pop(key, None)

    def lose_suffix(self, entries: int) -> None:
        """Roll back the newest entries of each journal, as an asynchronous replica or an old snapshot would."""
        for journal, stream in self.streams.items():
            if entries:
                del stream[-entries:]
            self.last_ids[journal] = stream[-1][0] if stream else (0, 0)

    def take_over(self, other: SimServer) -> None:
        """Become a copy of *other*."""
        self.streams = {key: list(stream) for key, stream in other.streams.items()}
        self.last_ids = dict(other.last_ids)
        self.strings = dict(other.strings)
        self.holds = {key: dict(holds) for key, holds in other.holds.items()}
        self.trimmed = other.trimmed

    def has_trimmed_past(self, position: str) -> bool:
        """Whether an entry after *position* was trimmed or deleted."""
        return self.trimmed > parse_id(position)

    def _note_trimmed(self, ids: set[StreamId]) -> None:
        self.trimmed = max(self.trimmed, *ids) if ids else self.trimmed


class SimConnection:
    """A subscription's connection. `down` is when and why its end becomes visible to the client."""

    def __init__(self, process: Process, server: SimServer) -> None:
        self.world = process.world
        self.process = process
        self.server = server
        self.latency = MS if self.world.calm else self.world.choices.pick(self.world.setup.latencies)
        self.to_server: deque[tuple[int, Command]] = deque()
        self.to_client: deque[tuple[int, Frame]] = deque()
        self.down_at: int | None = None
        self.half_open = False
        self.closed = False
        self.losing = 0
        self.world.connections.append(self)

    # The client's side.

    def send(self, commands: Sequence[Command]) -> None:
        if self.closed or self.is_down():
            raise LinkDown("connection reset")
        if self.half_open:
            return
        at = max(self.world.now, self.to_server[-1][0] if self.to_server else 0)
        for command in commands:
            at += self._delay()
            self.to_server.append((at, command))

    def is_down(self) -> bool:
        """Whether the client sees the end of it: after what has arrived."""
        return self.down_at is not None and self.down_at <= self.world.now

    def has_arrived(self) -> bool:
        """Whether there is something to read."""
        return bool(self.to_client) and self.to_client[0][0] <= self.world.now

    def receive(self, timeout_s: float) -> list[Frame]:
        """What has arrived: the world has waited for it. Raises LinkDown after the last frame before the end."""
        frames = []
        while self.has_arrived():
            frames.append(self.to_client.popleft()[1])
        if not frames and self.is_down():
            raise LinkDown("connection reset")
        return self.process.read(frames)

    def interrupt(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True
        if self.process.connection is self:
            self.process.connection = None
        self.to_client.clear()
        if not self.half_open:
            self.server.forget(self.deliver)

    # The network's and the server's side.

    def next_event(self) -> int | None:
        """When something becomes visible to the client."""
        times = [self.to_client[0][0]] if self.to_client else []
        if self.down_at is not None:
            times.append(self.down_at)
        return min(times) if times and not self.closed else None

    def deliver(self, frame: Frame) -> None:
        """The server sends a frame."""
        if self.half_open or self.closed or self.down_at is not None:
            return
        if self.losing and isinstance(frame, Push) and frame.kind == b"message":
            self.losing -= 1
            self.process.miss_message([earlier for _, earlier in self.to_client])
            return
        if len(self.to_client) >= self.world.setup.output_buffer and not self.world.calm:
            self.world.note(lambda: f"server kills {self.process.name}'s connection: output buffer")
            self.drop(lost=self.world.choices.draw(len(self.to_client) + 1))
            return
        last = self.to_client[-1][0] if self.to_client else 0
        self.to_client.append((max(last, self.world.now) + self._delay(), frame))

    def drop(self, lost: int = 0) -> None:
        """Cut it; the last *lost* frames on their way never arrive."""
        for _ in range(min(lost, len(self.to_client))):
            self.to_client.pop()
        self.down_at = max(self.world.now, self.to_client[-1][0] if self.to_client else 0)
        self.server.forget(self.deliver)

    def hurry(self) -> None:
        """What is on its way is there at once."""
        self.latency = min(self.latency, MS)
        self.losing = 0
        self.to_client = deque((min(at, self.world.now), frame) for at, frame in self.to_client)
        self.to_server = deque((min(at, self.world.now), command) for at, command in self.to_server)

    def go_silent(self) -> None:
        """Become half-open: nothing passes any more, and neither side notices."""
        self.half_open = True
        self.to_client.clear()
        self.to_server.clear()

    def _delay(self) -> int:
        return self.latency * (1 + self.world.choices.draw(4)) // 4


class SimLink:
    """A process' way to whatever is the primary."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def connect(self) -> SimConnection:
        world = self.process.world
        if not self._is_open():
            raise LinkDown("connection refused")
        self.process.connection = SimConnection(self.process, world.primary)
        return self.process.connection

    def publish(self, names: RedisNames, journal_length: int, post: Post) -> Accepted:
        """Each call is one request, which may be lost, answered, carried out and not answered, or carried out late."""
        world, choices = self.process.world, self.process.world.choices
        world.let_others_go_on(self.process)
        fate = "fine" if world.calm else choices.weigh(world.setup.publish_fates)
        if not self._is_open() or fate == "lost":
            raise LinkDown("no answer")
        if fate == "late" or world.primary.paused_until > world.now:
            due = max(world.now + choices.duration(), world.primary.paused_until)
            world.late_requests.append((due, world.primary, self.process, names, journal_length, post))
            raise LinkDown("no answer in time")
        accepted = take_post(self.process, world.primary, names, journal_length, post)
        world.let_others_go_on(self.process)
        if fate == "unanswered":
            world.note(lambda: f"{self.process.name}'s publish {accepted.id} is not answered")
            raise LinkDown("connection reset")
        return accepted

    def open_journal(self, names: RedisNames, journal_length: int) -> Command:
        return ("OPEN", names.journal, names.epoch)

    def after_fork(self) -> None:
        """The pool is emptied."""

    def close(self) -> None:
        """Nothing is kept."""

    def _is_open(self) -> bool:
        world = self.process.world
        return world.primary.reachable and world.now >= self.process.cut_until


def take_post(process: Process, server: SimServer, names: RedisNames, journal_length: int, post: Post) -> Accepted:
    """The server carries out the script, and the checks learn what it took."""
    accepted = server.publish(names, journal_length, post)
    process.world.note(lambda: f"server takes {accepted.id} from {process.name}: {[bytes(b) for b in post.bodies]}")
    for data in post.bodies:  # one, as long as names are short
        process.world.checks.server_took(process, accepted.id, decode(data))
    return accepted


LATENCIES = {"near": (20 * US, 100 * US), "mixed": (50 * US, 2 * MS, 40 * MS), "far": (20 * MS, 300 * MS)}
