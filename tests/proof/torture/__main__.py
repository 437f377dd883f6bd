"""
Faults at random on real processes: `python -m tests.proof.torture`, or `make torture`.

Every fault alone in a round of its own, then rounds in which faults are mixed and overlap. Exit code 1 if a single
read was staler than promised, if a request raised because of the cache, if a writer did not read its own write, or
if a round has proved nothing.

`--deps` plays something else, in one process with Django: random queries in cached functions and random writes, after
each of which nothing that changed may be served (tests/unit/django_integration/dependencies/random_world.py).

`--values` plays worlds of requests, in which every answer is compared with the truth (tests/proof/values). For another
database, set INVALIDATOR_TEST_DATABASE to postgresql or mariadb.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable
from random import Random, SystemRandom

from . import report, rounds
from .faults import FAULTS, Fault

LONG_RUN = "tests.unit.django_integration.dependencies.long_run"
VALUES = "tests.proof.values"
MIXED = "mixed"
ROUND_S = 6.0
MIXED_ROUND_S = 12.0
BOUND_S = 0.5
LONG_BOUND_S = 2.0
LONG_BOUND_FAULTS = ("crash-empty", "proxy-black-hole", "stop-and-drop", "client-pause")
"""Of the faults alone, those that are played with the long bound as well."""
SHORT = ("stop-and-drop", "crash-rollback", "proxy-black-hole")
SHORT_ROUND_S = 3.0


def main() -> int:
    """Run what was asked for."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as by Ctrl-C: nothing is left behind
    options = parse()
    seed = options.seed if options.seed is not None else SystemRandom().randrange(10**6)
    print(f"seed {seed}", file=sys.stderr)
    if options.deps:
        # Becomes a process that imports Django, which this one does not need.
        os.execv(sys.executable, [sys.executable, "-m", LONG_RUN, str(seed), str(options.minutes or 1.0)])
    if options.values:
        worlds = ["--seeds", f"{seed}", "--minutes", str(options.minutes or 1.0)]
        os.execv(sys.executable, [sys.executable, "-m", VALUES, *worlds])
    results: list[rounds.Result] = []
    try:
        todo = plans(options, seed)
        of_all = ""
        if not options.minutes:
            todo = all_plans = list(todo)
            of_all = f" of {len(all_plans)}"
        for plan in todo:
            _progress(
                f"{len(results) + 1}{of_all}: {plan.name}, bound {plan.max_staleness:g} s, {plan.seconds:g} s of faults"
            )
            result = rounds.run(plan)
            results.append(result)
            if not result.passed:
                print(report.problems(result), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        if not results:
            return 130
    if options.json:
        print(report.as_json(results))
    else:
        print(report.table(results))
        print(report.summary(results))
    return 0 if all(result.passed for result in results) else 1


def plans(options: argparse.Namespace, seed: int) -> Iterable[rounds.Plan]:
    """The rounds to play, one after another."""
    ends_at = time.monotonic() + 60 * options.minutes if options.minutes else None
    random = Random(seed)

    def plan(name: str, faults: list[Fault], seed: int, bound: float, seconds: float) -> rounds.Plan:
        return rounds.Plan(
            name=name,
            faults=faults,
            seed=seed,
            seconds=options.seconds or seconds * max(1.0, bound),
            max_staleness=bound,
            readers=options.readers,
            writers=options.writers,
        )

    if options.short:
        for name in SHORT:
            yield plan(name, [FAULTS[name]], seed, options.bound or BOUND_S, SHORT_ROUND_S)
        return
    for name in options.fault or FAULTS:
        if name == MIXED:
            continue
        yield plan(name, [FAULTS[name]], seed, options.bound or BOUND_S, ROUND_S)
        if not options.bound and name in LONG_BOUND_FAULTS and not options.fault:
            yield plan(name, [FAULTS[name]], seed, LONG_BOUND_S, ROUND_S)
    number = 0
    wanted = options.rounds if not options.fault or MIXED in options.fault else 0
    while (time.monotonic() < ends_at) if ends_at and wanted else number < wanted:
        # The first one takes the seed itself, so that it can be played again by it.
        seed = random.randrange(10**6) if number else seed
        number += 1
        bound = options.bound or (LONG_BOUND_S if number % 3 == 0 else BOUND_S)
        yield plan(f"{MIXED} {number}", rounds.mixed(Random(seed)), seed, bound, MIXED_ROUND_S)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.torture", description=__doc__)
    parser.add_argument("--seed", type=int, help="draw the same faults again")
    parser.add_argument("--rounds", type=int, default=6, help="of mixed faults, after each fault alone (default 6)")
    parser.add_argument("--minutes", type=float, help="go on with mixed rounds until that many minutes are over")
    parser.add_argument("--fault", action="append", choices=[*FAULTS, MIXED], help="only this one; may be repeated")
    parser.add_argument("--bound", type=float, help="max_staleness in seconds, of all rounds")
    parser.add_argument("--seconds", type=float, help="of faults in each round")
    parser.add_argument("--readers", type=int, default=4, help="processes (default 4)")
    parser.add_argument("--writers", type=int, default=2, help="processes (default 2)")
    parser.add_argument(
        "--deps", action="store_true", help="random queries and writes in Django instead (see --minutes)"
    )
    parser.add_argument(
        "--values", action="store_true", help="random requests in Django instead, each answer compared (see --minutes)"
    )
    parser.add_argument("--short", action="store_true", help="three short rounds, for the test suite")
    parser.add_argument("--json", action="store_true", help="the results as JSON instead of a table")
    return parser.parse_args()


def _progress(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} round {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
