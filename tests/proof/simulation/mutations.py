"""
The check of the checks: remove each rule of the core in turn, and see that the simulation, or a test, notices.

    python -m tests.proof.simulation.mutations                      every rule, as a table
    python -m tests.proof.simulation.mutations --only "run_id"      those whose name contains it, with a shrunk trace

A rule is removed by replacing a piece of source as the module is imported, in a process of its own. A piece that is
not found exactly once fails loudly: a mutation that changes nothing proves nothing.

Nothing of the library may be imported here before a mutation is in place.

Not in the table, because they are not needed for the promise, whatever they are good for (thousands of worlds passed
without each, and there is an argument for each):

- a read takes `proven_at` before `changes`: it is enough that both come before the stamps; an old count only makes the
  next read look closer.
- a read takes the clock after the lease: the bound counts from when a read begins, and its clock is not before that.
- a proof is stored after what precedes it was counted: a hit goes by the lease its last look found, and a look sees
  the stamps themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from os import cpu_count
from pathlib import Path
from subprocess import run
from types import CodeType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
MOST_SEEDS = 20_000
"""A rule that survives so many worlds is not needed, or not tested."""


class Edit(NamedTuple):
    """In *module* of the library, *old* becomes *new*."""

    module: str
    old: str
    new: str


class Mutation(NamedTuple):
    """
    A rule that is removed.

    Args:
        tests: the file of tests that catches it, where no world is likely to.
    """

    rule: str
    edits: Sequence[Edit]
    tests: str = ""


class Outcome(NamedTuple):
    """Who caught it."""

    rule: str
    caught_by: str
    seeds: int
    seconds: float


def mutation(rule: str, *edits: tuple[str, str, str], tests: str = "") -> Mutation:
    """Spell a mutation."""
    return Mutation(rule, [Edit(*edit) for edit in edits], tests)


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
            "return name_slots((key,), tags, self.bus.slots)",
            "return name_slots((key,), (), self.bus.slots)",
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
            "            self._listener.close_in_child()\n            self._listener = None",
            "            self._listener.close_in_child()",
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
        ("publishing.publisher", "        batch.receipts.append(receipt)\n", '        receipt.accept("", 0)\n'),
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
            "        self.overflows += self._waiting.add(batch, self.limit)\n\n    def take",
            (
                "        if self._under_way:\n"
                "            for name in self._under_way.keys:\n                batch.keys.pop(name, None)\n"
                "        self._waiting.add(batch, self.limit)\n\n    def take"
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

INTACT = Mutation("nothing is removed", ())
ENOUGH_WHEN_INTACT = 400

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


# In the child.


class _Mutator(MetaPathFinder):
    """Replaces source as it is imported."""

    def __init__(self, edits: Iterable[Edit]) -> None:
        self._sources: dict[str, str] = {}
        for edit in edits:
            name = f"invalidator.{edit.module}"
            source = self._sources.get(name) or source_of(edit.module).read_text()
            self._sources[name] = replace_once(source, edit)

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name not in self._sources:
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(name, spec.origin, self._sources[name])
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec")


def source_of(module: str) -> Path:
    """The file of a module of the library."""
    return ROOT / "invalidator" / f"{module.replace('.', '/')}.py"


def replace_once(source: str, edit: Edit) -> str:
    """Carry out *edit*. Raises LookupError unless its old text is there exactly once."""
    if (found := source.count(edit.old)) != 1:
        raise LookupError(f"found {found} times in {edit.module}.py, not once:\n{edit.old}")
    return source.replace(edit.old, edit.new)


def _run_child(chosen: Mutation, most_seeds: int, *, explained: bool) -> None:
    """Run seeds until one fails, with the mutation in place. Prints the violation and how many seeds it took."""
    assert not any(name.partition(".")[0] == "invalidator" for name in sys.modules)
    sys.meta_path.insert(0, _Mutator(chosen.edits))
    if chosen.tests:
        _run_tests(chosen.tests)
        return
    runs = import_module(".runs", __package__)  # not before: it imports the library, which is mutated by that
    runs.be_quiet()
    failure = next(runs.find_failures(range(most_seeds)), None)
    if failure is None:
        print(f"{most_seeds}|nobody")
        return
    print(f"{failure.seed + 1}|{failure.violation}")
    if explained:
        print(runs.explain(failure))


def _run_tests(path: str) -> None:
    """Run tests until one fails, with the mutation in place. Prints its name."""
    failed = []

    class Watch:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                failed.append(report.nodeid)

    with contextlib.redirect_stdout(sys.stderr):
        pytest.main(["--exitfirst", "--quiet", path], plugins=[Watch()])
    print(f"1|test {failed[0].partition('::')[2]}" if failed else "1|nobody")


# In the parent.


def try_out(chosen: Mutation, most_seeds: int = MOST_SEEDS, *, explained: bool = False) -> Outcome:
    """Run one mutation in a process of its own."""
    try:
        _Mutator(chosen.edits)
    except LookupError as error:
        return Outcome(chosen.rule, f"OUT OF DATE: {error}", 0, 0.0)
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "tests.proof.simulation.mutations",
        "--child",
        chosen.rule,
        "--seeds",
        str(most_seeds),
    ]
    done = run(
        [*command, *(["--explained"] if explained else [])], cwd=ROOT, capture_output=True, text=True, check=False
    )
    first, _, rest = done.stdout.partition("\n")
    seeds, _, caught_by = first.partition("|")
    if rest:
        print(rest)
    if not seeds.isdigit():
        return Outcome(chosen.rule, f"BROKEN: {done.stderr.strip().rpartition(chr(10))[2]}", 0, 0.0)
    return Outcome(chosen.rule, caught_by, int(seeds), time.monotonic() - began)


def was_caught(outcome: Outcome) -> bool:
    """Whether somebody noticed."""
    return outcome.seeds > 0 and not outcome.caught_by.startswith(("nobody", "crash"))


def as_row(outcome: Outcome) -> str:
    """One line of the table in docs/guarantees.md."""
    if outcome.caught_by.startswith("test "):
        return f"| {outcome.rule} | {outcome.caught_by} | |"
    caught_by = f"simulation: {outcome.caught_by.partition(':')[0]}" if was_caught(outcome) else outcome.caught_by
    return f"| {outcome.rule} | {caught_by} | {outcome.seeds:,} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.simulation.mutations", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="rules whose name contains it")
    parser.add_argument("--seeds", type=int, default=MOST_SEEDS, metavar="N", help="give up after so many worlds")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="at once (default: one per core)")
    parser.add_argument("--explained", action="store_true", help="with a shrunk trace of each")
    parser.add_argument("--child", metavar="RULE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        chosen = next(mutation for mutation in (INTACT, *MUTATIONS) if mutation.rule == options.child)
        _run_child(chosen, options.seeds, explained=options.explained)
        return 0
    # What fails without any mutation catches nothing.
    whole = try_out(INTACT, ENOUGH_WHEN_INTACT)
    if whole.caught_by != "nobody":
        print(f"the library does not pass as it is: {whole.caught_by}", file=sys.stderr)
        return 1
    chosen_ones = [mutation for mutation in MUTATIONS if options.only in mutation.rule]
    print("| rule that was removed | caught by | worlds needed |\n| --- | --- | --- |", flush=True)
    outcomes = _try_all(chosen_ones, options)
    missed = [outcome.rule for outcome in outcomes if not was_caught(outcome)]
    print(f"{len(outcomes)} rules, {len(missed)} not caught: {'; '.join(missed) or 'none'}", file=sys.stderr)
    return bool(missed)


def _try_all(mutations: Sequence[Mutation], options: argparse.Namespace) -> list[Outcome]:
    outcomes = []

    def attempt(one: Mutation) -> Outcome:
        return try_out(one, options.seeds, explained=options.explained)

    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(attempt, mutations):
            print(as_row(outcome), flush=True)
            outcomes.append(outcome)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
