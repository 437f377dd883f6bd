"""
The thread that drives a subscription over a link into a ledger.

It carries out what `protocol/subscription.py` decides, and decides nothing itself. It may die, starve, or be stopped
at any line: every read checks the lease, so that nobody needs to notice.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from .errors import LinkDown
from .ledger import Clock, Ledger
from .link import Connection, Link
from .message import Body
from .names import name_slots
from .pace import Pace
from .protocol.effects import Apply, Disconnect, Effect, Effects, Enter, Flush, Move, Prove, Refuse, Send
from .protocol.frames import Frame
from .protocol.journal import Journal, write_journal
from .protocol.states import State
from .protocol.subscription import Subscription

log = logging.getLogger("invalidator.listener")

QUIET_NS = 60 * 1_000_000_000
"""A reason that comes again and again is logged once in this time."""


class Audience(Protocol):
    """Who wants to know what was applied: called by the listener's thread, after the ledger was stamped."""

    def invalidated(self, body: Body, id: str, now: int) -> None:
        """A message was applied."""

    def flushed(self, reason: str, now: int) -> None:
        """The ledger was voided."""


class Listener:
    """
    One thread, one subscription, one ledger.

    Args:
        subscription: decides.
        link: the way to the server.
        ledger: written here, and by the process' own invalidations.
        audience: told what was applied.
        clock: that of the ledger.
        pace: of the ledger's count.
    """

    def __init__(
        self,
        subscription: Subscription,
        link: Link,
        ledger: Ledger,
        audience: Audience,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self.subscription = subscription
        self.turned_at = 0
        """When the thread last came round: long past, it is stuck or dead."""
        self._link = link
        self._ledger = ledger
        self._audience = audience
        self._clock = clock
        self._pace = pace or Pace()
        self._connection: Connection | None = None
        self._closing = threading.Event()
        self._proven = threading.Condition()
        self._logged: dict[str, int] = {}
        # Stored, but not settled yet.
        self._is_uncounted = False
        self._moved: Journal | None = None
        self._heard: list[tuple[Body, str, int]] = []
        self._thread = threading.Thread(target=self._run, name="invalidator-listener", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self.turned_at = self._clock()
        self._thread.start()

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """
        Wait until *is_so*, which is asked again after every proof, at most *timeout_s* seconds. Returns what it said
        last.
        """
        with self._proven:
            return self._proven.wait_for(is_so, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """
        Stop listening. The lease runs out. Returns whether the thread has ended, at most *timeout_s* seconds later (one
        that closes itself has not).
        """
        self._closing.set()
        connection = self._connection
        if connection is not None:
            connection.interrupt()
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def let_go(self) -> None:
        """In a forked child: close the inherited descriptor. The parent's connection lives on."""
        if self._connection is not None:
            self._connection.close()

    # The thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            self.turned_at = self._clock()
            self._carry_out(self.subscription.connecting(self.turned_at))
            try:
                self._connection = self._link.connect()
                self._converse()
            except LinkDown as error:
                reason = str(error)
            except Exception as error:
                # A bug of ours must not end the listening: void what it may have missed, and begin again.
                log.exception("listener failed channel=%s", self.subscription.names.channel)
                reason = f"{type(error).__name__}: {error}"
                self._void(f"the listener failed ({type(error).__name__})")
            else:
                reason = "closed"
            self._hang_up()
            if not self._closing.is_set():
                self._carry_out(self.subscription.disconnected(reason, self._clock()))
                self._closing.wait(max(0, self.subscription.retry_at - self._clock()) / 1e9)
        self._carry_out(self.subscription.close())

    def _void(self, reason: str) -> None:
        try:
            self._carry_out(self.subscription.failed(reason, self._clock()))
        except Exception:
            log.exception("nobody could be told of a flush channel=%s", self.subscription.names.channel)

    def _converse(self) -> None:
        """Talk until we close, or the connection ends, which raises LinkDown. Leaves nothing unsettled."""
        connection = self._connection
        assert connection is not None
        try:
            self._carry_out(self.subscription.connected(self._clock()))
            while not self._closing.is_set():
                frames = connection.receive(max(0, self._next_turn() - self._clock()) / 1e9)
                self._carry_out(self._hear(frames))
                self.turned_at = self._clock()
                self._carry_out(self.subscription.tick(self.turned_at))
        finally:
            self._settle()

    def _next_turn(self) -> int:
        """When there is something to do, whether or not anything comes."""
        next_tick = self.subscription.next_tick()
        return min(next_tick, self._pace.due()) if self._is_uncounted else next_tick

    def _hear(self, frames: Sequence[Frame]) -> Effects:
        for frame in frames:
            yield from self.subscription.received(frame, self._clock())

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _carry_out(self, effects: Effects) -> None:
        try:
            for effect in effects:
                self._carry_out_one(effect)
        finally:
            self._settle_in_time()

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
                with self._proven:
                    self._proven.notify_all()
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
            self._pace.heard(now)
            self._is_uncounted = True
        self._heard.append((body, id, now))

    def _settle_in_time(self) -> None:
        """
        As `_settle`, once for all that was read in one piece; in a storm not before the pace allows it. Something else
        (a proof, a flush, the end of the connection) settles earlier, and `_next_turn` at the latest.
        """
        if not self._is_uncounted or self._pace.due() <= self._clock():
            self._settle()

    def _settle(self) -> None:
        """Finish what was carried out: count the stamps, move the position, then tell the audience."""
        if self._is_uncounted:
            self._is_uncounted = False
            self._pace.counted(self._clock())
            self._ledger.touch()
        if self._moved is not None:
            write_journal(self._ledger, self._moved)
            self._moved = None
        heard, self._heard = self._heard, []
        for body, id, now in heard:
            self._audience.invalidated(body, id, now)

    def _log_state(self, state: State, reason: str) -> None:
        if state is State.LIVE:
            self._log(logging.INFO, "live", "")
        elif reason and state is State.CONNECTING:
            self._log(logging.WARNING, "disconnected", reason)
        else:
            log.debug("%s channel=%s reason=%r", state, self.subscription.names.channel, reason)

    def _log(self, level: int, event: str, reason: str) -> None:
        """One line for each event and reason in a while: an outage of an hour is not a thousand lines."""
        now = self._clock()
        key = f"{event} {reason.partition(':')[0]}"
        if now < self._logged.get(key, 0):
            return
        if len(self._logged) >= 100:
            self._logged.clear()
        self._logged[key] = now + QUIET_NS
        log.log(
            level, "%s channel=%s%s", event, self.subscription.names.channel, f" reason={reason!r}" if reason else ""
        )


def apply_to_ledger(ledger: Ledger, body: Body, now: int, *, count: bool = True) -> None:
    """Carry out what *body* says in *ledger*. Without *count*, `Ledger.touch` has to follow."""
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
