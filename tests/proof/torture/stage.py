"""
The server, the network and the processes of one round, and what can be done to them.

Rule 1: whatever was started is ended by its process id, stopped or not, when the stage closes, however that happens.
Rule 2: processes are started by one thread that lives as long as the stage: the kernel kills them with the thread
that started them (`worker.die_with_parent`).
Rule 3: a fault that could not be done (its server is just down) is no error. It is not counted either.
"""

from __future__ import annotations

import contextlib
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Self
from urllib.parse import urlsplit

from invalidator import Invalidator
from invalidator.extending import now_ns
from invalidator.names import RedisNames, redis_names
from invalidator.testing import CommandError, EmbeddedServer, Reply

from . import source
from .proxy import Lane, Proxy
from .worker import LEASE_TIMEOUT_S, NAMESPACE, Orders
from .workload import KEYS

ROOT = Path(__file__).parents[3]
END_TIMEOUT_S = 20.0
LONGEST_ROUND_S = 600.0
COMMAND_TIMEOUT_S = 5.0
SUICIDE_TIMEOUT_S = 4.0
MOST_BIG_MESSAGES = 1500
BIG_MESSAGE_NAMES = [f"filler:{i}:{'x' * 480}" for i in range(30)]


class Member:
    """A reader or writer process, with the lane it talks through, if any."""

    def __init__(self, role: str, orders: Orders, lane: Lane | None, errors: Path) -> None:
        self.role = role
        self.orders = orders
        self.lane = lane
        self.killed = False
        self.errors = errors
        with errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-W",
                    "ignore::DeprecationWarning",
                    "-m",
                    f"tests.proof.torture.{role}",
                    orders.as_argument(),
                ],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us
            )

    @property
    def name(self) -> str:
        """Of this process; one that takes its place has another."""
        return self.orders.name

    def wait_until_ready(self) -> None:
        """Until it has a lease. Raises RuntimeError with what it printed before its end."""
        stdout = self.process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], LEASE_TIMEOUT_S + END_TIMEOUT_S)
        if not ready or not stdout.read(64):
            raise RuntimeError(f"{self.name} does not begin: {self.last_words()}")

    def say(self, letter: str) -> None:
        """Send one of the letters it knows. A dead process receives nothing."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(letter.encode())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`, stopped or not."""
        self.killed = True
        self.signal(signal.SIGKILL)
        self.process.wait(END_TIMEOUT_S)

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        return self.errors.read_text(errors="replace")[-1500:]

    def close(self) -> None:
        """Kill it if it lives, and let go of its pipes."""
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Stage:
    """
    One round's world. A context manager.

    Args:
        directory: empty, for the database and the logs.
        lanes: whether processes talk through the proxy.
        persistent: whether the server keeps an append-only file, synced at every write.
        strict: whether writers announce holds.
        sidecar: whether a sidecar listens for some of the processes (all but the last of each role).
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_staleness: float,
        readers: int,
        writers: int,
        seed: int,
        lanes: bool = False,
        persistent: bool = False,
        strict: bool = False,
        sidecar: bool = False,
    ) -> None:
        self.directory = directory
        self.max_staleness = max_staleness
        self.counts: Counter[str] = Counter()
        self.timeline: list[tuple[int, str]] = []
        self.members: list[Member] = []
        self.gone: list[Member] = []
        self.server_lock = threading.RLock()
        self.ending = threading.Event()
        self.died: dict[str, int] = {}
        self._strict = strict
        self._ledger = str(directory / "torture.ledger") if sidecar else ""
        self._plan = [("reader", i < readers - 1, i) for i in range(readers)]
        self._plan += [("writer", i < writers - 1, i) for i in range(writers)]
        self._with_lanes = lanes
        self._random = Random(seed)
        self._deadline = now_ns() + int(LONGEST_ROUND_S * 1e9)
        self._number = 0
        self._lock = threading.Lock()
        self._exit = contextlib.ExitStack()
        config = {"appendonly": "yes", "appendfsync": "always"} if persistent else {}
        self.server = EmbeddedServer(config=config)
        self._other: EmbeddedServer | None = None

    @property
    def names(self) -> RedisNames:
        """Our keys in the server."""
        return redis_names(NAMESPACE)

    def __enter__(self) -> Self:
        try:
            source.create(self.directory / "source.db", KEYS)
            # One connection stays open: whoever closes the last one would remove the write-ahead log.
            self.source = self._exit.enter_context(contextlib.closing(source.Source(self.directory / "source.db")))
            self._exit.enter_context(self.server)
            self.proxy = self._exit.enter_context(Proxy())
            self._starter = self._exit.enter_context(ThreadPoolExecutor(1, "torture-starter"))
            self._exit.callback(self._end_members)
            if self._ledger:
                sidecar = self._start("sidecar", "sidecar", self._make_lane(), self._ledger)
                sidecar.wait_until_ready()
            for role, by_sidecar, number in self._plan:
                ledger = self._ledger if by_sidecar else ""
                self._start(role, f"{role}-{number}", self._make_lane(), ledger)
            for member in self.members:
                if member.role != "sidecar":
                    member.wait_until_ready()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._exit.close()

    def _make_lane(self) -> Lane | None:
        if not self._with_lanes:
            return None
        address = urlsplit(self.server.url)
        return self.proxy.add_lane(address.hostname or "", address.port or 0)

    def _start(self, role: str, name: str, lane: Lane | None, ledger: str) -> Member:
        orders = Orders(
            name=name,
            url=f"redis://127.0.0.1:{lane.port}/0" if lane else self.server.url,
            directory=str(self.directory),
            max_staleness=self.max_staleness,
            seed=self._random.randrange(2**31),
            deadline=self._deadline,
            strict=self._strict,
            ledger=ledger,
        )
        errors = self.directory / f"{name}.stderr"
        member = self._starter.submit(Member, role, orders, lane, errors).result()
        with self._lock:
            self.members.append(member)
        return member

    def _end_members(self) -> None:
        for member in (*self.members, *self.gone):
            member.close()

    # For faults.

    def note(self, what: str) -> None:
        """A fault happened: for the count, and for the timeline of a violation."""
        with self._lock:
            self.counts[what.partition(" ")[0]] += 1
            self.timeline.append((now_ns(), what))

    def sleep(self, seconds: float) -> None:
        """Let time pass; shorter when the round ends."""
        self.ending.wait(seconds)

    def command(self, *args: str | float) -> Reply:
        """Say something to the server. Returns None when it cannot be reached or refuses."""
        try:
            return self.server.command(*args, timeout_s=COMMAND_TIMEOUT_S)
        except (OSError, CommandError):
            return None

    def living(self, role: str) -> list[Member]:
        """The processes of a role."""
        with self._lock:
            return [member for member in self.members if member.role == role]

    def listeners(self) -> list[Member]:
        """The readers that listen for themselves, and the sidecar as often as it listens for others."""
        readers, sidecars = self.living("reader"), self.living("sidecar")
        own = [reader for reader in readers if not reader.orders.ledger]
        return own + sidecars * (len(readers) - len(own)) or readers

    @contextlib.contextmanager
    def stopped(self, member: Member) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end."""
        member.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            member.signal(signal.SIGCONT)

    def kill_and_replace(self, member: Member, *, between_commit_and_word: bool = False) -> None:
        """
        `kill -9` a process and start another in its place.

        Args:
            between_commit_and_word: a writer; it kills itself there (or is killed anywhere, if it does not come there).
        """
        with self._lock:
            if member not in self.members:
                return
            self.members.remove(member)
            self.gone.append(member)
            self._number += 1
            name = f"{member.name.partition('+')[0]}+{self._number}"
        if between_commit_and_word:
            member.say("k")
            with contextlib.suppress(subprocess.TimeoutExpired):
                member.process.wait(SUICIDE_TIMEOUT_S)
        member.kill()
        with self._lock:
            self.died[member.name] = now_ns()
        self._start(member.role, name, member.lane, member.orders.ledger)

    def other_server(self) -> EmbeddedServer:
        """Another server, to be demoted to a replica of."""
        if self._other is None:
            self._other = self._exit.enter_context(EmbeddedServer())
        return self._other

    def shout(self) -> None:
        """Publish big messages until the server has given up a subscriber, or so many that it should have."""
        before = self._overflows()
        with Invalidator(self.server.url, namespace=NAMESPACE) as bus:
            for number in range(MOST_BIG_MESSAGES):
                bus.invalidate(*BIG_MESSAGE_NAMES)
                if self.ending.is_set() or (number % 50 == 0 and self._overflows() > before):
                    return

    def _overflows(self) -> int:
        for line in str(self.command("INFO", "stats")).splitlines():
            if line.startswith("client_output_buffer_limit_disconnections:"):
                return int(line.partition(":")[2])
        return 0

    # The end of a round.

    def quit_members(self) -> list[str]:
        """Ask everyone to end, wait, and return what went wrong with whom."""
        wrong = []
        give_up_at = time.monotonic() + END_TIMEOUT_S
        for member in self.members:
            if member.role != "sidecar":  # it is needed to the last read
                member.say("q")
        for member in sorted(self.members, key=lambda member: member.role == "sidecar"):
            if member.role == "sidecar":
                member.say("q")
            try:
                code = member.process.wait(max(0.1, give_up_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.signal(signal.SIGABRT)  # faulthandler's stacks go to stderr
                wrong.append(f"{member.name} hangs: {member.last_words()}")
                continue
            if code:
                wrong.append(f"{member.name} ended with {code}: {member.last_words()}")
        return wrong
