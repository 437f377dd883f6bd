"""
The protocol against a server that does as it is told, without I/O and on a clock that stands still.

`Conversation` carries out every effect as the listener does, and writes down what it was told to do.
"""

from collections import deque
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invalidator.link import Post
from invalidator.link.memory import MemoryServer
from invalidator.message import Body, bodies, encode, seal_envelope
from invalidator.names import redis_names
from invalidator.protocol.effects import Apply, Disconnect, Enter, Flush, Listen, Move, Prove, Refuse, Send
from invalidator.protocol.frames import Failure, Frame, Push, Reply
from invalidator.protocol.journal import Journal
from invalidator.protocol.states import TRANSITIONS, State
from invalidator.protocol.subscription import (
    FIRST_RETRY_NS,
    JOURNAL_ATTEMPTS,
    LAST_RETRY_NS,
    MAX_UNANSWERED_PROOFS,
    PAGE,
    Subscription,
)
from tests.support import Clock, S

NAMES = redis_names("shop")
CHANNEL = NAMES.channel.encode()
INTERVAL = S // 2
TIMEOUT = S


class Server(MemoryServer):
    """A server that can be told to behave badly."""

    def __init__(self) -> None:
        tokens = count()
        super().__init__(clock_ms=lambda: 1_000, token=lambda: f"{next(tokens):032x}")
        self.answers: dict[str, Callable[[Any], Frame]] = {}

    def execute(self, command: Any, client: Any) -> None:
        if command[0] in self.answers:
            client(self.answers[command[0]](command))
        else:
            super().execute(command, client)

    def tell(self, *keys: str, node: str = "other", **names: Any) -> str:
        """Publish as another node does."""
        return self.publish(NAMES, 100_000, Post(bodies(node, keys, names.get("tags", ())))).id

    def info(self, **fields: str) -> None:
        """Answer INFO with these fields."""
        text = "".join(f"{name}:{value}\r\n" for name, value in fields.items())
        self.answers["INFO"] = lambda command: Reply(text.encode())

    @property
    def journal(self) -> list[Any]:
        return self.streams[NAMES.journal]


class Conversation:
    """One node and its server."""

    def __init__(self, server: Server, clock: Clock, *, journal: Journal | None = None) -> None:
        self.server, self.clock = server, clock
        self.arrived: deque[Frame] = deque()
        self.sent: list[Any] = []
        self.told: list[Any] = []
        self.subscription = Subscription(
            NAMES,
            node="me",
            proof_interval_ns=INTERVAL,
            answer_timeout_ns=TIMEOUT,
            open_journal=("OPEN", NAMES.journal, NAMES.epoch),
            journal=journal,
            random=Random(7),
        )
        self.down_because = ""

    # What the listener does.

    def carry_out(self, effects: Any) -> None:
        for effect in effects:
            self.told.append(effect)
            if isinstance(effect, Send):
                self.sent += effect.commands
                for command in effect.commands:
                    self.server.execute(command, self.arrived.append)
            elif isinstance(effect, Disconnect):
                self.down_because = effect.reason
                self.hang_up(effect.reason)
                return

    def connect(self) -> "Conversation":
        self.carry_out(self.subscription.connecting(self.clock()))
        self.carry_out(self.subscription.connected(self.clock()))
        return self

    def read(self, frames: int = 1_000_000) -> "Conversation":
        """Read what has arrived, up to some frames."""
        while self.arrived and frames:
            frames -= 1
            self.carry_out(self.subscription.received(self.arrived.popleft(), self.clock()))
        return self

    def tick(self) -> "Conversation":
        self.carry_out(self.subscription.tick(self.clock()))
        return self

    def hang_up(self, reason: str = "cut") -> "Conversation":
        self.server.forget(self.arrived.append)
        for subscribers in self.server.subscribers.values():
            subscribers.clear()
        self.arrived.clear()
        for effect in self.subscription.disconnected(reason, self.clock()):
            self.told.append(effect)
        return self

    def hold_back_answers(self) -> list[Frame]:
        """Let nothing arrive but messages. Returns what was taken out."""
        frames = list(self.arrived)
        self.arrived.clear()
        self.arrived.extend(frame for frame in frames if isinstance(frame, Push))
        return [frame for frame in frames if not isinstance(frame, Push)]

    def reconnect(self) -> "Conversation":
        """Come back after an outage, and forget what was told before it."""
        self.told.clear()
        return self.connect().read()

    # What was told.

    def those(self, kind: type) -> list[Any]:
        return [effect for effect in self.told if isinstance(effect, kind)]

    @property
    def keys(self) -> list[str]:
        return [key for effect in self.those(Apply) for key in effect.body.keys]

    @property
    def flushes(self) -> list[str]:
        return [effect.reason for effect in self.those(Flush)]

    @property
    def proofs(self) -> list[int]:
        return [effect.at for effect in self.those(Prove)]

    @property
    def state(self) -> State:
        return self.subscription.state

    @property
    def position(self) -> str | None:
        return self.subscription.journal.position if self.subscription.journal else None


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def talk(server: Server, clock: Clock) -> Conversation:
    """A node that has not connected yet."""
    return Conversation(server, clock)


@pytest.fixture
def live(talk: Conversation) -> Conversation:
    """A node that listens, and has told nothing since."""
    talk.connect().read()
    assert talk.state is State.LIVE
    talk.told.clear()
    talk.sent.clear()
    return talk


class TestFirstSubscription:
    def test_it_takes_its_place_in_the_journal_is_proven_and_voids_nothing(self, talk, server) -> None:
        """What was said before is unknown, and no proof will cover what is older; from here on nothing is missed."""
        last = server.tell("before")
        talk.connect().read()
        assert talk.state is State.LIVE
        assert (len(talk.those(Listen)), talk.flushes, talk.subscription.tally.flushes) == (1, [], 0)
        assert talk.position == last
        assert talk.keys == []
        assert talk.proofs == [talk.clock()]

    def test_an_empty_journal_is_begun(self, talk, server) -> None:
        """An empty journal proves nothing: whoever finds none writes its first entry."""
        talk.connect().read()
        assert len(server.journal) == 1
        assert talk.state is State.LIVE
        assert talk.position is not None
        assert (len(talk.those(Listen)), talk.flushes) == (1, [])

    def test_it_begins_with_the_answer_about_the_journal(self, talk, server) -> None:
        """
        Not with the confirmation: what arrives in between is dropped, and the position jumps over it. An entry that was
        loaded before it, and after the confirmation, would be leased though its invalidation was dropped.
        """
        talk.connect().read(1)  # INFO
        talk.read(1)
        server.tell("in between")
        talk.arrived.rotate(1)  # it overtakes the answers, as a push may
        talk.read(1)
        assert (talk.those(Listen), talk.those(Move), talk.keys) == ([], [], [])
        talk.read()
        assert [type(effect) for effect in talk.told if isinstance(effect, Listen | Move | Prove)] == [
            Listen,
            Move,
            Prove,
        ]

    def test_a_first_connection_that_ends_too_early_changes_nothing(self, talk, server) -> None:
        """The second is the first to listen."""
        talk.connect().read(2)
        talk.hang_up().reconnect()
        assert (len(talk.those(Listen)), talk.flushes) == (1, [])

    def test_there_is_only_one(self, live, server) -> None:
        """After an outage that lost the journal, what was leased until then is void, not only unleased."""
        server.streams.clear()
        live.hang_up().reconnect()
        assert live.those(Listen) == []
        assert live.flushes == ["the journal or its epoch was missing"]

    def test_it_is_failing_until_it_is_live_again(self, talk, clock) -> None:
        assert not talk.subscription.is_failing
        talk.connect().hang_up("refused")
        assert talk.subscription.is_failing
        talk.reconnect()
        assert not talk.subscription.is_failing

    def test_a_journal_without_an_epoch_is_given_one(self, talk, server) -> None:
        server.tell("before")
        del server.strings[NAMES.epoch]
        talk.connect().read()
        assert NAMES.epoch in server.strings
        assert talk.state is State.LIVE

    def test_a_journal_that_disappears_as_fast_as_it_is_written(self, talk, server) -> None:
        """We do not spin with the server; the connection is given up and tried again later."""
        server.answers["OPEN"] = lambda command: Reply([])
        talk.connect().read()
        assert "disappears" in talk.down_because
        assert talk.sent.count(("OPEN", NAMES.journal, NAMES.epoch)) == JOURNAL_ATTEMPTS
        assert talk.proofs == []

    def test_recovery_costs_one_round_trip(self, live) -> None:
        """Everything is asked in one piece, the proof included."""
        live.hang_up().connect()
        assert len([effect for effect in live.told if isinstance(effect, Send)]) == 1

    def test_the_subscription_is_asked_for_before_the_journal(self, talk) -> None:
        """Whatever is published after the one is live; whatever was before is in the other."""
        talk.connect()
        asked = [command[0] for command in talk.sent]
        assert asked.index("SUBSCRIBE") < asked.index("GET")
        assert asked.index("SUBSCRIBE") < asked.index("XREVRANGE")

    def test_an_answer_about_the_journal_before_the_confirmation_is_refused(self, talk, server) -> None:
        """Flushing or replaying before it leaves a window: what is published in between is heard by nobody."""
        talk.connect()
        answers = talk.hold_back_answers()
        talk.arrived.clear()
        talk.arrived.extend(answers)
        talk.read()
        assert "before it confirmed the subscription" in talk.down_because
        assert talk.flushes == []
        assert talk.proofs == []


class TestMessages:
    def test_a_message_is_applied_and_the_position_moves(self, live, server) -> None:
        id = server.tell("a", tags=("t",))
        live.read()
        [apply, move] = live.told
        assert apply == Apply(Body(v=1, node="other", keys=("a",), tags=("t",)), id, own=False)
        assert move.journal.position == live.position == id

    def test_it_is_applied_before_the_position_moves(self, live, server) -> None:
        """Whoever dies in between replays it; the other way round it would be lost."""
        server.tell("a")
        server.tell("b")
        live.read()
        assert [type(effect) for effect in live.told] == [Apply, Move, Apply, Move]

    def test_the_own_echo_is_marked(self, live, server) -> None:
        """A node that invalidates and reloads must not throw the fresh value away."""
        server.tell("a", node="me")
        live.read()
        assert [effect.own for effect in live.those(Apply)] == [True]

    def test_a_message_said_twice_is_applied_once(self, live, server) -> None:
        server.tell("a")
        live.arrived.append(live.arrived[-1])
        live.read()
        assert live.keys == ["a"]
        assert live.state is State.LIVE

    def test_a_bare_message_is_applied_at_once(self, live) -> None:
        """PUBLISH typed into redis-cli. It is in no journal: now or never, and the position stays."""
        before = live.position
        live.arrived.append(Push(b"message", CHANNEL, b'{"v":1,"keys":["a"]}'))
        live.read()
        assert live.keys == ["a"]
        assert live.position == before

    def test_even_while_replaying(self, live, server) -> None:
        live.hang_up()
        live.told.clear()
        live.connect()
        live.arrived.appendleft(Push(b"message", CHANNEL, b'{"v":1,"keys":["a"]}'))
        live.read()
        assert live.keys == ["a"]

    def test_an_epoch_is_no_invalidation(self, live) -> None:
        live.arrived.append(Push(b"message", CHANNEL, b'{"v":1,"op":"epoch"}'))
        live.read()
        assert live.told == []

    def test_holds_announced_while_we_were_away_are_applied(self, talk, server) -> None:
        """Not released yet, and perhaps no longer in the journal."""
        body = encode(Body(v=1, op="hold", node="other", owner="o", for_ms=5_000, keys=("a",)))
        server.publish(NAMES, 100_000, Post([body], hold_ms=5_000))
        talk.connect().read()
        assert talk.keys == ["a"]
        assert talk.told.index(talk.those(Apply)[0]) < talk.told.index(talk.those(Prove)[0])


class TestUnreadable:
    """Malformed, oversized and foreign: counted, flushed for if it could have been an invalidation; never raised."""

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"garbage", "malformed"),
            (b"", "malformed"),
            (b"{}", "malformed"),
            (b'{"v":2,"keys":["a"]}', "unknown version"),
            (b'{"v":1,"op":"forget"}', "malformed"),
            (b'{"v":1,"x":"' + b"x" * 70_000 + b'"}', "oversized"),
        ],
    )
    def test_it_is_counted_and_flushed_for(self, live, payload, reason) -> None:
        live.arrived.append(Push(b"message", CHANNEL, payload))
        live.read()
        assert live.flushes == [f"unreadable message ({reason})"]
        assert live.subscription.tally.refused == {reason: 1}
        assert [effect.reason.partition(":")[0] for effect in live.those(Refuse)] == [reason]
        assert live.state is State.LIVE

    def test_an_unreadable_body_in_the_chain_moves_the_position(self, live, server) -> None:
        """It is read once: the next message fits, and a replay does not find it again."""
        server.publish(NAMES, 100_000, Post([b'{"v":9}']))
        server.tell("a")
        live.read()
        assert len(live.flushes) == 1
        assert live.keys == ["a"]
        assert live.state is State.LIVE

    def test_a_foreign_channel_is_counted_and_nothing_else(self, live) -> None:
        """Nobody invalidates us there."""
        live.arrived.append(Push(b"message", b"another", b"garbage"))
        live.read()
        assert live.subscription.tally.refused == {"foreign channel": 1}
        assert live.told == []

    @given(st.lists(st.binary(max_size=40) | st.binary(max_size=20).map(lambda it: b"5-0 4-0 " + it), max_size=5))
    def test_any_payload_leaves_it_standing(self, payloads) -> None:
        """Whatever comes over the channel, the next message of ours is heard."""
        talk = Conversation(Server(), Clock()).connect().read()
        for payload in payloads:
            talk.arrived.append(Push(b"message", CHANNEL, payload))
        talk.read()
        talk.server.tell("ours")
        talk.read()
        assert talk.state is State.LIVE
        assert "ours" in talk.keys


class TestReplay:
    def test_a_dropped_connection_costs_nothing(self, live, server) -> None:
        """What was missed is applied, nothing is flushed."""
        live.hang_up()
        missed = [server.tell(key) for key in "abc"]
        live.reconnect()
        assert live.keys == ["a", "b", "c"]
        assert live.flushes == []
        assert live.position == missed[-1]
        assert live.state is State.LIVE
        assert live.subscription.tally.replays == 1

    def test_a_connection_dropped_in_silence_costs_nothing(self, live) -> None:
        """Nothing follows, and our position is the journal's last id."""
        live.hang_up().reconnect()
        assert live.flushes == []
        assert live.state is State.LIVE

    def test_it_goes_page_by_page(self, live, server) -> None:
        """However much was missed, a page at a time: no output buffer runs over."""
        live.hang_up()
        keys = [f"k{number}" for number in range(2 * PAGE + 50)]
        for key in keys:
            server.tell(key)
        live.sent.clear()
        live.reconnect()
        assert live.keys == keys
        assert len([command for command in live.sent if command[0] == "XRANGE"]) == 3
        assert live.flushes == []

    @pytest.mark.parametrize("missed", [PAGE - 1, PAGE, PAGE + 1])
    def test_a_full_last_page(self, live, server, missed) -> None:
        live.hang_up()
        for number in range(missed):
            server.tell(f"k{number}")
        live.reconnect()
        assert len(live.keys) == missed
        assert (live.state, live.flushes) == (State.LIVE, [])
        assert live.proofs

    def test_a_storm_during_the_replay_is_neither_lost_nor_applied_twice(self, live, server) -> None:
        """A live message that arrives during a replay is dropped: a page still to come holds it."""
        live.hang_up()
        for number in range(PAGE + 10):
            server.tell(f"missed{number}")
        live.told.clear()
        live.connect()
        said = 0
        while live.arrived:
            live.read(1)
            if said < 300:
                server.tell(f"storm{said}")
                said += 1
        assert sorted(live.keys) == sorted(
            [f"missed{number}" for number in range(PAGE + 10)] + [f"storm{number}" for number in range(300)]
        )
        assert (live.state, live.flushes) == (State.LIVE, [])
        assert live.position == server.tell("last") or live.read().keys[-1] == "last"

    def test_a_journal_that_is_deleted_under_a_replay(self, live, server) -> None:
        """
        A live message was dropped because a page still to come holds it. Then the journal is deleted, and the page is
        empty: nothing but the dropped message itself shows that something is missing.
        """
        live.hang_up()
        missed = [f"missed{number}" for number in range(PAGE)]
        for key in missed:
            server.tell(key)
        live.told.clear()
        live.connect()
        server.tell("dropped")
        server.streams.clear()
        server.strings.clear()
        live.read()
        assert (live.state, live.keys) == (State.LIVE, missed)
        assert live.flushes == ["the journal or its epoch was missing"]

    def test_nothing_is_proven_before_everything_was_applied(self, live, server) -> None:
        """The PONG behind the first of three pages says nothing about the other two."""
        live.hang_up()
        for number in range(PAGE + 10):
            server.tell(f"k{number}")
        live.reconnect()
        last_apply = max(index for index, effect in enumerate(live.told) if isinstance(effect, Apply))
        assert min(index for index, effect in enumerate(live.told) if isinstance(effect, Prove)) > last_apply

    def test_the_position_of_an_earlier_process_is_taken_up(self, live, server, clock) -> None:
        """A forked child, a restarted sidecar."""
        journal = live.subscription.journal
        server.tell("a")
        child = Conversation(server, clock, journal=journal).connect().read()
        assert child.keys == ["a"]
        assert child.flushes == []

    def test_an_unreadable_entry_flushes_and_the_replay_goes_on(self, live, server) -> None:
        live.hang_up()
        server.publish(NAMES, 100_000, Post([b"\xff"]))
        server.tell("a")
        live.reconnect()
        assert len(live.flushes) == 1
        assert live.keys == ["a"]
        assert live.state is State.LIVE


class TestReplayIsRefused:
    """Whatever does not prove that the journal reaches back flushes. When in doubt, too."""

    def lose(self, live: Conversation, break_it: Callable[[Server], object]) -> Conversation:
        live.server.tell("before")
        live.read().hang_up()
        live.server.tell("missed")
        break_it(live.server)
        return live.reconnect()

    def test_trimmed_past_us(self, live) -> None:
        """The chain's first entry does not name our position."""

        def trim(server: Server) -> None:
            server.tell("later")
            del server.journal[:-1]

        self.lose(live, trim)
        assert len(live.flushes) == 1
        assert "chain is broken" in live.flushes[0]
        assert live.state is State.LIVE

    def test_what_follows_the_break_is_replayed(self, live) -> None:
        """From there on the chain is whole."""
        self.lose(live, lambda server: server.tell("later") and server.journal.pop(-2))
        assert live.keys[-1] == "later"

    def test_a_hole_in_the_middle(self, live) -> None:
        def cut(server: Server) -> None:
            server.tell("cut out")
            server.tell("later")
            server.journal.pop(-2)

        self.lose(live, cut)
        assert len(live.flushes) == 1

    def test_deleted(self, live) -> None:
        """And begun anew by nobody: we begin it."""

        def delete(server: Server) -> None:
            del server.streams[NAMES.journal]

        self.lose(live, delete)
        assert len(live.flushes) == 1
        assert live.state is State.LIVE
        assert live.server.journal

    def test_deleted_and_begun_anew(self, live) -> None:
        """By a publisher: a new epoch, even if ids and chain look whole."""

        def begin_anew(server: Server) -> None:
            del server.streams[NAMES.journal]
            server.tell("later")

        self.lose(live, begin_anew)
        assert live.flushes == ["the journal was begun anew"]

    def test_the_epoch_is_another(self, live) -> None:
        self.lose(live, lambda server: server.strings.update({NAMES.epoch: "another"}))
        assert live.flushes == ["the journal was begun anew"]

    def test_the_epoch_is_missing(self, live) -> None:
        self.lose(live, lambda server: server.strings.clear())
        assert len(live.flushes) == 1
        assert live.state is State.LIVE

    def test_rolled_back(self, live) -> None:
        """Restored from an old copy: nothing follows, and our position is not its last id."""
        self.lose(live, lambda server: server.journal.__delitem__(slice(-2, None)))
        assert live.flushes == ["the journal ends before our position"]

    def test_rolled_back_and_grown_again(self, live) -> None:
        def roll_back(server: Server) -> None:
            del server.journal[-2:]
            server.tell("other history")

        self.lose(live, roll_back)
        assert len(live.flushes) == 1

    def test_another_run_of_the_server(self, live) -> None:
        """A restart can lose an accepted message and leave the chain whole."""
        self.lose(live, lambda server: setattr(server, "run_id", "another"))
        assert live.flushes == ["the server restarted or failed over"]
        assert live.state is State.LIVE

    def test_demoted_and_promoted_again(self, live, server) -> None:
        """The same run with another history: it has drawn a new replication id."""
        server.info(run_id="r", master_replid="one", role="master")
        live.hang_up().reconnect()
        live.hang_up()
        server.info(run_id="r", master_replid="two", role="master")
        live.reconnect()
        assert live.flushes == ["the server restarted or failed over"]

    @pytest.mark.parametrize(
        "answer", [Failure("NOPERM no permission to run 'info'"), Reply(b"# nothing\r\n"), Reply(b"")]
    )
    def test_info_refused(self, live, server, answer) -> None:
        """Whether it restarted cannot be told, not even between two such answers."""
        server.answers["INFO"] = lambda command: answer
        for _ in range(2):
            live.hang_up().reconnect()
            assert len(live.flushes) == 1
            assert live.state is State.LIVE
            assert "INFO" in live.subscription.tally.last_error

    def test_a_server_that_becomes_known_is_not_the_one_that_was_unknown(self, live, server) -> None:
        server.answers["INFO"] = lambda command: Failure("NOPERM")
        live.hang_up().reconnect()
        server.answers.clear()
        live.hang_up().reconnect()
        assert live.flushes == ["the server was unknown before"]
        live.hang_up().reconnect()
        assert live.flushes == []

    def test_a_flush_comes_after_the_confirmed_subscription_was_read(self, live) -> None:
        """And before the node is live again. Flushing earlier leaves a window."""
        live.hang_up()
        live.server.run_id = "another"
        live.told.clear()
        live.connect()
        while live.arrived:
            confirmed = live.subscription._subscribed
            live.read(1)
            assert confirmed or not live.flushes
        kinds = [effect for effect in live.told if isinstance(effect, Flush | Enter)]
        assert kinds[-2:] == [Flush("the server restarted or failed over"), Enter(State.LIVE, "")]

    def test_every_flush_is_told_and_counted(self, live) -> None:
        before = live.subscription.tally.flushes
        self.lose(live, lambda server: setattr(server, "run_id", "another"))
        tally = live.subscription.tally
        assert (tally.flushes, tally.last_flush.reason) == (before + 1, "the server restarted or failed over")


class TestGaps:
    def test_a_predecessor_that_does_not_match_is_repaired_from_the_journal(self, live, server) -> None:
        """A message that got lost on the way: applied late, and nothing is flushed."""
        server.tell("lost")
        live.arrived.clear()
        server.tell("seen")
        live.read()
        assert live.keys == ["lost", "seen"]
        assert live.flushes == []
        assert live.state is State.LIVE
        assert "came" in live.subscription.tally.last_gap.reason

    def test_nothing_is_applied_out_of_order(self, live, server) -> None:
        """`position` moves along the chain: what came after the gap waits for the journal."""
        server.tell("lost")
        live.arrived.clear()
        server.tell("seen")
        live.read(1)
        assert live.state is State.REPLAYING
        assert live.keys == []

    def test_nothing_is_proven_while_it_is_open(self, live, server, clock) -> None:
        """A PONG that was under way when the gap appeared proves nothing."""
        clock.advance(0.5)
        live.tick()
        pong = live.arrived.pop()
        role = live.arrived.pop()
        server.tell("lost")
        live.arrived.clear()
        server.tell("seen")
        live.arrived += [role, pong]
        live.read(3)
        assert live.proofs == []
        live.read()
        assert live.proofs == [clock()]

    def test_a_second_gap_asks_anew(self, live, server) -> None:
        """Answers of earlier rounds no longer count."""
        for _ in range(2):
            server.tell("lost")
            live.arrived.clear()
            server.tell("seen")
            live.read()
        assert live.keys == ["lost", "seen"] * 2
        assert live.state is State.LIVE

    def test_a_journal_that_is_gone_at_a_gap_flushes(self, live, server) -> None:
        del server.streams[NAMES.journal]
        server.tell("after")
        live.read()
        assert len(live.flushes) == 1
        assert live.state is State.LIVE

    def test_an_id_that_comes_again_is_no_duplicate(self, live, server) -> None:
        """A journal that was deleted and begun anew in the same millisecond assigns the same ids to other messages."""
        other = bodies("other", ["a"], ())[0]
        live.arrived.append(Push(b"message", CHANNEL, seal_envelope(live.position, "1-0", other)))
        live.read(1)
        assert live.state is State.REPLAYING
        live.read()
        assert live.state is State.LIVE

    def test_a_forged_id_cannot_carry_the_position_away(self, live, server) -> None:
        """It moves it, and the next message brings it back with a flush."""
        live.arrived.append(Push(b"message", CHANNEL, seal_envelope("999999999999999-0", live.position, b'{"v":1}')))
        live.read()
        server.tell("a")
        live.read()
        assert len(live.flushes) == 1
        assert live.state is State.LIVE
        assert live.position == f"{server.journal[-1][0][0]}-{server.journal[-1][0][1]}"


class TestProofs:
    def test_a_proof_counts_from_the_time_its_ping_was_sent(self, live, clock) -> None:
        """Not from the PONG's arrival: what was accepted in between may still be on its way."""
        sent_at = clock.advance(0.5)
        live.tick()
        clock.advance(0.3)
        live.read()
        assert live.proofs == [sent_at]

    def test_everything_before_it_is_applied_first(self, live, server, clock) -> None:
        """Redis answers a connection in order; so do we."""
        server.tell("a")
        clock.advance(0.5)
        live.tick().read()
        assert [type(effect) for effect in live.told if not isinstance(effect, Send)] == [Apply, Move, Prove]

    def test_a_ping_is_sent_several_times_per_bound_and_no_more_often(self, live, clock) -> None:
        clock.advance(0.499)
        assert live.tick().sent == []
        clock.advance(0.001)
        live.tick().read()
        assert [command[0] for command in live.sent] == ["ROLE", "PING"]
        assert live.tick().sent == live.sent
        assert live.subscription.next_tick() == clock() + INTERVAL

    def test_a_pong_of_another_ping_ends_the_connection(self, live, server, clock) -> None:
        """Answers are out of step: nothing they say counts."""
        server.answers["PING"] = lambda command: Reply(b"another")
        clock.advance(0.5)
        live.tick().read()
        assert "PONG" in live.down_because
        assert live.proofs == []

    def test_answers_to_a_connection_that_fell_are_not_waited_for(self, live, clock) -> None:
        """The next one's first answer is not taken for the last one's."""
        clock.advance(0.5)
        live.tick()
        live.hang_up().reconnect()
        assert live.state is State.LIVE
        assert live.proofs == [clock()]

    def test_each_proof_asks_for_the_role(self, live, server, clock) -> None:
        """A primary that is demoted keeps its subscribers, and its publishes go elsewhere: its PONG proves nothing."""
        server.role = "slave"
        clock.advance(0.5)
        live.tick().read()
        assert "has become a slave" in live.down_because
        assert live.proofs == []

    def test_who_may_not_ask_for_the_role_goes_without(self, live, server, clock) -> None:
        server.answers["ROLE"] = lambda command: Failure("NOPERM")
        for _ in range(3):
            clock.advance(0.5)
            live.tick().read()
        assert len(live.proofs) == 3
        assert [command[0] for command in live.sent].count("ROLE") == 1


class TestWrongServers:
    def test_a_replica_is_refused(self, talk, server) -> None:
        """It does not take the publishes: its PONG proves nothing."""
        server.info(run_id="r", role="slave")
        talk.connect().read()
        assert "subscribe to the primary" in talk.down_because
        assert talk.proofs == []

    def test_a_cluster_node_is_refused(self, talk, server) -> None:
        server.info(run_id="r", role="master", cluster_enabled="1")
        talk.connect().read()
        assert "cluster" in talk.down_because
        assert talk.proofs == []

    @pytest.mark.parametrize("command", ["GET", "XREVRANGE", "PING"])
    def test_an_error_answer_to_what_must_work_ends_the_connection(self, talk, server, command) -> None:
        """The operator reads it in status()."""
        server.tell("before")
        server.answers[command] = lambda it: Failure("NOPERM this user has no permissions")
        talk.connect().read()
        assert "NOPERM" in talk.subscription.tally.last_error
        assert talk.proofs == []

    def test_an_answer_that_nobody_asked_for_ends_the_connection(self, live) -> None:
        live.arrived.append(Reply(b"surprise"))
        live.read()
        assert live.state is State.CONNECTING

    def test_an_ended_subscription_ends_the_connection(self, live) -> None:
        """An administrator's doing; we would hear nothing any more, and PONGs all the same."""
        live.arrived.append(Push(b"unsubscribe", CHANNEL, 0))
        live.read()
        assert live.state is State.CONNECTING


class TestSilence:
    def test_a_half_open_connection_is_given_up(self, live, clock) -> None:
        """No FIN, no RST, no answer: a firewall has forgotten us."""
        clock.advance(0.5)
        live.tick()
        live.arrived.clear()
        clock.advance(0.999)
        live.tick()
        assert live.state is State.LIVE
        clock.advance(0.001)
        live.tick()
        assert "no answer" in live.down_because
        assert live.state is State.CONNECTING

    def test_silence_while_subscribing_is_given_up_too(self, talk, clock) -> None:
        talk.connect()
        talk.arrived.clear()
        clock.advance(1)
        talk.tick()
        assert "no answer" in talk.down_because

    def test_a_storm_is_not_silence(self, live, server, clock) -> None:
        """Our answer may be far behind it."""
        clock.advance(0.5)
        live.tick()
        answers: list[Frame] = []
        for _ in range(20):
            clock.advance(0.4)
            server.tell("storm")
            answers += live.hold_back_answers()
            live.read().tick()
        assert live.state is State.LIVE
        live.arrived.extendleft(reversed(answers))
        live.read()
        assert live.proofs

    def test_questions_do_not_pile_up(self, live, server, clock) -> None:
        """However long the storm lasts: what waits for an answer is bounded, and the owner does not spin meanwhile."""
        for _ in range(1000):
            clock.advance(0.4)
            server.tell("storm")
            live.hold_back_answers()
            live.read().tick()
            assert live.subscription.next_tick() > clock()
        assert len(live.subscription._awaited) <= MAX_UNANSWERED_PROOFS + 1
        assert live.state is State.LIVE

    def test_before_it_is_connected_time_means_nothing(self, talk, clock) -> None:
        clock.advance(100)
        assert talk.tick().told == []
        talk.carry_out(talk.subscription.connecting(clock()))
        clock.advance(100)
        assert talk.tick().sent == []


class TestBackoff:
    def test_the_window_doubles_up_to_a_limit(self, server, clock) -> None:
        """Full jitter: a thousand processes do not come back in one moment."""
        for attempt in range(12):
            window = min(LAST_RETRY_NS, FIRST_RETRY_NS << attempt)
            delays = []
            for seed in range(200):
                talk = Conversation(server, clock)
                talk.subscription._random = Random(seed)
                talk.carry_out(talk.subscription.connecting(clock()))
                for _ in range(attempt + 1):
                    list(talk.subscription.disconnected("refused", clock()))
                delays.append(talk.subscription.retry_at - clock())
            assert 0 <= min(delays) < window * 0.1
            assert window * 0.9 < max(delays) <= window

    def test_it_begins_anew_once_live(self, live, clock) -> None:
        for _ in range(10):
            live.hang_up()
        live.reconnect().hang_up()
        assert live.subscription.retry_at <= clock() + FIRST_RETRY_NS

    def test_it_does_not_begin_anew_with_a_connection_that_leads_nowhere(self, live, server, clock) -> None:
        """A replica accepts every connection at once."""
        server.info(run_id="r", role="slave")
        for _ in range(10):
            live.connect().read()
        assert live.subscription._attempts >= 10

    def test_a_lost_connection_is_counted_and_a_failed_attempt_is_not(self, live, clock) -> None:
        live.hang_up("reset by peer")
        for _ in range(5):
            live.carry_out(live.subscription.connecting(clock()))
            list(live.subscription.disconnected("refused", clock()))
        assert live.subscription.tally.reconnects == 1
        assert live.subscription.tally.last_error == "refused"
        assert live.reconnect().subscription.tally.last_error is None


class TestStates:
    @pytest.mark.parametrize(
        "happens", [lambda it: it.connected(0), lambda it: it.disconnected("", 0)], ids=["connected", "disconnected"]
    )
    def test_what_is_not_in_the_table_does_not_happen(self, talk, happens) -> None:
        """From IDLE there is no way to a subscription or to its loss."""
        subscription = talk.subscription
        if State.CONNECTING in TRANSITIONS[subscription.state]:
            talk.carry_out(subscription.close())
        before = subscription.state
        try:
            told = list(happens(subscription))
        except AssertionError:
            told = []
        assert told == []
        assert subscription.state is before

    def test_the_way_to_live(self, talk) -> None:
        talk.connect().read()
        assert [effect.state for effect in talk.those(Enter)] == [
            State.CONNECTING,
            State.SUBSCRIBING,
            State.REPLAYING,
            State.LIVE,
        ]

    def test_closing_is_the_end(self, live, clock) -> None:
        live.carry_out(live.subscription.close())
        assert live.state is State.CLOSED
        assert list(live.subscription.close()) == []
        assert list(live.subscription.disconnected("late", clock())) == []
        clock.advance(100)
        assert live.tick().sent == []

    @given(
        st.lists(
            st.sampled_from(["say", "cut", "restart", "trim", "delete", "time", "read", "garbage", "silence"]),
            max_size=40,
        )
    )
    def test_whatever_happens_what_was_said_is_applied_or_flushed_for(self, events) -> None:
        """
        The promise of this module: when a proof is given, everything said before its PING was applied, or a flush came
        after it. No change of state outside of the table, no other exception.
        """
        clock, server = Clock(), Server()
        talk = Conversation(server, clock).connect().read()
        number = 0
        said: dict[str, int] = {}
        covered: set[str] = set()
        looked = 0

        def look() -> None:
            nonlocal looked
            for effect in talk.told[looked:]:
                if isinstance(effect, Apply):
                    covered.update(effect.body.keys)
                elif isinstance(effect, Flush | Listen):
                    covered.update(said)
                elif isinstance(effect, Prove):
                    missed = [key for key, at in said.items() if at < effect.at and key not in covered]
                    assert not missed
            looked = len(talk.told)

        for event in [*events, "time", "read", "time", "read"]:
            clock.advance(0.1)
            if event == "say":
                number += 1
                said[f"k{number}"] = clock()
                server.tell(f"k{number}")
            elif event == "cut":
                talk.hang_up().connect()
            elif event == "restart":
                server.run_id = server.token()
                talk.hang_up().connect()
            elif event == "trim":
                del server.streams.get(NAMES.journal, [])[:-2]
            elif event == "delete":
                server.streams.pop(NAMES.journal, None)
            elif event == "garbage":
                talk.arrived.append(Push(b"message", CHANNEL, b"garbage"))
            elif event == "silence":
                clock.advance(2)
                talk.tick()
            elif event == "time":
                clock.advance(0.5)
                talk.tick()
            else:
                talk.read()
            if talk.state is State.CONNECTING:
                talk.connect()
            look()
        talk.read()
        clock.advance(0.5)
        talk.tick().read()
        look()
        assert talk.state is State.LIVE
        assert talk.proofs[-1] > 0
