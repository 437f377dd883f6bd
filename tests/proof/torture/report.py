"""
The table of a run, as text and as JSON.

`stale by` is the worst read of a round: its start less the acceptance of the invalidation that it had not received.
`recovery` is the median time from a dropped connection, as its listener saw it, to the next proof; an outage of the
server is part of it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

from .rounds import Result

_HEAD = (
    "fault",
    "bound",
    "reads",
    "hits",
    "writes",
    "faults",
    "stale by",
    "of bound",
    "flushes",
    "replays",
    "recovery",
    "",
)


def table(results: Sequence[Result]) -> str:
    """The whole run."""
    rows = [_HEAD, *map(_row, results), _total(results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = [
        "  ".join(
            cell.ljust(w) if i in (0, 11) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    return "\n".join((lines[0], rule, *lines[1:-1], rule, lines[-1]))


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.name,
        f"{result.max_staleness:g} s",
        f"{result.reads:,}",
        f"{result.hit_ratio:.1%}",
        f"{result.changes:,}",
        str(sum(result.faults.values())),
        f"{result.worst_s * 1000:.1f} ms",
        f"{result.worst_s / result.max_staleness:.0%}",
        str(result.flushes),
        str(result.replays),
        "-" if result.recovery_ms is None else f"{result.recovery_ms:.1f} ms",
        "" if result.passed else "FAILED",
    )


def _total(results: Sequence[Result]) -> tuple[str, ...]:
    recoveries = [ms for result in results for ms in result.recoveries_ms]
    reads = sum(result.reads for result in results)
    hits = sum(result.reads * result.hit_ratio for result in results)
    worst = max((result.worst_s / result.max_staleness for result in results), default=0.0)
    return (
        f"total: {len(results)} rounds",
        "",
        f"{reads:,}",
        f"{hits / reads if reads else 0:.1%}",
        f"{sum(result.changes for result in results):,}",
        str(sum(sum(result.faults.values()) for result in results)),
        "",
        f"{worst:.0%}",
        str(sum(result.flushes for result in results)),
        str(sum(result.replays for result in results)),
        f"{statistics.median(recoveries):.1f} ms" if recoveries else "-",
        "" if all(result.passed for result in results) else "FAILED",
    )


def problems(result: Result) -> str:
    """What was wrong with one round, and how to see it again."""
    lines = [
        f"{result.name}: {result.violations} reads broke the promise",
        *(f"  {problem}" for problem in result.problems),
        f"  again: python -m tests.proof.torture {result.again}",
        f"  logs: {result.kept}",
    ]
    return "\n".join(lines)


def summary(results: Sequence[Result]) -> str:
    """The last line."""
    reads = sum(result.reads for result in results)
    own = sum(result.own_reads for result in results)
    failed = sum(not result.passed for result in results)
    violations = sum(result.violations for result in results)
    at_return = max((result.worst_at_return_s for result in results), default=0.0)
    return (
        f"{reads:,} reads checked, {violations} beyond the bound; {own:,} reads of a writer's own rows; "
        f"{failed} of {len(results)} rounds failed. (Judged by their return instead of their start, the worst read was "
        f"stale by {at_return:.3f} s: a process may be stopped in between.)"
    )


def as_json(results: Sequence[Result]) -> str:
    """The whole run, for programs."""
    return json.dumps([result.as_dict() for result in results], indent=1)
