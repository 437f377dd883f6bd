"""
`python -m benchmarks [NAME…]`: measure, against peers, in one run.

Figures go to stdout, progress to stderr. The exit status is 0 if everything could be measured, whether
targets are met or missed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path

from invalidator.testing import EmbeddedServer

from . import machine, report
from .figures import Outcome
from .run import Run
from .table import BENCHMARKS


def main(arguments: list[str] | None = None) -> int:
    """Run what *arguments* name. Returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {benchmark.name for benchmark in BENCHMARKS}
    if unknown:
        known = ", ".join(benchmark.name for benchmark in BENCHMARKS)
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are: {known}")
    if options.write_readme and (options.names or options.quick):
        parser.error("--write-readme wants all benchmarks, and not the quick ones")
    logging.getLogger("invalidator").setLevel(logging.ERROR)  # connections are cut on purpose
    with EmbeddedServer() as server:
        measured_on = machine.describe(server)
        report.show_machine(measured_on)
        outcomes = _measure(Run(server, quick=options.quick), options.names)
    print(f"\n{report.count_targets(outcomes)}{' (quick: a look, not a measurement)' if options.quick else ''}")
    if options.json:
        figures = {"machine": measured_on, "quick": options.quick, "benchmarks": [o.as_dict() for o in outcomes]}
        options.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    if options.write_readme:
        report.write_readme(report.as_markdown(measured_on, outcomes))
    return 0


def _measure(run: Run, names: list[str]) -> list[Outcome]:
    outcomes = []
    for benchmark in BENCHMARKS:
        if names and benchmark.name not in names:
            continue
        run.begin(benchmark.name)
        begun = time.monotonic()
        figures = benchmark.measure(run)
        run.end()
        outcomes.append(Outcome(benchmark.name, benchmark.title, figures, time.monotonic() - begun))
        report.show(outcomes[-1])
    return outcomes


def _parser() -> argparse.ArgumentParser:
    known = "\n".join(f"  {benchmark.name:<12} {benchmark.title}" for benchmark in BENCHMARKS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure, against peers, in one run.",
        epilog=f"benchmarks:\n{known}\n\nbenchmarks/README.md has the method of each, and figures.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--quick", action="store_true", help="a short look instead of a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    parser.add_argument("--write-readme", action="store_true", help="replace the figures in benchmarks/README.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
