"""
A process: the real bus, cache and publisher, with threads that are steps.

What the real code does in threads of its own is done here by generators, which stop wherever a thread could be
stopped: `_listen` is `Listener._run`, `_deliver` is `Publisher._deliver`, each effect and each store a step. Everything
they call is the real thing.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from random import Random
from threading import Lock
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from invalidator import Invalidator, NearCache
from invalidator import bus as bus_module
from invalidator import hearing as hearing_module
from invalidator.errors import LinkDown
from invalidator.forks import Fork
from invalidator.hearing import OwnHearing
from invalidator.ledger import HEADER_WORDS, Ledger, LedgerView
from invalidator.listener import Listener
from invalidator.message import Body
from invalidator.outbox import Batch
from invalidator.pace import Pace
from invalidator.protocol.effects import Apply, Effect, Effects, Flush, Move, Prove
from invalidator.protocol.frames import Frame, Push
from invalidator.protocol.journal import Journal, read_journal
from invalidator.protocol.subscription import Subscription
from invalidator.publisher import FIRST_RETRY_S, LAST_RETRY_S, Publisher
from invalidator.store import Store
from invalidator.weak_list import WeakList

from .checks import EVERYTHING
from .choices import MS, S
from .network import SimConnection, SimLink
from .words import SectionLock, SteppedWords

if TYPE_CHECKING:
    from .world import World

SLOTS = 64
NAMESPACE = "sim"
NOT_YET = 2**62


class SimBus(Invalidator):
    """An `Invalidator` whose threads are the world's."""

    process: Process

    def _make_subscription(self, journal: Journal | None) -> Subscription:
        subscription = super()._make_subscription(journal)
        subscription._random = Random(self.process.world.choices.draw(1000))
        return subscription


class SimHearing(OwnHearing):
    """An `OwnHearing` whose listener is the world's."""

    process: Process

    def _start(self) -> None:
        process = self.process
        subscription = self._make_subscription(self._journal)
        pace = Pace(burst=0) if process.world.setup.storm else Pace()
        self._listener = Listener(subscription, self._link, self.own, process.audience, process.local_now, pace)
        process.begin_to_listen(self._listener)


class SimLedgerFile:
    """A sidecar's ledger, as a worker maps it."""

    def __init__(self, path: Path, *, namespace: str, any_owner: bool) -> None:
        self.path = path
        self.view = LedgerView(_mapping.get())

    def was_replaced(self) -> bool:
        return False


_mapping: ContextVar[SteppedWords] = ContextVar("mapping")


class SimPublisher(Publisher):
    """A `Publisher` whose courier is the world's."""

    process: Process

    def _queue(self, batch: Batch) -> None:
        self._outbox.put(batch)
        if self._courier is None:
            self._courier = self.process.begin_to_deliver()  # type: ignore[assignment]


class DeferredAudience:
    """Tells the bus what was applied when the stores that came before have been made."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.bus: SimBus | None = None

    def invalidated(self, body: Body, id: str, now: int) -> None:
        if self.bus:
            self.calls.append(lambda: self.bus.invalidated(body, id, now))

    def flushed(self, reason: str, now: int) -> None:
        if self.bus:
            self.calls.append(lambda: self.bus.flushed(reason, now))


class Thread:
    """
    A generator that is stepped.

    It yields when it goes on: a time of the world, or a condition with a time; None for at once.
    """

    def __init__(self, process: Process, life: Iterator[Any]) -> None:
        self._process = process
        self._life = life
        self._at = 0
        self._or_when: Callable[[], bool] | None = None
        self.ended = False
        self.running = False

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
        self.heard_by: Process = sidecar or self
        self._become_new()
        self.words = SteppedWords(memory or _new_memory(), _nothing)
        self.bus = self._make_bus()
        self._begin_ledger()
        if memory and self.listens:
            self._take_over_ledger()
        self.cache = NearCache(self.bus, maxsize=world.setup.maxsize)
        self.words.between = self.let_others_go_on

    def _become_new(self) -> None:
        self.dead = False
        self.frozen_until = 0
        self.stalled_until = 0
        self.cut_until = 0
        self.deaf = False
        self.heard_again = False
        self._heard_before: list[Frame] = []
        self._in_hand: list[Frame] = []
        self.has_position = False
        self.damages_known = 0
        self.damages_at_connect = 0
        self._has_flushed = False
        self.own_versions: dict[str, int] = {}
        self.applied: dict[str, int] = {}
        self._uncounted: dict[str, int] = {}
        self._held: dict[tuple[str, str], int] = {}
        self._held_uncounted: dict[tuple[str, str], int] = {}
        self.listener_thread: Thread | None = None
        self.courier: Thread | None = None
        self.audience = DeferredAudience()

    def _make_bus(self) -> SimBus:
        setup = self.world.setup
        if not self.listens:
            _mapping.set(self.words)
        with patch.object(hearing_module, "LedgerFile", SimLedgerFile):
            bus = SimBus(
                "memory://unused",
                namespace=NAMESPACE,
                sidecar=None if self.listens else "a file",
                clock=self.clock,
                link=SimLink(self),
                slots=SLOTS,
                when_unleased=setup.when_unleased,
                replica_lag=setup.replica_lag_ns / 1e9,
                publish=setup.publish,
                queue_size=setup.queue_size,
            )
        bus_module._living.discard(bus)
        bus._publisher.__class__ = SimPublisher
        bus._publisher._journal_length = setup.journal_length
        self._adopt(bus)
        return bus

    def _adopt(self, bus: SimBus) -> None:
        bus.process = self
        bus._publisher.process = self  # type: ignore[attr-defined]
        self.audience.bus = bus

    def _begin_ledger(self) -> None:
        """Put watched memory under what this process writes: all that it hears, or only what it says itself."""
        hearing: Any = self.bus._hearing
        words = self.words if self.listens else SteppedWords(_new_memory(), _nothing)
        hearing.own = Ledger(words, slots=SLOTS, namespace=NAMESPACE)
        hearing.own.lock = SectionLock(words)
        if self.listens:
            hearing.__class__ = SimHearing
            hearing.process = self
            hearing.view = hearing.own
            self.bus.watched = self.words
        words.between = self.let_others_go_on

    def _take_over_ledger(self) -> None:
        """As a sidecar does that finds the ledger of an earlier one (`ledger_file.writing`, `daemon.Ward`)."""
        self.words.between = _nothing
        hearing: Any = self.bus._hearing
        hearing.own.touch()
        hearing._journal = read_journal(hearing.own)
        self.has_position = hearing._journal is not None

    @property
    def hearing(self) -> Any:
        """How it hears: the real thing."""
        return self.bus._hearing

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
        """Whether one of its threads was stopped while it holds the ledger's lock."""
        return self.bus.ledger.lock.held or self.hearing._lock.locked()  # type: ignore[attr-defined]

    def can_run(self) -> bool:
        """Whether anything of it runs."""
        return not self.dead and self.frozen_until <= self.world.now

    @property
    def bounded(self) -> bool:
        """Whether its policy keeps the bound."""
        return self.world.setup.when_unleased != "serve"

    def become_deaf(self, earlier: list[Frame]) -> None:
        """A message was lost on a connection that stands; only one that is not *earlier* can tell."""
        self.world.note(lambda: f"{self.name} misses a message")
        self.deaf = True
        self._heard_before = [*earlier, *self._in_hand]
        self.heard_again = False

    def has_written(self, versions: Mapping[str, int]) -> None:
        """It has invalidated what these versions replaced: it must never read that again."""
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
        """What nobody may cache here now."""
        soon = self.world.now + self.world.setup.tick_ns
        return frozenset(name for (name, _), until in self._held.items() if until > soon)

    # The listener.

    @property
    def subscription(self) -> Subscription:
        """Its state machine."""
        assert self.hearing._listener is not None
        return self.hearing._listener.subscription

    @property
    def connection(self) -> SimConnection | None:
        """Its subscription's connection."""
        return self.hearing._listener._connection if self.listener_thread else None

    def begin_to_listen(self, listener: Listener) -> None:
        """A listener was made."""
        self.listener_thread = Thread(self, self._listen(listener))

    def _listen(self, listener: Listener) -> Iterator[Any]:
        """As `Listener._run`."""
        subscription = listener.subscription
        while True:
            yield from self._carry_out(listener, subscription.connecting(self.local_now()))
            try:
                listener._connection = listener._link.connect()
                yield
                yield from self._converse(listener)
            except LinkDown as error:
                reason = str(error)
            listener._hang_up()
            yield
            yield from self._carry_out(listener, subscription.disconnected(reason, self.local_now()))
            yield self.world_time(subscription.retry_at)

    def _converse(self, listener: Listener) -> Iterator[Any]:
        """As `Listener._converse`."""
        subscription = listener.subscription
        connection: Any = listener._connection
        self.damages_at_connect = self.world.checks.reasons_to_flush
        try:
            yield from self._carry_out(listener, subscription.connected(self.local_now()))
            while True:
                next_turn = self.world_time(listener._next_turn())
                yield next_turn, lambda: connection.has_arrived() or connection.is_down()
                self._in_hand = connection.read()
                yield from self._carry_out(listener, listener._hear(self._look_at_each(self._in_hand)))  # type: ignore[arg-type]
                yield from self._carry_out(listener, subscription.tick(self.local_now()))
        except LinkDown:
            yield from self._settle(listener, listener._settle)
            raise

    def _look_at_each(self, frames: list[Frame]) -> Iterator[Frame]:
        for frame in frames:
            is_message = isinstance(frame, Push) and frame.kind == b"message"
            if is_message and not any(frame is earlier for earlier in self._heard_before):
                self.heard_again = True
            yield frame

    def _carry_out(self, listener: Listener, effects: Effects) -> Iterator[None]:
        """As `Listener._carry_out`, each effect and each store a step."""
        try:
            for effect in effects:
                yield
                self.world.note(lambda effect=effect: f"{self.name}: {effect}")
                if isinstance(effect, Flush):
                    self.world.checks.flushed(self, effect.reason)
                began_at = self.world.now
                if isinstance(effect, Apply) and effect.body.op == "release":
                    self.released(effect.body.owner)
                yield from self._act(partial(listener._carry_out_one, effect))
                self._note_effect(effect, began_at)
        except LinkDown:
            yield from self._settle(listener, listener._settle_in_time)
            raise
        yield from self._settle(listener, listener._settle_in_time)

    def _settle(self, listener: Listener, settle: Callable[[], None]) -> Iterator[None]:
        yield from self._act(settle)
        if not listener._is_uncounted:
            self._note_settled()

    def _act(self, act: Callable[[], None]) -> Iterator[None]:
        """Let the listener do something, each of its stores a step of its own."""
        while self.is_in_section():
            yield
        self.words.recording = True
        try:
            act()
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

    def _note_effect(self, effect: Effect, began_at: int) -> None:
        match effect:
            case Apply(body, id, _) if not self.world.checks.said_itself(self, id, body):
                for name in (*body.keys, *body.tags) if body.op != "clear" else (EVERYTHING,):
                    self._uncounted[name] = began_at
                    if body.op == "hold":
                        self._held_uncounted[name, body.owner] = began_at + body.for_ms * MS
            case Flush():
                self._note_settled()
                self.applied[EVERYTHING] = max(self.applied.get(EVERYTHING, 0), began_at)
                self._has_flushed = True
            case Move():
                self.has_position = True
            case Prove(at):
                self._note_settled()
                if self._has_flushed:
                    self.damages_known, self._has_flushed = self.damages_at_connect, False
                if self.deaf and self.heard_again:
                    self.deaf = False
                self.world.checks.proven(self, at)

    def _note_settled(self) -> None:
        """What was stamped has been counted: from here on no read may serve what it voids."""
        for name, at in self._uncounted.items():
            self.applied[name] = max(self.applied.get(name, 0), at)
        self._uncounted.clear()
        self._held.update(self._held_uncounted)
        self._held_uncounted.clear()

    # The courier.

    def begin_to_deliver(self) -> Thread:
        """Something waits in the outbox."""
        self.courier = Thread(self, self._deliver())
        return self.courier

    def _deliver(self) -> Iterator[Any]:
        """As `Publisher._deliver`."""
        publisher = self.bus._publisher
        delay_s = FIRST_RETRY_S
        while True:
            yield
            batch = publisher._outbox.take()
            if batch is None:
                publisher._courier = None
                return
            yield
            try:
                accepted = publisher._say(batch)
            except LinkDown as error:
                publisher._note_down(error)
                publisher._outbox.failed()
                yield self.world.now + int(delay_s * S)
                delay_s = min(2 * delay_s, LAST_RETRY_S)
                continue
            delay_s = FIRST_RETRY_S
            publisher.last_error = None
            yield
            publisher._outbox.delivered(*accepted)

    def threads(self) -> list[Thread]:
        """What runs by itself."""
        listener = self.listener_thread if self.stalled_until <= self.world.now else None
        return [thread for thread in (listener, self.courier) if thread is not None]

    # Death and birth.

    def kill(self) -> None:
        """kill -9: nothing is finished, the kernel closes its connections."""
        self.dead = True
        if self.connection is not None:
            self.connection.close()

    def fork(self, name: str) -> Process:
        """`os.fork`, with the real hooks around it."""
        parent = self.bus
        fork = Fork((parent, self.cache))
        fork.take_locks()
        child = copy.copy(self)
        child._become_new()
        child.name = name
        child.heard_by = child
        child.has_position = self.has_position
        child.damages_known = self.damages_known
        child.deaf, child.heard_again = self.deaf, self.heard_again
        child._held = dict(self._held)
        child.own_versions, child.applied = dict(self.own_versions), dict(self.applied)
        child.words = SteppedWords(array("q", self.words.memory), _nothing)
        child.bus = child._copy_bus(parent)
        child.cache = child._copy_cache(self.cache)
        child.words.between = child.let_others_go_on
        fork.release_locks()
        child.bus.after_fork_in_child()
        child.cache.after_fork_in_child()
        if child.bus.has_callbacks:
            child.bus.start()
        return child

    def _copy_bus(self, parent: SimBus) -> SimBus:
        """The parent's memory, as the child finds it."""
        bus = copy.copy(parent)
        bus.clock = self.clock
        bus._link = SimLink(self)
        bus._publisher = copy.copy(parent._publisher)
        bus._publisher._link = bus._link
        bus._caches = WeakList()
        bus._callbacks = dict(parent._callbacks)
        self._adopt(bus)
        bus._hearing = hearing = copy.copy(parent._hearing)
        hearing.process = self
        hearing._clock, hearing._link, hearing._audience = self.clock, bus._link, bus
        hearing._make_subscription = bus._make_subscription
        hearing._lock = Lock()
        if hearing._listener is not None:
            hearing._listener = copy.copy(hearing._listener)
            hearing._listener._connection = _InheritedConnection() if self.connection else None
        hearing.own = hearing.view = copy.copy(parent.ledger)
        hearing.own.words = bus.watched = self.words
        hearing.own._holds = copy.deepcopy(parent.ledger._holds)
        hearing.own.lock = SectionLock(self.words)
        return bus

    def _copy_cache(self, parent: NearCache) -> NearCache:
        cache = copy.copy(parent)
        cache.bus = self.bus
        cache._rule = self.bus.make_rule()
        cache._still_holds = cache._rule.still_holds
        cache._store = Store(self.world.setup.maxsize)
        for key, entry in parent._store._entries.items():
            cache._store._entries[key] = copy.copy(entry)
        cache._by_key = cache._store.by_key
        cache._clock = self.bus.clock
        cache._counts, cache._evictions = dict(parent._counts), dict(parent._evictions)
        cache._lock = Lock()
        self.bus.attach(cache)
        return cache


class _InheritedConnection:
    """A descriptor that a child has inherited."""

    def close(self) -> None:
        """The parent's connection lives on."""


def _nothing() -> None:
    pass


def _new_memory() -> array[int]:
    return array("q", bytes(8 * (HEADER_WORDS + SLOTS)))
