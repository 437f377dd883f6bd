"""
Removing rules: what the tables of mutations share (`simulation/mutations.py`, `values/mutations.py`).

A rule is removed by replacing a piece of source as the module is imported, in a process of its own. A piece that is
not found exactly once fails loudly: a mutation that changes nothing proves nothing.

Nothing of the library may be imported here, nor where a table is, before a mutation is in place.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from os import cpu_count
from pathlib import Path
from subprocess import run
from types import CodeType
from typing import Any, NamedTuple, Protocol

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("invalidator", "django_integration")


class Edit(NamedTuple):
    """In *module*, *old* becomes *new*."""

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


class Found(NamedTuple):
    """A world that has noticed: how many it took, what was broken, and how."""

    seeds: int
    violation: str
    explanation: str = ""


class Play(Protocol):
    """Runs worlds until one fails."""

    def __call__(self, most_seeds: int, *, explained: bool) -> Found | None:
        """Run at most so many."""


class Suite(NamedTuple):
    """
    A table of mutations, and the worlds that are to notice them.

    Args:
        command: the module to run with -m.
        name: of the worlds.
        most_seeds: a rule that survives so many worlds is not needed, or not tested.
        enough_intact: so many have to pass while nothing is removed: what fails then catches nothing.
    """

    command: str
    name: str
    mutations: Sequence[Mutation]
    play: Play
    most_seeds: int
    enough_intact: int


class Outcome(NamedTuple):
    """Who caught it."""

    rule: str
    caught_by: str
    seeds: int
    seconds: float


INTACT = Mutation("nothing is removed", ())


# In the child.


class _Mutator(MetaPathFinder):
    """Replaces source as it is imported."""

    def __init__(self, edits: Iterable[Edit]) -> None:
        self._sources: dict[str, str] = {}
        for edit in edits:
            source = self._sources.get(edit.module) or source_of(edit.module).read_text()
            self._sources[edit.module] = replace_once(source, edit)

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
    """The file of a module."""
    return ROOT / f"{module.replace('.', '/')}.py"


def replace_once(source: str, edit: Edit) -> str:
    """Carry out *edit*. Raises LookupError unless its old text is there exactly once."""
    if (found := source.count(edit.old)) != 1:
        raise LookupError(f"found {found} times in {edit.module}, not once:\n{edit.old}")
    return source.replace(edit.old, edit.new)


def check(mutation: Mutation) -> None:
    """Raise LookupError or SyntaxError unless *mutation* fits the source as it is."""
    sources: dict[str, str] = {}
    for edit in mutation.edits:
        sources[edit.module] = replace_once(sources.get(edit.module) or source_of(edit.module).read_text(), edit)
    for module, source in sources.items():
        compile(source, module, "exec")


def _run_child(suite: Suite, chosen: Mutation, most_seeds: int, *, explained: bool) -> None:
    """Run seeds until one fails, with the mutation in place. Prints the violation and how many seeds it took."""
    assert not any(name.partition(".")[0] in PACKAGES for name in sys.modules)
    sys.meta_path.insert(0, _Mutator(chosen.edits))
    if chosen.tests:
        _run_tests(chosen.tests)
        return
    with contextlib.redirect_stdout(sys.stderr):
        found = suite.play(most_seeds, explained=explained)
    if found is None:
        print(f"{most_seeds}|nobody")
        return
    print(f"{found.seeds}|{found.violation}")
    if explained:
        print(found.explanation)


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


def try_out(suite: Suite, chosen: Mutation, most_seeds: int, *, explained: bool = False) -> Outcome:
    """Run one mutation in a process of its own."""
    try:
        _Mutator(chosen.edits)
    except LookupError as error:
        return Outcome(chosen.rule, f"OUT OF DATE: {error}", 0, 0.0)
    began = time.monotonic()
    command = [sys.executable, "-m", suite.command, "--child", chosen.rule, "--seeds", str(most_seeds)]
    done = run(
        [*command, *(["--explained"] if explained else [])], cwd=ROOT, capture_output=True, text=True, check=False
    )
    first, _, rest = done.stdout.partition("\n")
    seeds, _, caught_by = first.partition("|")
    if explained and rest:
        print(rest)
    if not seeds.isdigit():
        return Outcome(chosen.rule, f"BROKEN: {done.stderr.strip().rpartition(chr(10))[2]}", 0, 0.0)
    return Outcome(chosen.rule, caught_by, int(seeds), time.monotonic() - began)


def was_caught(outcome: Outcome) -> bool:
    """Whether somebody noticed."""
    return outcome.seeds > 0 and not outcome.caught_by.startswith(("nobody", "crash"))


def as_row(suite: Suite, outcome: Outcome) -> str:
    """One line of the table in the documentation."""
    if outcome.caught_by.startswith("test "):
        return f"| {outcome.rule} | {outcome.caught_by} | |"
    caught_by = f"{suite.name}: {outcome.caught_by.partition(':')[0]}" if was_caught(outcome) else outcome.caught_by
    return f"| {outcome.rule} | {caught_by} | {outcome.seeds:,} |"


def main(suite: Suite) -> int:
    """Try out what was asked for, and print the table."""
    parser = argparse.ArgumentParser(prog=f"python -m {suite.command}")
    parser.add_argument("--only", default="", metavar="TEXT", help="rules whose name contains it")
    parser.add_argument("--seeds", type=int, default=suite.most_seeds, metavar="N", help="give up after so many worlds")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="at once (default: one per core)")
    parser.add_argument("--explained", action="store_true", help="with a shrunk trace of each")
    parser.add_argument("--child", metavar="RULE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        chosen = next(mutation for mutation in (INTACT, *suite.mutations) if mutation.rule == options.child)
        _run_child(suite, chosen, options.seeds, explained=options.explained)
        return 0
    whole = try_out(suite, INTACT, suite.enough_intact)
    if whole.caught_by != "nobody":
        print(f"the library does not pass as it is: {whole.caught_by}", file=sys.stderr)
        return 1
    chosen_ones = [mutation for mutation in suite.mutations if options.only in mutation.rule]
    print("| rule that was removed | caught by | worlds needed |\n| --- | --- | --- |", flush=True)
    outcomes = _try_all(suite, chosen_ones, options)
    missed = [outcome.rule for outcome in outcomes if not was_caught(outcome)]
    print(f"{len(outcomes)} rules, {len(missed)} not caught: {'; '.join(missed) or 'none'}", file=sys.stderr)
    return bool(missed)


def _try_all(suite: Suite, mutations: Sequence[Mutation], options: argparse.Namespace) -> list[Outcome]:
    outcomes = []

    def attempt(one: Mutation) -> Outcome:
        return try_out(suite, one, options.seeds, explained=options.explained)

    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(attempt, mutations):
            print(as_row(suite, outcome), flush=True)
            outcomes.append(outcome)
    return outcomes
