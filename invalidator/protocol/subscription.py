"""
One subscription, from its first connection to its end, as a state machine.

Nothing here does I/O or looks at the time. The owner (a `Listener`) calls `connected`, `received`, `disconnected` and
`tick` with what happened and when. Each returns effects, which the owner carries out in order, before its next call.

All commands go through the subscription's own connection (RESP3, where a subscriber may run any command). Redis
answers the commands of one connection in order. Everything below rests on that:

Rule 1: the confirmation of the subscription is read before any answer about the journal. Whatever is published later
arrives live; whatever was published earlier is in the journal that is read afterwards. So a live message that arrives
during a replay can be dropped: a later page of the replay has it. If none has, the journal was deleted meanwhile.
Rule 2: `position` moves along the chain (an entry names `position` as its predecessor), or together with a flush, or
when a ledger that never had one begins to listen. Nothing else moves it.
Rule 3: a proof is dated by the time at which its PING was *sent*, and exists only if the subscription was live when the
PONG was read.
Rule 4: when in doubt, flush. A cold cache is slow; a stale one is wrong.
Rule 5: `TRANSITIONS` has every change of `state`.
Rule 6: a ledger begins to listen when the answer with the last id has been read, not when the subscription was
confirmed: what arrived in between was dropped (rule 1), and the position jumps over it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, NamedTuple

from ..errors import InvalidMessage
from ..message import decode, open_envelope
from ..names import RedisNames, fingerprint
from .effects import Apply, Disconnect, Effects, Enter, Flush, Listen, Move, Prove, Refuse, Send
from .frames import Command, Failure, Frame, Push, parse_info, to_text
from .journal import Journal
from .states import TRANSITIONS, State

PAGE = 200
"""Entries of the journal read at once: at most 4 MiB of bodies."""
JOURNAL_ATTEMPTS = 3
"""How often to begin a journal before the connection is given up: somebody deletes it as fast as it is written."""
FIRST_RETRY_NS = 20_000_000
LAST_RETRY_NS = 2_000_000_000
"""
A reconnect waits for a random part of a window, which doubles from the first value to the last ("full jitter", AWS
Architecture Blog, 2015).
"""
MAX_UNANSWERED_PROOFS = 64


@dataclass(slots=True)
class Happening:
    """An event of the past: why it happened, and when (nanoseconds)."""

    reason: str
    at: int


@dataclass(slots=True)
class Tally:
    """What happened so far, for status and metrics."""

    received: int = 0
    flushes: int = 0
    replays: int = 0
    reconnects: int = 0
    failures: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    last_disconnect: Happening | None = None
    last_flush: Happening | None = None
    last_gap: Happening | None = None
    last_error: str | None = None


class _Awaited(NamedTuple):
    """An answer that is due: what to do with it, and when its command was sent."""

    handle: Callable[[Any, int], Effects]
    sent_at: int
    failure_is_an_answer: bool = False


class Subscription:
    """
    One subscription of one node to one namespace.

    Args:
        names: what the namespace is called in Redis.
        node: this node's id, by which it recognizes the messages that it published itself.
        proof_interval_ns: how often to send a PING.
        answer_timeout_ns: how long to wait for any answer before the connection is given up.
        open_journal: the command that begins a journal where there is none.
        journal: how far an earlier subscription for the same ledger applied which journal, if there was one.
        random: draws the delays between reconnects.

    Attributes:
        retry_at: when to connect again after `disconnected` (nanoseconds).
    """

    def __init__(
        self,
        names: RedisNames,
        *,
        node: str,
        proof_interval_ns: int,
        answer_timeout_ns: int,
        open_journal: Command,
        journal: Journal | None = None,
        random: Random | None = None,
    ) -> None:
        self.names = names
        self.node = node
        self.state = State.IDLE
        self.tally = Tally()
        self.journal = journal
        self.retry_at = 0
        self._channel = names.channel.encode()
        self._proof_interval_ns = proof_interval_ns
        self._answer_timeout_ns = answer_timeout_ns
        self._open_journal = open_journal
        self._has_listened = journal is not None
        self._random = random or Random()
        self._attempts = 0
        self._next_proof_at = 0
        self._begin_connection()

    def _begin_connection(self) -> None:
        self._awaited: deque[_Awaited] = deque()
        self._server = 0
        self._why_no_server = ""
        self._epoch = 0
        self._last_id = ""
        self._asked_after = ""
        self._dropped_id = ""
        self._subscribed = False
        self._can_ask_role = True
        self._openings = 0
        self._turn = 0
        self._received_at = 0

    @property
    def is_failing(self) -> bool:
        """Whether a connection has ended, or could not be opened, since this was live."""
        return self._attempts > 0

    # What happens.

    def connecting(self, now: int) -> Effects:
        """Call before a connection is opened."""
        yield from self._enter(State.CONNECTING, "")

    def connected(self, now: int) -> Effects:
        """Call with a new connection. Everything is asked in one piece, so that recovery costs one round trip."""
        self._begin_connection()
        yield from self._enter(State.SUBSCRIBING, "")
        self._await(self._on_info, now, failure_is_an_answer=True)
        yield Send((("INFO",), ("SUBSCRIBE", self.names.channel), *self._ask_journal(now)))

    def received(self, frame: Frame, now: int) -> Effects:
        """Call with each frame that was read."""
        self._received_at = now
        if isinstance(frame, Push):
            yield from self._on_push(frame, now)
            return
        if not self._awaited:
            yield Disconnect("the server answered what was not asked")
            return
        awaited = self._awaited.popleft()
        if isinstance(frame, Failure) and not awaited.failure_is_an_answer:
            yield Disconnect(frame.text)
            return
        yield from awaited.handle(frame if isinstance(frame, Failure) else frame.value, now)

    def disconnected(self, reason: str, now: int) -> Effects:
        """Call when the connection was lost or closed, or could not be opened. Connect again at `retry_at`."""
        if self.state is State.CLOSED:
            return
        if self.state is not State.CONNECTING:
            self.tally.reconnects += 1
            self.tally.last_disconnect = Happening(reason, now)
        self.tally.last_error = reason
        self._begin_connection()
        window = min(LAST_RETRY_NS, FIRST_RETRY_NS << min(self._attempts, 16))
        self.retry_at = now + int(self._random.random() * window)
        self._attempts += 1
        yield from self._enter(State.CONNECTING, reason)

    def tick(self, now: int) -> Effects:
        """
        Call at `next_tick` at the latest, after every frame that has arrived was passed to `received`.
        """
        if self.state in (State.IDLE, State.CONNECTING, State.CLOSED):
            return
        if self._awaited and now >= self._answer_due_at():
            yield Disconnect(f"no answer for {(now - self._awaited[0].sent_at) / 1e9:.1f} s")
        elif now >= self._next_proof_at and len(self._awaited) < MAX_UNANSWERED_PROOFS:
            yield Send(self._ask_proof(now))

    def next_tick(self) -> int:
        """When `tick` has something to do (nanoseconds)."""
        if len(self._awaited) >= MAX_UNANSWERED_PROOFS:
            return self._answer_due_at()
        return min(self._next_proof_at, self._answer_due_at()) if self._awaited else self._next_proof_at

    def _answer_due_at(self) -> int:
        # A server that sends a storm of messages is not silent, though the answer is still far behind them.
        return max(self._awaited[0].sent_at, self._received_at) + self._answer_timeout_ns

    def failed(self, reason: str, now: int) -> Effects:
        """Call when an effect could not be carried out; then call `disconnected`."""
        yield from self._flush(reason, now)

    def close(self) -> Effects:
        """Call at the end. Nothing follows."""
        yield from self._enter(State.CLOSED, "closed")

    # Asking.

    def _ask_journal(self, now: int) -> tuple[Command, ...]:
        """Begin a turn of questions about the journal. Answers to earlier turns are ignored from now on."""
        self._turn += 1
        self._asked_after = self.journal.position if self.journal else ""
        self._dropped_id = ""  # `_last_id` will show whether the journal still has what was dropped until now
        self._await(self._on_epoch, now)
        self._await(partial(self._on_last, turn=self._turn), now)
        self._await(self._on_holds, now)
        asked: tuple[Command, ...] = (
            ("GET", self.names.epoch),
            ("XREVRANGE", self.names.journal, "+", "-", "COUNT", 1),
            ("ZRANGE", self.names.holds, 0, -1),
        )
        return (*asked, *(self._ask_page(now) if self.journal else self._ask_proof(now)))

    def _ask_page(self, now: int) -> tuple[Command, ...]:
        """The next page, and a PING behind it: if this page is the last, its PONG is a proof."""
        assert self.journal is not None
        self._await(partial(self._on_page, turn=self._turn), now)
        page: Command = ("XRANGE", self.names.journal, f"({self.journal.position}", "+", "COUNT", PAGE)
        return (page, *self._ask_proof(now))

    def _ask_proof(self, now: int) -> tuple[Command, ...]:
        self._next_proof_at = now + self._proof_interval_ns
        asked: list[Command] = []
        if self._can_ask_role:
            self._await(self._on_role, now, failure_is_an_answer=True)
            asked.append(("ROLE",))
        token = str(now)
        self._await(partial(self._on_pong, token=token, sent_at=now), now)
        asked.append(("PING", token))
        return tuple(asked)

    def _await(self, handle: Callable[[Any, int], Effects], now: int, *, failure_is_an_answer: bool = False) -> None:
        self._awaited.append(_Awaited(handle, now, failure_is_an_answer))

    # Answers.

    def _on_info(self, answer: bytes | str | Failure, now: int) -> Effects:
        if isinstance(answer, Failure):
            self._why_no_server = f"INFO refused: {answer.text}"
            self.tally.last_error = self._why_no_server
            return
        info = parse_info(answer)
        # A server that was demoted and promoted again is the same run, with another history: it has drawn a new
        # replication id.
        self._server = fingerprint("/".join(info[field] for field in ("run_id", "master_replid") if field in info))
        self._why_no_server = "" if self._server else "INFO names no run_id"
        if info.get("role", "master") != "master":
            yield Disconnect(f"this server is a {info['role']}: subscribe to the primary, which takes the publishes")
        elif info.get("cluster_enabled") == "1":
            yield Disconnect("this server is a cluster node: cluster mode is not supported yet")

    def _on_role(self, answer: Sequence[bytes | str] | Failure, now: int) -> Effects:
        if isinstance(answer, Failure):
            self._can_ask_role = False
        elif to_text(answer[0]) != "master":
            yield Disconnect(f"this server has become a {to_text(answer[0])}: subscribe to the primary")

    def _on_epoch(self, answer: bytes | str | None, now: int) -> Effects:
        self._epoch = 0 if answer is None else fingerprint(to_text(answer))
        yield from ()

    def _on_holds(self, answer: Sequence[bytes], now: int) -> Effects:
        """Apply the holds that were announced while this node was not subscribed, and are still in force."""
        for data in answer:
            yield from self._apply(data, "", now)

    def _on_last(self, answer: Sequence[Any], now: int, *, turn: int) -> Effects:
        if turn != self._turn:
            return
        self._last_id = to_text(answer[0][0]) if answer else ""
        if self.state is State.SUBSCRIBING:
            if not self._subscribed:
                yield Disconnect("the server answered about the journal before it confirmed the subscription")
                return
            yield from self._enter(State.REPLAYING, "")
        if not self._last_id or not self._epoch:
            yield from self._begin_journal(now)
        elif not self._has_listened:
            yield from self._begin_to_listen()
        elif reason := self._why_not_replay():
            yield from self._start_over(reason, now)

    def _why_not_replay(self) -> str:
        """Why a replay from `position` could be incomplete; "" if it cannot."""
        if self.journal is None:
            return "the journal or its epoch was missing"
        if not self._server:
            return f"cannot tell whether the server restarted ({self._why_no_server})"
        if self.journal.server != self._server:
            return "the server restarted or failed over" if self.journal.server else "the server was unknown before"
        if self.journal.epoch != self._epoch:
            return "the journal was begun anew"
        return ""

    def _begin_journal(self, now: int) -> Effects:
        """Write the first entry of a journal and ask again, since an empty journal proves nothing."""
        if self._openings == JOURNAL_ATTEMPTS:
            yield Disconnect("the journal disappears as fast as it is written")
            return
        self._openings += 1
        self.journal = None  # the journal that it was about is gone
        self._await(self._on_opened, now)
        yield Send((self._open_journal, *self._ask_journal(now)))

    def _on_opened(self, answer: Any, now: int) -> Effects:
        yield from ()

    def _begin_to_listen(self) -> Effects:
        """Nobody has listened for this ledger before: go on from `_last_id` (rule 6)."""
        yield Listen()
        self._has_listened = True
        yield from self._move(self._last_id)
        yield from self._go_live()

    def _start_over(self, reason: str, now: int) -> Effects:
        """
        Flush, since what was missed cannot be known, and go on from `_last_id`. The flush covers everything that was
        published before the answer with that id.
        """
        yield from self._flush(reason, now)
        yield from self._move(self._last_id)
        yield from self._go_live()

    def _on_page(self, answer: Sequence[Any], now: int, *, turn: int) -> Effects:
        if turn != self._turn or self.journal is None or self.state is not State.REPLAYING:
            return  # it was asked before the decision to start over
        if not answer and self.journal.position != self._last_id:
            if self.journal.position == self._asked_after:
                yield from self._start_over("the journal ends before our position", now)
            else:
                # The page before was full and the last, and the journal has grown since it named its last id.
                yield Send(self._ask_journal(now))
            return
        for id, fields in answer:
            yield from self._replay(to_text(id), _fields(fields), now)
        if len(answer) == PAGE:
            yield Send(self._ask_page(now))
        elif self._dropped_id:
            yield Send(self._ask_journal(now))  # which was deleted, and perhaps begun anew
        else:
            self.tally.replays += 1
            yield from self._go_live()

    def _replay(self, id: str, fields: dict[str, bytes], now: int) -> Effects:
        assert self.journal is not None
        if to_text(fields.get("p", b"")) != self.journal.position:
            # After the flush, go on along the chain from here: it may be whole again.
            yield from self._flush("the chain is broken: the journal was trimmed past us, deleted or rolled back", now)
        yield from self._apply(fields.get("m", b""), id, now)
        yield from self._move(id)
        if id == self._dropped_id:
            self._dropped_id = ""

    def _go_live(self) -> Effects:
        self._attempts = 0
        self._openings = 0
        self.tally.last_error = self._why_no_server or None
        yield from self._enter(State.LIVE, "")

    def _on_pong(self, answer: bytes | str, now: int, *, token: str, sent_at: int) -> Effects:
        if to_text(answer) != token:
            yield Disconnect("a PONG does not answer its PING")
        elif self.state is State.LIVE:
            yield Prove(sent_at)

    # Messages.

    def _on_push(self, push: Push, now: int) -> Effects:
        if push.channel != self._channel:
            self.tally.refused["foreign channel"] += 1
        elif push.kind == b"subscribe":
            self._subscribed = True
        elif push.kind == b"message":
            self.tally.received += 1
            yield from self._on_message(push.payload, now)
        elif push.kind == b"unsubscribe":
            yield Disconnect("the server ended the subscription")

    def _on_message(self, payload: bytes, now: int) -> Effects:
        try:
            envelope = open_envelope(payload)
        except InvalidMessage as error:
            yield from self._refuse(str(error), now)
            return
        if not envelope.id:
            yield from self._apply(envelope.body, "", now)  # no journal has it, so no replay will bring it
        elif self.state is not State.LIVE or self.journal is None:
            self._dropped_id = envelope.id  # rule 1
        elif envelope.predecessor == self.journal.position:
            yield from self._apply(envelope.body, envelope.id, now)
            yield from self._move(envelope.id)
        else:
            # Also if the id equals `position`: a journal that was deleted and begun anew in the same millisecond, or
            # after the server's clock was set back, assigns the same ids again.
            self.tally.last_gap = Happening(f"after {self.journal.position} came {envelope.predecessor}", now)
            yield from self._enter(State.REPLAYING, "gap")
            yield Send(self._ask_journal(now))

    def _apply(self, data: bytes, id: str, now: int) -> Effects:
        try:
            body = decode(data)
        except InvalidMessage as error:
            yield from self._refuse(str(error), now)
            return
        if body.op != "epoch":
            yield Apply(body, id, own=body.node == self.node)

    def _refuse(self, reason: str, now: int) -> Effects:
        """Flush, since a message that cannot be read may have been an invalidation."""
        self.tally.refused[reason.partition(":")[0]] += 1
        yield Refuse(reason)
        yield from self._flush(f"unreadable message ({reason.partition(':')[0]})", now)

    # Changes.

    def _flush(self, reason: str, now: int) -> Effects:
        self.tally.flushes += 1
        self.tally.last_flush = Happening(reason, now)
        yield Flush(reason)

    def _move(self, position: str) -> Effects:
        self.journal = Journal(position, self._server, self._epoch)
        yield Move(self.journal)

    def _enter(self, state: State, reason: str) -> Effects:
        if state not in TRANSITIONS[self.state]:
            if state is State.CLOSED:
                return
            raise AssertionError(f"{self.state} -> {state}: not in TRANSITIONS")
        self.state = state
        yield Enter(state, reason)


def _fields(flat: Sequence[bytes]) -> dict[str, bytes]:
    """Return the fields of a stream entry, which Redis sends as a flat list in RESP3, too."""
    return {to_text(name): value for name, value in zip(flat[::2], flat[1::2], strict=False)}
