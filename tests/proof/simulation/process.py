"""
A process: the real bus, cache, listener and publisher. Only the threads are the world's.

The real code does its background work in steps (`invalidator.steps`), and here the world takes them instead of a
thread: a process may be left, stopped or killed between any two. What a listener stores in the ledger is taken apart
further, each store a step.
"""

from __future__ import annotations

import asyncio
import copy
import copyreg
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from threading import Lock, RLock, local
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

from invalidator import Invalidator, NearCache
from invalidator.feeds import sidecar_feed
from invalidator.feeds.count_throttle import CountThrottle
from invalidator.feeds.listener import Act, Listener, Receive, make_listener
from invalidator.forks import Fork
from invalidator.ledger import CHANGES, FLUSHED_AT, HEADER_WORDS, LISTENING_SINCE, Ledger, LedgerView
from invalidator.message import Body
from invalidator.names import redis_names
from invalidator.protocol.effects import Apply, Effect, Flush, Listen, Move, Prove
from invalidator.protocol.frames import Frame, Push
from invalidator.protocol.journal import Journal, read_journal
from invalidator.protocol.subscription import Subscription
from invalidator.publishing.publisher import Publisher
from invalidator.steps import Pause, Steps
from invalidator.weak_list import WeakList

from .checks import EVERYTHING
from .choices import MS, S
from .loop import SteppedLoop
from .network import SimConnection, SimLink
from .words import SectionLock, SteppedWords, VisibleLock

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")

SLOTS = 64
NAMESPACE = "sim"
NOT_YET = 2**62
LISTENER, COURIER = "invalidator-listener", "invalidator-publisher"


class SimBus(Invalidator):
    """An `Invalidator` whose threads and link are the world's."""

    def __init__(self, process: Process) -> None:
        self.process = process
        setup = process.world.setup
        super().__init__(
            "memory://unused",
            namespace=NAMESPACE,
            sidecar=None if process.listens else "a file",
            clock=process.clock,
            link=process.link,
            slots=SLOTS,
            when_unleased=setup.when_unleased,
            replica_lag=setup.replica_lag_ns / 1e9,
            publish=setup.publish,
            queue_size=setup.queue_size,
        )

    def _make_publisher(self) -> Publisher:
        return Publisher(
            self.process.link,
            redis_names(NAMESPACE),
            node=self.node,
            journal_length=self.process.world.setup.journal_length,
            when_down=self.config.publish,
            queue_size=self.config.queue_size,
            random=LongestDelay(),
            make_worker=self.process.make_worker,
        )

    def _make_listener(self, ledger: Ledger, journal: Journal | None) -> Listener:
        process, world = self.process, self.process.world
        process.listener = make_listener(
            self.config,
            process.link,
            ledger,
            process.audience,
            node=self.node,
            clock=process.local_now,
            journal=journal,
            random=Random(world.choices.draw(1000)),
            throttle=CountThrottle(burst=0) if world.setup.storm else None,
            make_worker=process.make_worker,
        )
        return process.listener


class SimLedgerFile:
    """A sidecar's ledger, as a worker maps it."""

    def __init__(self, process: Process, path: Path, **_: object) -> None:
        self.path = path
        self.view = LedgerView(process.words)
        self._process = process
        self._memory = process.words.memory

    def was_replaced(self) -> bool:
        sidecar = self._process.world.sidecar
        return sidecar is not None and sidecar.words.memory is not self._memory


class LongestDelay(Random):
    """Draws the longest delay between two attempts to publish."""

    def uniform(self, a: float, b: float) -> float:
        return b


class DeferredAudience:
    """Notifies the bus of what was applied, once the stores before it have been made."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.bus: SimBus | None = None

    def invalidated(self, body: Body, id: str, now: int) -> None:
        if self.bus:
            self.calls.append(lambda: self.bus.invalidated(body, id, now))

    def listening(self, now: int) -> None:
        if self.bus:
            self.calls.append(lambda: self.bus.listening(now))

    def flushed(self, reason: str, now: int) -> None:
        if self.bus:
            self.calls.append(lambda: self.bus.flushed(reason, now))


class Thread:
    """
    A generator that is stepped.

    It yields when it goes on: a time of the world, or a condition with a time; None for at once.
    """

    def __init__(self, process: Process, name: str, life: Iterator[Any]) -> None:
        self._process = process
        self._name = name
        self._life = life
        self._at = 0
        self._or_when: Callable[[], bool] | None = None
        self.ended = False
        self.running = False

    def start(self) -> None:
        """From now on the world may choose it."""
        self._process.threads_by_name[self._name] = self

    def join(self, timeout_s: float) -> bool:
        """Return whether it has ended; nothing waits here."""
        return self.ended

    def is_ready(self) -> bool:
        if self.ended or self.running or not self._process.can_run():
            return False
        return self._at <= self._process.world.now or (self._or_when is not None and self._or_when())

    def next_time(self) -> int:
        """When it becomes ready by itself."""
        return NOT_YET if self.ended or self.running else self._at

    def step(self) -> None:
        self.running = True  # a courier's own publish lets others go on
        try:
            wait = next(self._life)
        except StopIteration:
            self.ended = True
            return
        finally:
            self.running = False
        self._at, self._or_when = wait if isinstance(wait, tuple) else (wait or 0, None)


class Process:
    """
    One process of the fleet.

    Args:
        offset: between the world's time and the clock of its host.
        memory: of its ledger; shared with a sidecar's if it does not listen for itself.
        sidecar: who listens instead.
    """

    def __init__(
        self, world: World, name: str, offset: int, memory: array[int] | None = None, sidecar: Process | None = None
    ) -> None:
        self.world = world
        self.name = name
        self.offset = offset
        self.listens = sidecar is None
        self.fed_by: Process = sidecar or self
        self._become_new()
        self.words = SteppedWords(memory or _new_memory(), _nothing)
        self.bus = self._make_bus()
        if memory and self.listens:
            self.bus.ledger.touch()  # as `ledger.file.writing` does with an earlier sidecar's
            self.has_position = read_journal(self.bus.ledger) is not None
        self.cache = NearCache(self.bus, maxsize=world.setup.maxsize)
        for words in (self.words, self.bus.ledger.words):
            words.between = self.let_others_go_on

    def _become_new(self) -> None:
        self.dead = False
        self.frozen_until = 0
        self.stalled_until = 0
        self.cut_until = 0
        self.has_missed = False
        self.may_notice = False
        self._read_before: list[Frame] = []
        self._in_hand: list[Frame] = []
        self.listener: Listener | None = None
        self.link = SimLink(self)
        self.connection: SimConnection | None = None
        self.has_position = False
        self.damages_known = 0
        self.damages_at_connect = 0
        self._knows_damages = False
        self.own_versions: dict[str, int] = {}
        self.applied: dict[str, int] = {}
        self._uncounted: dict[str, int] = {}
        self._held: dict[tuple[str, str], int] = {}
        self._held_uncounted: dict[tuple[str, str], int] = {}
        self.threads_by_name: dict[str, Thread] = {}
        self.audience = DeferredAudience()

    def _make_bus(self) -> SimBus:
        with (
            patch.object(Ledger, "private", self._make_ledger),
            patch.object(sidecar_feed, "LedgerFile", partial(SimLedgerFile, self)),
        ):
            bus = SimBus(self)
        self.audience.bus = bus
        bus._feed._lock = VisibleLock()
        if not self.listens:
            bus._feed._map = self.map_new_file
        return bus

    def begin_file(self) -> None:
        """This sidecar has created its file now, as `ledger.file.writing` does."""
        memory = self.words.memory
        memory[CHANGES] = memory[FLUSHED_AT] = memory[LISTENING_SINCE] = self.local_now()

    def map_new_file(self, path: Path) -> SimLedgerFile:
        """A worker maps what is in the place of its file now."""
        sidecar = self.world.sidecar
        assert sidecar is not None
        self.words = SteppedWords(sidecar.words.memory, _nothing)
        file = SimLedgerFile(self, path)
        self.words.between = self.let_others_go_on
        self.fed_by = sidecar
        return file

    def _make_ledger(self, *, slots: int, namespace: str) -> Ledger:
        """A ledger in watched memory: for all that this process receives, or only for what it invalidates itself."""
        words = self.words if self.listens else SteppedWords(_new_memory(), _nothing)
        ledger = Ledger(words, slots=slots, namespace=namespace)
        ledger.lock = SectionLock(words)
        return ledger

    def __repr__(self) -> str:
        return self.name

    # Time.

    def local(self, at: int) -> int:
        """A time of the world on this host's clock."""
        tick = self.world.setup.tick_ns
        return (at + self.offset) // tick * tick

    def local_now(self) -> int:
        """This host's clock, without any pause."""
        return self.local(self.world.now)

    def world_time(self, local: int) -> int:
        """The first time of the world at which this host's clock shows *local* or more."""
        tick = self.world.setup.tick_ns
        return -(-local // tick) * tick - self.offset

    def clock(self) -> int:
        """This host's clock, as a thread reads it that may be stopped before."""
        self.let_others_go_on()
        return self.local_now()

    def let_others_go_on(self) -> None:
        """A thread of this process may be stopped here."""
        self.world.let_others_go_on(self)

    def is_in_section(self) -> bool:
        """Whether one of its threads was stopped while it holds a lock that the listener takes."""
        return any(lock.locked() for lock in self.bus.fork_locks())

    def can_run(self) -> bool:
        """Whether anything of it runs."""
        return not self.dead and self.frozen_until <= self.world.now

    @property
    def bounded(self) -> bool:
        """Whether its policy keeps the bound."""
        return self.world.setup.when_unleased != "serve"

    def miss_message(self, earlier: list[Frame]) -> None:
        """A message was lost on a connection that stands. Only a message that is not *earlier* can show the gap."""
        self.world.note(lambda: f"{self.name} misses a message")
        self.has_missed = True
        self._read_before = [*earlier, *self._in_hand]
        self.may_notice = False

    def has_written(self, versions: Mapping[str, int]) -> None:
        """It has invalidated what these versions replaced, and must never read that again."""
        for name, version in versions.items():
            self.own_versions[name] = max(version, self.own_versions.get(name, 0))

    def holds(self, names: Iterable[str], owner: str, until: int) -> None:
        """A hold is in force here."""
        self._held.update(dict.fromkeys([(name, owner) for name in names], until))

    def released(self, owner: str) -> None:
        """A hold is about to be released here."""
        for held in (self._held, self._held_uncounted):
            for key in [key for key in held if key[1] == owner]:
                del held[key]

    def names_held(self) -> frozenset[str]:
        """The names that may not be cached here now."""
        soon = self.world.now + self.world.setup.tick_ns
        return frozenset(name for (name, _), until in self._held.items() if until > soon)

    # The listener.

    @property
    def listener_thread(self) -> Thread | None:
        """What takes the steps of its listener."""
        return self.threads_by_name.get(LISTENER)

    @property
    def subscription(self) -> Subscription:
        """Its state machine."""
        assert self.listener is not None
        return self.listener.subscription

    def make_worker(self, name: str, steps: Steps) -> Thread:
        """Called instead of the constructor of a thread."""
        return Thread(self, name, self._listen(steps) if name == LISTENER else self._deliver(steps))

    def _listen(self, steps: Steps) -> Iterator[Any]:
        """Take the steps of the listener."""
        step = next(steps)
        while True:
            match step:
                case Act.CONNECT:
                    after = next(steps)
                    if after is None:
                        yield
                        self.damages_at_connect = self.world.checks.reasons_to_flush
                case Act.HANG_UP:
                    after = next(steps)
                    yield
                case Pause(seconds):
                    yield self.world.now + int(seconds * S)
                    after = None
                case Receive(until):
                    yield self.world_time(until), self._has_arrived
                    after = next(steps)
                case Act.SETTLE:
                    after = yield from self._act(partial(next, steps))
                    if not self.listener.is_uncounted:
                        self._note_settled()
                case _:
                    yield
                    after = yield from self._carry_out(step, steps)
            step = next(steps) if after is None else after  # of a step that failed there is no end

    def _has_arrived(self) -> bool:
        return self.connection is not None and (self.connection.has_arrived() or self.connection.is_down())

    def _carry_out(self, effect: Effect, steps: Steps) -> Iterator[Any]:
        self.world.note(lambda: f"{self.name}: {effect}")
        if isinstance(effect, Flush):
            self.world.checks.flushed(self, effect.reason)
        began_at = self.world.now
        if isinstance(effect, Apply) and effect.body.op == "release":
            self.released(effect.body.owner)
        after = yield from self._act(partial(next, steps))
        self._note_effect(effect, began_at)
        return after

    def read(self, frames: list[Frame]) -> list[Frame]:
        """The listener has read *frames*, and looks at one after the other."""
        self._in_hand = frames
        return Watched(frames, self._look_at)

    def _look_at(self, frame: Frame) -> None:
        is_message = isinstance(frame, Push) and frame.kind == b"message"
        if is_message and not any(frame is earlier for earlier in self._read_before):
            self.may_notice = True

    def _act(self, act: Callable[[], object]) -> Generator[None, None, object]:
        """Let the listener do something, each of its stores a step of its own. Returns what *act* does."""
        while self.is_in_section():
            yield
        self.words.recording = True
        try:
            result = act()
        finally:
            self.words.recording = False
        while self.words.unstored:
            yield
            self.let_others_go_on()
            if self.words.unstored:
                self.words.store_next()
        calls, self.audience.calls = self.audience.calls, []
        for call in calls:
            yield
            call()
        return result

    def _note_effect(self, effect: Effect, began_at: int) -> None:
        match effect:
            case Apply(body, id, _) if not self.world.checks.published_itself(self, id, body):
                for name in (*body.keys, *body.tags) if body.op != "clear" else (EVERYTHING,):
                    self._uncounted[name] = began_at
                    if body.op == "hold":
                        self._held_uncounted[name, body.owner] = began_at + body.for_ms * MS
            case Listen():
                self._knows_damages = True
            case Flush():
                self._note_settled()
                self.applied[EVERYTHING] = max(self.applied.get(EVERYTHING, 0), began_at)
                self._knows_damages = True
            case Move():
                self.has_position = True
            case Prove(at):
                self._note_settled()
                if self._knows_damages:
                    self.damages_known, self._knows_damages = self.damages_at_connect, False
                if self.has_missed and self.may_notice:
                    self.has_missed = False
                self.world.checks.proven(self, at)

    def _note_settled(self) -> None:
        """What was stamped has been counted: from here on no read may serve what it voids."""
        for name, at in self._uncounted.items():
            self.applied[name] = max(self.applied.get(name, 0), at)
        self._uncounted.clear()
        self._held.update(self._held_uncounted)
        self._held_uncounted.clear()

    # The courier.

    def _deliver(self, steps: Steps) -> Iterator[Any]:
        """Take the steps of the courier."""
        for step in steps:
            if step is not None:
                yield self.world.now + int(step.seconds * S) if isinstance(step, Pause) else None

    def threads(self) -> list[Thread]:
        """What runs by itself."""
        is_stalled = self.stalled_until > self.world.now
        names = (COURIER,) if is_stalled else (LISTENER, COURIER)
        return [self.threads_by_name[name] for name in names if name in self.threads_by_name]

    # Death and birth.

    def kill(self) -> None:
        """kill -9: nothing is finished, the kernel closes its connections."""
        self.dead = True
        if self.connection is not None:
            self.connection.close()

    def fork(self, name: str) -> Process:
        """`os.fork`, with the real hooks around it."""
        fork = Fork((self.bus, self.cache))
        fork.take_locks()
        child = copy.copy(self)
        child._become_new()
        child.name = name
        child.fed_by = child
        child.has_position = self.has_position
        child.damages_known = self.damages_known
        child.has_missed, child.may_notice = self.has_missed, self.may_notice
        child._held = dict(self._held)
        child.own_versions, child.applied = dict(self.own_versions), dict(self.applied)
        child.words, child.bus, child.cache, fork_in_child = copy_memory(
            (self.words, self.bus, self.cache, fork), self._what_a_child_finds(child)
        )
        child.audience.bus = child.bus
        fork.release_locks()
        fork_in_child.release_locks()
        child.bus.after_fork_in_child()
        child.cache.after_fork_in_child()
        if child.bus.has_callbacks:
            child.bus.start()
        return child

    def _what_a_child_finds(self, child: Process) -> list[tuple[object, object]]:
        """What is not simply copied: the world is the same, threads are gone, the rest is the child's own."""
        return [
            (self.world, self.world),
            (self, child),
            (self.link, child.link),
            (self.audience, child.audience),
            *[(thread, None) for thread in self.threads_by_name.values()],
            *([(self.connection, InheritedConnection())] if self.connection else []),
        ]


class Watched(list[Frame]):
    """Frames of which *look* learns one by one, as they are iterated over."""

    def __init__(self, frames: list[Frame], look: Callable[[Frame], None]) -> None:
        super().__init__(frames)
        self._look = look

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            self._look(frame)
            yield frame


class InheritedConnection:
    """A descriptor that a child has inherited."""

    def close(self) -> None:
        """The parent's connection lives on."""


def copy_memory(memory: T, found: Iterable[tuple[object, object]]) -> T:
    """
    Copy objects with all that they refer to, as a fork does.

    Args:
        found: what a child finds in the place of some objects.
    """
    reducers = {
        type(Lock()): lambda lock: (copy_lock, (lock.locked(),)),
        type(RLock()): lambda lock: (copy_rlock, (lock._is_owned(),)),
        local: lambda it: (local, ()),
        WeakList: lambda items: (copy_weak_list, (list(items),)),
        asyncio.Task: lambda task: (lambda: task, ()),
        SteppedLoop: lambda loop: (lambda: loop, ()),
    }
    with patch.dict(copyreg.dispatch_table, reducers):
        return copy.deepcopy(memory, {id(parents): childs for parents, childs in found})


def copy_lock(is_locked: bool) -> Any:
    """A lock in the same state."""
    lock = Lock()
    if is_locked:
        lock.acquire()
    return lock


def copy_rlock(is_held: bool) -> Any:
    """One that the only thread there is holds once, or not."""
    lock = RLock()
    if is_held:
        lock.acquire()
    return lock


def copy_weak_list(items: list[object]) -> WeakList[object]:
    """A list of the same, which live as long as their parents' do."""
    copied: WeakList[object] = WeakList()
    for item in items:
        copied.add(item)
    return copied


def _nothing() -> None:
    pass


def _new_memory() -> array[int]:
    return array("q", bytes(8 * (HEADER_WORDS + SLOTS)))
