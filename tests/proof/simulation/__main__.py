"""Run seeds, and print what broke."""

from __future__ import annotations

import argparse
import sys
import time
from multiprocessing import get_context
from os import cpu_count

from .runs import Failure, be_quiet, explain, run_all, run_seed, trace

CHUNK = 50


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0-2000", metavar="A-B", help="run these (default: %(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", help="run one, and explain it if it fails")
    parser.add_argument("--trace", action="store_true", help="with --seed: print everything that happens")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="processes (default: one per core)")
    options = parser.parse_args()
    be_quiet()
    if options.seed is not None:
        return _run_one(options.seed, whole=options.trace)
    first, _, last = options.seeds.partition("-")
    return _run_many(range(int(first), int(last or first) + 1), options.jobs)


def _run_one(seed: int, *, whole: bool) -> int:
    if whole:
        print(trace(seed))
        return 0
    failure = run_seed(seed)
    print(explain(failure) if failure else f"seed {seed}: the promise held")
    return failure is not None


def _run_many(seeds: range, jobs: int) -> int:
    began = time.monotonic()
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    failures: list[Failure] = []
    with get_context("spawn").Pool(jobs, initializer=be_quiet) as pool:
        for found in pool.imap(run_all, chunks):
            failures += found
            for failure in found:
                print(f"seed {failure.seed}: {failure.violation}", flush=True)
    took = time.monotonic() - began
    print(f"{len(seeds)} seeds, {len(failures)} failures, {len(seeds) / took:.0f} seeds/s", file=sys.stderr)
    if failures:
        print(explain(min(failures, key=lambda failure: len(failure.plan))))
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
