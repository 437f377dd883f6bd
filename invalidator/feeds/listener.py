"""
Carries out what a subscription decides, over a link, into a ledger.

`protocol/subscription.py` decides; this module decides nothing. Its work is a generator of steps that a thread drives
(`steps.py`). The thread may die, starve, or be stopped at any line: every read checks the lease, so nobody needs to
notice.

Rule 1: whatever is raised in here, by a frame, an effect, the ledger or the audience, is a failure: it is counted,
logged, and flushed for, and the listener connects anew. Only a greenlet that is killed ends. Who fills next sees that
(`has_ended`), and starts another.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from enum import Enum
from random import Random
from typing import NamedTuple, Protocol

from ..config import Config
from ..errors import LinkDown
from ..ledger import Clock, Ledger
from ..link import Connection, Link
from ..message import Body
from ..names import name_slots, redis_names
from ..protocol.effects import Apply, Disconnect, Effect, Effects, Enter, Flush, Listen, Move, Prove, Refuse, Send
from ..protocol.frames import Frame
from ..protocol.journal import Journal, write_journal
from ..protocol.states import State
from ..protocol.subscription import Subscription
from ..steps import MakeWorker, Pause, Steps, ThreadWorker
from .count_throttle import CountThrottle

log = logging.getLogger("invalidator.listener")

QUIET_NS = 60 * 1_000_000_000
"""A reason that comes again and again is logged once in this time."""


class Audience(Protocol):
    """What a listener notifies of each message and each flush: from its own thread, after the ledger was written."""

    def invalidated(self, body: Body, id: str, now: int) -> None:
        """A message was applied to the ledger, at *now*."""

    def listening(self, now: int) -> None:
        """What is published is received from *now* on, for the first time; what was published before was not."""

    def flushed(self, reason: str, now: int) -> None:
        """Everything in the ledger was voided, at *now*."""


class Act(Enum):
    """A step of a listener, besides the effects that it carries out."""

    CONNECT = "open a connection"
    SETTLE = "count what was stamped, record the position, then notify the audience"
    HANG_UP = "close the connection"


class Receive(NamedTuple):
    """A step of a listener: wait for frames until this time (nanoseconds), then go on."""

    until: int


class Listener:
    """
    Keeps one ledger up to date with one subscription, from a thread of its own.

    Args:
        subscription: decides what to do.
        link: the way to the server.
        ledger: written by the listener, and by the process' own invalidations.
        audience: notified of what was applied.
        clock: the ledger's.
        throttle: spaces out the counts of the ledger.
        make_worker: makes what drives the steps.
    """

    def __init__(
        self,
        subscription: Subscription,
        link: Link,
        ledger: Ledger,
        audience: Audience,
        clock: Clock,
        throttle: CountThrottle | None = None,
        make_worker: MakeWorker = ThreadWorker,
    ) -> None:
        self.subscription = subscription
        self.turned_at = 0
        """When the thread last finished a turn. If that is long past, it is stuck or dead."""
        self.has_ended = False
        """Whether the thread takes no further steps."""
        self._link = link
        self._ledger = ledger
        self._audience = audience
        self._clock = clock
        self._throttle = throttle or CountThrottle()
        self._connection: Connection | None = None
        self._closing = threading.Event()
        self._proven = threading.Condition()
        self._thread: int | None = None
        self._logged: dict[str, int] = {}
        # Stored, but not settled yet.
        self.is_uncounted = False
        """Whether a stamp is in the ledger that its count does not show to readers yet."""
        self._moved: Journal | None = None
        self._applied: list[tuple[Body, str, int]] = []
        self._worker = make_worker("invalidator-listener", self.steps())

    def start(self) -> None:
        """Start the thread."""
        self.turned_at = self._clock()
        self._worker.start()

    def is_this_thread(self) -> bool:
        """Whether the caller runs in the listener's own thread, as callbacks do."""
        return self._thread == threading.get_ident()

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """
        Wait until *is_so* returns True, at most *timeout_s* seconds and not beyond `close`, and return what it returned
        last. It is called now, after every proof, and after every connection that failed.
        """
        with self._proven:
            self._proven.wait_for(lambda: is_so() or self._closing.is_set(), timeout_s)
            return is_so()

    def close(self, timeout_s: float) -> bool:
        """
        Stop, and let the lease run out. Wait for the end of the thread, at most *timeout_s* seconds, and return whether
        it has ended. (A thread that closes itself has not.)
        """
        self._closing.set()
        self._wake_waiters()  # there will be no further proof
        connection = self._connection
        if connection is not None:
            connection.interrupt()
        return self._worker.join(timeout_s)

    def _wake_waiters(self) -> None:
        with self._proven:
            self._proven.notify_all()

    def close_connection(self) -> None:
        """Close the descriptor of a listener whose thread is not here. In a forked child, the parent's stays open."""
        if self._connection is not None:
            self._connection.close()

    # The steps.

    def steps(self) -> Steps:
        """
        Everything there is to do until `close`. A step is an effect of the subscription, an `Act`, a `Receive` or a
        `Pause`; `invalidator.steps` says how to take them.
        """
        self._thread = threading.get_ident()
        try:
            yield from self._listen()
        finally:
            self.has_ended = True

    def _listen(self) -> Steps:
        while not self._closing.is_set():
            self.turned_at = self._clock()
            yield from self._carry_out(self.subscription.connecting(self.turned_at))
            reason = "closed"
            try:
                yield from self._converse()
            except LinkDown as error:
                reason = str(error)
            except BaseException as error:
                if _asks_to_end(error):
                    raise
                reason = f"{type(error).__name__}: {error}"
                self.subscription.tally.failures += 1
                self._log(logging.ERROR, "listener failed", reason, exc_info=True)
                yield from self._void(f"the listener failed ({type(error).__name__})")
            yield Act.HANG_UP
            self._hang_up()
            yield None
            if not self._closing.is_set():
                yield from self._carry_out(self.subscription.disconnected(reason, self._clock()))
                self._wake_waiters()
                yield Pause(max(0, self.subscription.retry_at - self._clock()) / 1e9, unless=self._closing)
        yield from self._carry_out(self.subscription.close())

    def _void(self, reason: str) -> Steps:
        try:
            yield from self._carry_out(self.subscription.failed(reason, self._clock()))
        except BaseException as error:
            if _asks_to_end(error):
                raise
            self._log(logging.ERROR, "audience failed after a flush", type(error).__name__, exc_info=True)

    def _converse(self) -> Steps:
        """Connect, and talk until `close`, or until the connection ends, which raises LinkDown. Settles at the end."""
        yield Act.CONNECT
        connection = self._connection = self._link.connect()
        yield None
        yield from self._and_then(self._settle, self._talk(connection))

    def _talk(self, connection: Connection) -> Steps:
        yield from self._carry_out(self.subscription.connected(self._clock()))
        while not self._closing.is_set():
            until = self._next_turn()
            yield Receive(until)
            frames = connection.receive(max(0, until - self._clock()) / 1e9)
            yield None
            yield from self._carry_out(self._receive(frames))
            self.turned_at = self._clock()
            yield from self._carry_out(self.subscription.tick(self.turned_at))

    def _next_turn(self) -> int:
        """When there is something to do, even if nothing arrives."""
        next_tick = self.subscription.next_tick()
        return min(next_tick, self._throttle.due()) if self.is_uncounted else next_tick

    def _receive(self, frames: Sequence[Frame]) -> Effects:
        for frame in frames:
            yield from self.subscription.received(frame, self._clock())

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _carry_out(self, effects: Effects) -> Steps:
        return self._and_then(self._settle_in_time, self._carry_out_each(effects))

    def _carry_out_each(self, effects: Effects) -> Steps:
        for effect in effects:
            yield effect
            self._carry_out_one(effect)
            yield None

    @staticmethod
    def _and_then(settle: Callable[[], None], steps: Steps) -> Steps:
        """Take *steps*, then *settle*, even if one of them fails."""
        # Not `finally`: a generator that is abandoned in the middle must neither yield nor settle.
        try:
            yield from steps
        except BaseException as error:
            if _asks_to_end(error):
                raise
            yield Act.SETTLE
            settle()
            yield None
            raise
        yield Act.SETTLE
        settle()
        yield None

    def _carry_out_one(self, effect: Effect) -> None:
        match effect:
            case Send(commands):
                assert self._connection is not None
                self._connection.send(commands)
            case Apply(body, id, own):
                self._apply(body, id, own=own)
            case Move(journal):
                self._moved = journal
            case Prove(at):
                self._settle()
                self._ledger.prove(at)
                self._wake_waiters()
            case Listen():
                now = self._clock()
                self._ledger.listen(now)
                self._audience.listening(now)
            case Flush(reason):
                self._settle()
                now = self._clock()
                self._ledger.flush(now)
                self._log(logging.INFO, "flushed", reason)
                self._audience.flushed(reason, now)
            case Disconnect(reason):
                raise LinkDown(reason)
            case Refuse(reason):
                self._log(logging.WARNING, "message refused", reason)
            case Enter(state, reason):
                self._log_state(state, reason)

    def _apply(self, body: Body, id: str, *, own: bool) -> None:
        now = self._clock()
        # Our own names were stamped before they were published; stamping them again would void what was loaded since.
        if not own:
            apply_to_ledger(self._ledger, body, now, count=False)
            self._throttle.stamped(now)
            self.is_uncounted = True
        self._applied.append((body, id, now))

    def _settle_in_time(self) -> None:
        """
        `_settle`, once for everything that was read in one piece, and in a storm only when the throttle allows it. A
        proof, a flush or the end of the connection may settle earlier; at the latest the next turn does.
        """
        if not self.is_uncounted or self._throttle.due() <= self._clock():
            self._settle()

    def _settle(self) -> None:
        """Finish what was carried out: count the stamps, record the position, then notify the audience."""
        if self.is_uncounted:
            self.is_uncounted = False
            self._throttle.counted(self._clock())
            self._ledger.touch()
        if self._moved is not None:
            write_journal(self._ledger, self._moved)
            self._moved = None
        applied, self._applied = self._applied, []
        for body, id, now in applied:
            self._audience.invalidated(body, id, now)

    def _log_state(self, state: State, reason: str) -> None:
        if state is State.LIVE:
            self._log(logging.INFO, "live", "")
        elif reason and state is State.CONNECTING:
            self._log(logging.WARNING, "disconnected", reason)
        else:
            log.debug("%s channel=%s reason=%r", state, self.subscription.names.channel, reason)

    def _log(self, level: int, event: str, reason: str, *, exc_info: bool = False) -> None:
        """Log an event once per reason and `QUIET_NS`, so that an outage of an hour is not a thousand lines."""
        now = self._clock()
        key = f"{event} {reason.partition(':')[0]}"
        if now < self._logged.get(key, 0):
            return
        if len(self._logged) >= 100:
            self._logged.clear()
        self._logged[key] = now + QUIET_NS
        log.log(
            level,
            "%s channel=%s%s",
            event,
            self.subscription.names.channel,
            f" reason={reason!r}" if reason else "",
            exc_info=exc_info,
        )


def _asks_to_end(error: BaseException) -> bool:
    """Whether the steps are to end here: they are abandoned, or gevent kills the greenlet that takes them."""
    return any(kind.__name__ in ("GeneratorExit", "GreenletExit") for kind in type(error).__mro__)


def make_listener(
    config: Config,
    link: Link,
    ledger: Ledger,
    audience: Audience,
    *,
    node: str,
    clock: Clock,
    journal: Journal | None,
    random: Random | None = None,
    throttle: CountThrottle | None = None,
    make_worker: MakeWorker = ThreadWorker,
) -> Listener:
    """
    Return a listener of the namespace that *config* names, with a subscription of its own.

    Args:
        node: the id by which this process recognizes the messages that it published itself.
        journal: how far an earlier listener of *ledger* has applied which journal, if there was one.
        random: draws the delays between reconnects.
    """
    names = redis_names(config.namespace)
    subscription = Subscription(
        names,
        node=node,
        proof_interval_ns=config.proof_interval_ns,
        answer_timeout_ns=config.answer_timeout_ns,
        open_journal=link.open_journal(names, config.journal_length),
        journal=journal,
        random=random,
    )
    return Listener(subscription, link, ledger, audience, clock, throttle, make_worker)


def apply_to_ledger(ledger: Ledger, body: Body, now: int, *, count: bool = True) -> None:
    """Carry out a message in *ledger*. Without *count*, the caller has to call `Ledger.touch` afterwards."""
    slots = name_slots(body.keys, body.tags, ledger.slots)
    match body.op:
        case "clear":
            ledger.flush(now)
        case "invalidate":
            ledger.stamp(slots, now, count=count)
        case "hold":
            ledger.hold(slots, body.owner, now + body.for_ms * 1_000_000, now, count=count)
        case "release":
            ledger.release(slots, body.owner, now, count=count)
