"""What tests use instead of a clock, a network and a ledger's memory; and how they wait for threads and children."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

from invalidator.errors import LinkDown
from invalidator.link import Accepted, Post
from invalidator.message import decode
from invalidator.names import RedisNames
from invalidator.protocol.frames import Command, Frame

S = 1_000_000_000
"""A second, in nanoseconds."""

PATIENCE_S = 30.0
"""How long a test waits, before it fails, for what happens at once."""


class Clock:
    """A steady clock that stands still until the test advances it."""

    def __init__(self, now: int = 1_000 * S) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> int:
        """Let time pass. Returns the new time."""
        self.now += int(seconds * S)
        return self.now


class RecordingWords(list[int]):
    """A ledger's memory that records the order in which its words are read and written."""

    def __init__(self, words: Sequence[int]) -> None:
        super().__init__(words)
        self.read: list[Any] = []
        self.written: list[int] = []
        self.on_write: Callable[[int], object] = lambda index: None

    def __getitem__(self, index: Any) -> Any:
        self.read.append(index)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.on_write(index)
        self.written.append(index)
        super().__setitem__(index, value)


class SilentConnection:
    """Nothing ever arrives on it."""

    def __init__(self) -> None:
        self.sent: list[Command] = []
        self.closed = False
        self._interrupted = threading.Event()

    def send(self, commands: Sequence[Command]) -> None:
        self.sent += commands

    def receive(self, timeout_s: float) -> list[Frame]:
        self._interrupted.wait()
        raise LinkDown("interrupted")

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        self.closed = True


class SilentLink:
    """
    A link on which nothing arrives, so that a listener never touches the ledger: the test does.

    What is published is kept in `published`, one list of bodies for each call; while `down`, nothing is accepted.
    """

    def __init__(self) -> None:
        self.down = False
        self.published: list[list[bytes]] = []
        self.posts: list[Post] = []
        self.connections: list[SilentConnection] = []
        self.forks = 0
        self.closed = False
        self.before_publish: Callable[[], object] = lambda: None

    def connect(self) -> SilentConnection:
        self.connections.append(SilentConnection())
        return self.connections[-1]

    def publish(self, names: RedisNames, journal_length: int, post: Post) -> Accepted:
        self.before_publish()
        if self.down:
            raise LinkDown("the test says so")
        self.published.append(list(post.bodies))
        self.posts.append(post)
        return Accepted(f"{len(self.published)}-0", 7)

    def open_journal(self, names: RedisNames, journal_length: int) -> Command:
        return ("OPEN", names.journal, names.epoch)

    def after_fork(self) -> None:
        self.forks += 1

    def close(self) -> None:
        self.closed = True

    @property
    def names_published(self) -> list[str]:
        """Every key and tag that was accepted, in order; a clear is "*"."""
        names = []
        for bodies in self.published:
            for body in map(decode, bodies):
                names += ["*"] if body.op == "clear" else [*body.keys, *body.tags]
        return names


class Thread(threading.Thread):
    """A thread that hands its result, or its exception, to the caller of `outcome`."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._outcome: tuple[Any, BaseException | None] = (None, TimeoutError("still running"))
        self.start()

    def run(self) -> None:
        try:
            self._outcome = (self._call(), None)
        except BaseException as error:  # noqa: BLE001 - `outcome` raises it
            self._outcome = (None, error)

    def outcome(self) -> Any:
        """Wait for the end and return the result."""
        self.join(PATIENCE_S)
        result, error = self._outcome
        if error is not None:
            raise error
        return result


def wait_until(is_so: Callable[[], object]) -> None:
    """Return as soon as *is_so*: for what other threads or processes do without an event to wait for."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.002)):
        if is_so():
            return
        pause.wait(0.002)
    raise TimeoutError(f"never came true: {is_so}")


def in_child(action: Callable[[], object]) -> None:
    """Run *action* in a forked child; fail with what it raised, or if it does not end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - the parent raises it
            os.write(writing, repr(error).encode()[:4000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        # The child may hang before it is here: what is called after a fork takes locks, too.
        if not select.select([pipe], [], [], PATIENCE_S)[0]:
            os.kill(pid, signal.SIGKILL)
        problem = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert not problem, problem
    assert status == 0, "the child has not ended by itself"
