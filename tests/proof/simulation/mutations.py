"""
The check of the checks: remove each rule of the core in turn, and see that the simulation, or a test, notices.

    python -m tests.proof.simulation.mutations                      every rule, as a table
    python -m tests.proof.simulation.mutations --only "run_id"      those whose name contains it, with a shrunk trace

How a rule is removed is in `tests/proof/mutating.py`.

Not in the table, because they are not needed for the promise, whatever they are good for (thousands of worlds passed
without each, and there is an argument for each):

- a read takes `proven_at` before `changes`: it is enough that both come before the stamps; an old count only makes the
  next read look closer.
- a read takes the clock after the lease: the bound counts from when a read begins, and its clock is not before that.
- a proof is stored after what precedes it was counted: a hit goes by the lease its last look found, and a look sees
  the stamps themselves.
"""

from __future__ import annotations

import sys
from importlib import import_module

from tests.proof.mutating import Edit, Found, Mutation, Suite, main


def mutation(rule: str, *edits: tuple[str, str, str], tests: str = "") -> Mutation:
    """Spell a mutation of modules of `invalidator`."""
    return Mutation(rule, [Edit(f"invalidator.{module}", old, new) for module, old, new in edits], tests)


MUTATIONS = (
    # Reads.
    mutation(
        "`loaded_at` is taken before the loader runs",
        ("near_cache", "key, loaded, load.loaded_at, self._own_ttl", "key, loaded, self._clock(), self._own_ttl"),
    ),
    mutation(
        "a `set` counts from the miss before it",
        ("near_cache", "loaded_at = self._misses.take(key, self.as_of())", "loaded_at = self._clock()"),
    ),
    mutation(
        "every read checks the lease (the whole rule)",
        ("entry", "served_until = self._served_until(proven_at, as_of)", "served_until = FOREVER"),
    ),
    mutation(
        "the lease covers only what was loaded after the process listened",
        ("entry", "if proven_at and self.ledger.covers(as_of) else 0", "if proven_at else 0"),
    ),
    mutation(
        "what was made from other values is leased only if they are",
        ("entry", "            as_of = min(as_of, part_as_of)\n", ""),
        tests="tests/unit/invalidator/test_entry.py",
    ),
    mutation(
        "every hit checks the clock",
        (
            "near_cache",
            "(count == entry.changes or self._still_holds(entry, words, count)) and self._clock() < entry.good_until",
            "count == entry.changes or self._still_holds(entry, words, count)",
        ),
    ),
    mutation(
        "a read takes the lease before the stamps",
        (
            "entry",
            "served_until = self._served_until(proven_at, as_of)",
            "served_until = self._served_until(self.ledger.read_lease()[0], as_of)",
        ),
    ),
    mutation(
        "a read takes `changes` before the stamps",
        ("entry", "entry.changes = changes", "entry.changes = self.ledger.read_lease()[1]"),
    ),
    mutation(
        "a second look takes `changes` before the stamps",
        ("entry", "entry.changes = count", "entry.changes = self.ledger.read_lease()[1]"),
        tests="tests/unit/invalidator/test_entry.py",
    ),
    mutation(
        "a second look sees the stamps",
        ("entry", "if words[place] >= floor:", "if False:"),
    ),
    mutation(
        "a second look sees a flush",
        ("entry", "for place in entry.places:", "for place in entry.places[1:]:"),
    ),
    mutation(
        "a second look leaves doubt to the whole rule",
        ("feeds.doubt", "return -2 if index == CHANGES else FOREVER", "return -2"),
    ),
    mutation(
        "`changes` is a count and no clock time",
        ("ledger.table", "self.words[CHANGES] += 1", "self.words[CHANGES] = max(self._newest, self.words[FLUSHED_AT])"),
        ("near_cache", "count == entry.changes or", "count <= entry.changes or"),
        ("entry", "entry.changes = changes", "entry.changes = self.clock()"),
    ),
    mutation(
        "the writer stores the stamps before `changes`",
        (
            "feeds.listener",
            (
                "            apply_to_ledger(self._ledger, body, now, count=False)\n"
                "            self._throttle.stamped(now)\n"
                "            self.is_uncounted = True\n"
            ),
            "            self._ledger.touch()\n            apply_to_ledger(self._ledger, body, now, count=False)\n",
        ),
    ),
    mutation(
        "what a listener stamps is counted",
        ("feeds.listener", "            self._ledger.touch()\n", "            pass\n"),
    ),
    mutation(
        "what waits for its count wakes the listener",
        ("feeds.listener", "min(next_tick, self._throttle.due()) if self.is_uncounted else next_tick", "next_tick"),
        tests="tests/unit/invalidator/feeds/test_listener.py",
    ),
    mutation(
        "the position waits for the count",
        (
            "feeds.listener",
            "            case Move(journal):\n                self._moved = journal\n",
            "            case Move(journal):\n                write_journal(self._ledger, journal)\n",
        ),
        tests="tests/unit/invalidator/feeds/test_listener.py",
    ),
    mutation(
        "nothing stays uncounted when the connection ends",
        (
            "feeds.listener",
            "yield from self._and_then(self._settle, self._talk(connection))",
            "yield from self._talk(connection)",
        ),
        tests="tests/unit/invalidator/feeds/test_listener.py",
    ),
    mutation(
        "every flush moves `changes`",
        (
            "ledger.table",
            "max(self.words[FLUSHED_AT], now)\n            self._count()",
            "max(self.words[FLUSHED_AT], now)",
        ),
    ),
    mutation(
        "a stamp as old as the load voids it (`>=`)",
        (
            "entry",
            "if self.ledger.newest_at(entry.places) >= as_of:",
            "if self.ledger.newest_at(entry.places) > as_of:",
        ),
    ),
    mutation(
        "`replica_lag` is taken off the time of the load",
        ("entry", "as_of = entry.loaded_at - self.replica_lag_ns", "as_of = entry.loaded_at"),
    ),
    mutation(
        "tags are checked as keys are",
        (
            "near_cache",
            "return name_slots((name_of(key),), tags, self.bus.slots)",
            "return name_slots((name_of(key),), (), self.bus.slots)",
        ),
    ),
    mutation(
        "nobody joins a stale load",
        ("loads", "if self._is_valid(both, load.loaded_at) and not _waiting", "if not _waiting"),
    ),
    mutation(
        "tags that the loader added are checked when a load ends",
        ("near_cache", "if (added or entry.parts) and not self._rule", "if False and not self._rule"),
    ),
    # Proofs.
    mutation(
        "a proof counts from its PING",
        ("protocol.subscription", "            yield Prove(sent_at)", "            yield Prove(now)"),
    ),
    mutation(
        "nothing is proved while replaying",
        (
            "protocol.subscription",
            "        elif self.state is State.LIVE:\n            yield Prove",
            "        else:\n            yield Prove",
        ),
    ),
    mutation(
        "only a primary proves anything",
        ("protocol.subscription", 'elif to_text(answer[0]) != "master":', "elif False:"),
    ),
    mutation(
        "silence ends a connection",
        ("protocol.subscription", "if self._awaited and now >= self._answer_due_at():", "if False:"),
    ),
    # The journal.
    mutation(
        "a predecessor that is not our position is a gap",
        ("protocol.subscription", "elif envelope.predecessor == self.journal.position:", "elif True:"),
    ),
    mutation(
        "an id that comes again is no duplicate",
        (
            "protocol.subscription",
            "elif self.state is not State.LIVE or self.journal is None:",
            "elif self.state is not State.LIVE or self.journal is None or envelope.id == self.journal.position:",
        ),
        tests="tests/unit/invalidator/protocol/test_subscription.py",
    ),
    mutation(
        "ids are not compared by their order",
        (
            "protocol.subscription",
            "elif self.state is not State.LIVE or self.journal is None:",
            (
                "elif self.state is not State.LIVE or self.journal is None or "
                'tuple(map(int, envelope.id.split("-"))) <= tuple(map(int, self.journal.position.split("-"))):'
            ),
        ),
    ),
    mutation(
        "the chain of a replay is checked",
        ("protocol.subscription", 'if to_text(fields.get("p", b"")) != self.journal.position:', "if False:"),
    ),
    mutation(
        "an empty journal proves nothing",
        (
            "protocol.subscription",
            "        if not self._last_id or not self._epoch:\n            yield from self._begin_journal(now)\n",
            (
                "        if not self._last_id and self.journal is not None:\n            yield from self._go_live()\n"
                "        elif not self._last_id or not self._epoch:\n            yield from self._begin_journal(now)\n"
            ),
        ),
    ),
    mutation(
        "a journal that ends before our position is another one",
        ("protocol.subscription", "if not answer and self.journal.position != self._last_id:", "if False:"),
        ("protocol.subscription", "if self.journal.epoch != self._epoch:", "if False:"),
    ),
    mutation(
        "another run of the server voids (`run_id`)",
        ("protocol.subscription", "if self.journal.server != self._server:", "if False:"),
    ),
    mutation(
        "another history of the same run voids (`master_replid`)",
        ("protocol.subscription", '("run_id", "master_replid")', '("run_id",)'),
    ),
    mutation(
        "a server whose run is unknown voids (INFO refused)",
        (
            "protocol.subscription",
            "        if not self._server:\n            return f",
            "        if False:\n            return f",
        ),
        tests="tests/unit/invalidator/protocol/test_subscription.py",
    ),
    mutation(
        "another epoch voids",
        ("protocol.subscription", "if self.journal.epoch != self._epoch:", "if False:"),
        tests="tests/unit/invalidator/protocol/test_subscription.py",
    ),
    mutation(
        "the position jumps only with a flush",
        (
            "protocol.subscription",
            "        yield from self._flush(reason, now)\n        yield from self._move(self._last_id)",
            "        yield from self._move(self._last_id)",
        ),
    ),
    mutation(
        "who begins to listen counts from the answer about the journal, not from the confirmation",
        ("protocol.subscription", "        yield Listen()\n", ""),
        (
            "protocol.subscription",
            "            self._subscribed = True\n",
            (
                "            self._subscribed = True\n"
                "            if not self._has_listened:\n                yield Listen()\n"
            ),
        ),
    ),
    mutation(
        "the first subscription voids nothing",
        ("protocol.subscription", "        elif not self._has_listened:", "        elif False:"),
    ),
    mutation(
        "a page has what was dropped while it was asked for",
        ("protocol.subscription", "        elif self._dropped_id:", "        elif False:"),
    ),
    mutation(
        "the journal is asked after the subscription is confirmed",
        (
            "protocol.subscription",
            'yield Send((("INFO",), ("SUBSCRIBE", self.names.channel), *self._ask_journal(now)))',
            'yield Send((("INFO",), *self._ask_journal(now), ("SUBSCRIBE", self.names.channel)))',
        ),
        ("protocol.subscription", "            if not self._subscribed:", "            if False:"),
    ),
    mutation(
        "the flush comes after the subscription is confirmed",
        (
            "protocol.subscription",
            "        self._await(self._on_info, now, failure_is_an_answer=True)\n        yield Send(",
            (
                "        self._await(self._on_info, now, failure_is_an_answer=True)\n"
                '        yield from self._flush("early", now)\n        yield Send('
            ),
        ),
        (
            "protocol.subscription",
            "        yield from self._flush(reason, now)\n        yield from self._move(self._last_id)",
            "        yield from self._move(self._last_id)",
        ),
        ("protocol.subscription", 'b"")) != self.journal.position:', 'b"")) == "never":'),
    ),
    mutation(
        "a reconnect with an intact journal replays and keeps the entries",
        (
            "protocol.subscription",
            "        elif reason := self._why_not_replay():",
            '        elif reason := self._why_not_replay() or "in doubt":',
        ),
    ),
    mutation(
        "a full last page is not the end",
        (
            "protocol.subscription",
            "            if self.journal.position == self._asked_after:\n",
            "            if True:\n",
        ),
    ),
    mutation(
        "a full page is followed by another",
        ("protocol.subscription", "        if len(answer) == PAGE:", "        if False:"),
    ),
    mutation(
        "what cannot be read voids",
        ("protocol.subscription", '        yield from self._flush(f"unreadable', '        yield Refuse(f"unreadable'),
        ("protocol.subscription", "({reason.partition(':')[0]})\", now)", "({reason.partition(':')[0]})\")"),
        tests="tests/unit/invalidator/protocol/test_subscription.py",
    ),
    mutation(
        "a stamp is the time of applying, on this host's clock",
        (
            "feeds.listener",
            "        now = self._clock()\n        # Our own",
            # the server's clock, which in these worlds is off by other amounts than the hosts'
            (
                '        now = int(id.partition("-")[0] or 0) * 1_000_000 - 17 * 10**17 if id else self._clock()\n'
                "        # Our own"
            ),
        ),
    ),
    mutation(
        "a message is applied before the position moves",
        (
            "protocol.subscription",
            (
                "            yield from self._apply(envelope.body, envelope.id, now)\n"
                "            yield from self._move(envelope.id)"
            ),
            (
                "            yield from self._move(envelope.id)\n"
                "            yield from self._apply(envelope.body, envelope.id, now)"
            ),
        ),
        tests="tests/unit/invalidator/protocol/test_subscription.py",
    ),
    # Publishing.
    mutation(
        "the own echo is known by its node",
        (
            "protocol.subscription",
            "own=body.node == self.node)",
            "own=bool(self._own_names & {*body.keys, *body.tags}))",
        ),
        (
            "protocol.subscription",
            "        self.node = node\n",
            "        self.node = node\n        self._own_names = set()\n",
        ),
        (
            "bus",
            "        self.ledger.stamp(name_slots(keys, tags, self.ledger.slots), at)\n",
            (
                "        self.ledger.stamp(name_slots(keys, tags, self.ledger.slots), at)\n"
                "        if getattr(self._feed, '_listener', None):\n"
                "            self._feed._listener.subscription._own_names.update(keys, tags)\n"
            ),
        ),
    ),
    mutation(
        "a forked child is a new node",
        ("bus", "            self.node = secrets.token_hex(6)\n            self._link", "            self._link"),
    ),
    mutation(
        "a forked child has a listener of its own",
        (
            "feeds.listener_feed",
            "            self._leave(self._listener)\n            self._listener = None",
            "            self._leave(self._listener)",
        ),
    ),
    mutation(
        "an invalidation is in force here before it is published",
        (
            "bus",
            "        self.ledger.stamp(name_slots(keys, tags, self.ledger.slots), at)\n",
            "",
        ),
    ),
    mutation(
        "what waits in the queue is not accepted",
        (
            "publishing.outbox",
            "        return self._waiting.receipt()\n",
            '        receipt = self._waiting.receipt()\n        receipt.accept("", 0)\n        return receipt\n',
        ),
    ),
    mutation(
        "a lost answer is tried again",
        (
            "publishing.outbox",
            "        batch = self._under_way\n        if batch is not None:",
            "        batch = self._under_way = None\n        if batch is not None:",
        ),
    ),
    mutation(
        "a queue that overflows becomes a clear",
        (
            "publishing.outbox",
            "        if self.clear or overflow:\n            self.clear = True\n",
            "        if self.clear or overflow:\n",
        ),
    ),
    mutation(
        "a name that is under way waits again",
        (
            "publishing.outbox",
            "        self.overflows += self._waiting.add(batch, self.limit)\n        return self._waiting.receipt()",
            (
                "        if self._under_way:\n"
                "            for name in self._under_way.keys:\n                batch.keys.pop(name, None)\n"
                "        self._waiting.add(batch, self.limit)\n        return self._waiting.receipt()"
            ),
        ),
    ),
    # Holds.
    mutation(
        "nobody releases another's hold",
        ("ledger.table", "words[index] = max(now, *owners.values(), NEVER)", "words[index] = now"),
    ),
    mutation(
        "a release does not lower a younger stamp",
        ("ledger.table", "            self._newest = now = max(self._newest, now)\n", ""),
        tests="tests/unit/invalidator/ledger/test_table.py",
    ),
    mutation(
        "a hold is announced before it is granted",
        (
            "publishing.publisher",
            '            raise PublishError(f"Redis did not accept the hold',
            '            return receipt\n            raise PublishError(f"Redis did not accept the hold',
        ),
        tests="tests/unit/invalidator/publishing/test_hold.py",
    ),
    mutation(
        "a hold keeps fills out until it ends",
        ("feeds.listener", "now + body.for_ms * 1_000_000, now, count=count)", "now, now, count=count)"),
    ),
    mutation(
        "a late subscriber gets the holds",
        (
            "protocol.subscription",
            '        for data in answer:\n            yield from self._apply(data, "", now)',
            "        yield from ()",
        ),
        tests="tests/unit/invalidator/protocol/test_subscription.py",
    ),
    # The sidecar.
    mutation(
        "a worker checks what it published itself",
        ("entry", "if self.own is not None and self.own.newest_at(entry.places) >= as_of:", "if False:"),
    ),
    mutation(
        "a worker's hits doubt until the host's ledger has its message",
        (
            "feeds.sidecar_feed",
            "                self._set_hit_words(Doubt(self._settle_in_passing))",
            "                pass",
        ),
    ),
    mutation(
        "what a sidecar's position jumps over, when it begins to listen, is swept by who published it",
        (
            "feeds.sidecar_feed",
            "if (since := self.view.listening_since()) != self._listening_since:",
            "if (since := self._listening_since) != self._listening_since:",
        ),
        tests="tests/unit/invalidator/feeds/test_sidecar_feed.py",
    ),
    mutation(
        "a new writer moves `changes` of the ledger it takes over",
        (
            "ledger.table",
            "    def touch(self) -> None:",
            "    def touch(self) -> None:\n        return\n\n    def _touch(self) -> None:",
        ),
    ),
)

IN_SHORT = (
    "`loaded_at` is taken before the loader runs",
    "every read checks the lease (the whole rule)",
    "the lease covers only what was loaded after the process listened",
    "nobody joins a stale load",
    "a proof counts from its PING",
    "nothing is proved while replaying",
    "the position jumps only with a flush",
    "what waits in the queue is not accepted",
)
"""Tried in every `make test`."""


def play(most_seeds: int, *, explained: bool) -> Found | None:
    """Run seeds until one fails."""
    runs = import_module(".runs", __package__)  # not before: it imports the library, which is mutated by that
    runs.be_quiet()
    failure = next(runs.find_failures(range(most_seeds)), None)
    if failure is None:
        return None
    return Found(failure.seed + 1, failure.violation, runs.explain(failure) if explained else "")


SUITE = Suite("tests.proof.simulation.mutations", "simulation", MUTATIONS, play, most_seeds=20_000, enough_intact=400)

if __name__ == "__main__":
    sys.exit(main(SUITE))
