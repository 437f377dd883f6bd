"""Run seeds, and print what was not true."""

from __future__ import annotations

import argparse
import sys
import time
from itertools import count

from .runs import explain, run_seed, tables, trace


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.values", description=__doc__)
    parser.add_argument("--seeds", default="0-100", metavar="A-B", help="run these (default: %(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", help="run one, and explain it if it fails")
    parser.add_argument("--trace", action="store_true", help="with --seed: print everything that happens")
    parser.add_argument("--minutes", type=float, help="go on from the first seed until so many minutes are over")
    parser.add_argument("--all", action="store_true", help="do not stop at the first failure")
    options = parser.parse_args()
    with tables():
        if options.seed is not None and options.trace:
            print(trace(options.seed))
            return 0
        first, _, last = options.seeds.partition("-")
        seeds = [options.seed] if options.seed is not None else range(int(first), int(last or first) + 1)
        if options.minutes:
            seeds = count(int(first))
        return _run(seeds, options)


def _run(seeds, options) -> int:
    began = time.monotonic()
    worlds = operations = reads = checked = looks = failures = 0
    for seed in seeds:
        world, failure = run_seed(seed)
        worlds += 1
        operations += world.operations
        reads += world.checks.reads
        checked += world.checks.compared
        looks += world.checks.looks
        if failure is not None:
            failures += 1
            print(explain(failure) if not options.all else f"seed {failure.seed}: {failure.violation}", flush=True)
            if not options.all:
                break
        if options.minutes and time.monotonic() > began + 60 * options.minutes:
            break
    took = time.monotonic() - began
    print(
        f"{worlds} worlds, {operations} operations, {reads} reads, {checked} of them compared, "
        f"{looks} looks at what is kept; {failures} not true; {took:.1f} s"
    )
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
