"""
One round, from an empty directory to its result.

Faults are repeated until time is up; then comes a quiet while, longer than a bound and an idle row's pause, so that
what the last fault broke is read at least once more; then everybody reads every row again and ends.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from invalidator.extending import now_ns

from . import checker
from .faults import FAULTS, Fault
from .stage import Stage
from .workload import IDLE_READ_EVERY_S

PAUSE_BETWEEN_FAULTS = 0.35
"""Pause between two faults of one injector, as a share of the bound."""
INJECTORS_WHEN_MIXED = 2
JOIN_TIMEOUT_S = 60.0
TIMELINE_SHOWN_NS = 4_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What a round does.

    Args:
        faults: one, or those to mix.
        seconds: during which faults happen.
    """

    name: str
    faults: Sequence[Fault]
    seed: int
    seconds: float
    max_staleness: float
    readers: int
    writers: int

    @property
    def is_mixed(self) -> bool:
        """Whether several faults may happen at once."""
        return len(self.faults) > 1

    def again(self) -> str:
        """The arguments that draw the same faults."""
        return (
            f"--fault {self.name.partition(' ')[0]} --seed {self.seed} --bound {self.max_staleness:g} "
            f"--seconds {self.seconds:g} --readers {self.readers} --writers {self.writers} --rounds 1"
        )


@dataclass(slots=True, kw_only=True)
class Result:
    """What a round found."""

    name: str
    seed: int
    max_staleness: float
    seconds: float = 0.0
    reads: int = 0
    hit_ratio: float = 0.0
    own_reads: int = 0
    changes: int = 0
    accepted: int = 0
    never_accepted: int = 0
    queued: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    stale_reads: int = 0
    worst_s: float = 0.0
    worst_at_return_s: float = 0.0
    again: str = ""
    flushes: int = 0
    replays: int = 0
    reconnects: int = 0
    recoveries_ms: list[float] = field(default_factory=list)
    violations: int = 0
    problems: list[str] = field(default_factory=list)
    kept: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.violations and not self.problems

    @property
    def recovery_ms(self) -> float | None:
        """The median."""
        return statistics.median(self.recoveries_ms) if self.recoveries_ms else None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "recovery_ms": self.recovery_ms, "recoveries_ms": len(self.recoveries_ms)}


def mixed(random: Random) -> list[Fault]:
    """Every fault that can happen to one world: persistent, with strict writers, with a sidecar, or without."""
    persistent, strict, sidecar = random.random() < 0.5, random.random() < 0.4, random.random() < 0.5
    return [
        fault
        for fault in FAULTS.values()
        if fault.persistent in (None, persistent)
        and fault.strict <= strict
        and fault.sidecar <= sidecar
        and fault.name != "none"
    ]


def run(plan: Plan) -> Result:
    """Play one round. What it leaves on disk is kept only when something was wrong."""
    directory = Path(tempfile.mkdtemp(prefix="torture-"))
    result = Result(name=plan.name, seed=plan.seed, max_staleness=plan.max_staleness, again=plan.again())
    began = time.monotonic()
    try:
        _play(plan, directory, result)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    result.seconds = time.monotonic() - began
    if result.passed:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        result.kept = str(directory)
    return result


def _play(plan: Plan, directory: Path, result: Result) -> None:
    zero = now_ns()
    with Stage(
        directory,
        max_staleness=plan.max_staleness,
        readers=plan.readers,
        writers=plan.writers,
        seed=plan.seed,
        lanes=any(fault.lanes for fault in plan.faults),
        persistent=any(fault.persistent for fault in plan.faults),
        strict=any(fault.strict for fault in plan.faults),
        sidecar=any(fault.sidecar for fault in plan.faults),
    ) as stage:
        result.problems += _inject(plan, stage)
        time.sleep(plan.max_staleness + 1.3 * IDLE_READ_EVERY_S)
        result.problems += stage.quit_members()
        result.faults = dict(stage.counts)
        counted = _read_statuses(directory, result)
        verdict, truth = checker.check(
            directory,
            stage.source,
            plan.max_staleness,
            stage.died,
            by_hold=all(fault.by_hold for fault in plan.faults),
        )
    result.reads = verdict.reads
    result.stale_reads = verdict.stale_reads
    result.worst_s = verdict.worst / 1e9
    result.worst_at_return_s = verdict.worst_at_return / 1e9
    result.accepted = truth.accepted
    result.never_accepted = truth.never_accepted
    result.violations = verdict.violations
    result.problems += [violation.describe(zero) for violation in verdict.shown]
    if verdict.shown:
        result.problems += _around(stage, verdict.shown[0].read.began, zero)
    result.problems += _vacuous(plan, result, counted)


def _inject(plan: Plan, stage: Stage) -> list[str]:
    """Let faults happen for as long as planned. Returns what went wrong with the faults themselves."""
    failed: list[str] = []

    def inject(random: Random) -> None:
        try:
            while not stage.ending.is_set():
                random.choice(plan.faults).inject(stage, random)
                stage.sleep(random.uniform(0.1, 1.0) * PAUSE_BETWEEN_FAULTS * plan.max_staleness)
        except Exception as error:  # noqa: BLE001 - of a thread: nobody else would see it
            failed.append(f"the suite itself failed: {type(error).__name__}: {error}")

    injectors = [
        threading.Thread(target=inject, args=(Random(f"{plan.seed}/{number}"),), daemon=True)
        for number in range(INJECTORS_WHEN_MIXED if plan.is_mixed else 1)
    ]
    for injector in injectors:
        injector.start()
    try:
        time.sleep(plan.seconds)
    finally:
        stage.ending.set()
        for injector in injectors:
            injector.join(JOIN_TIMEOUT_S)
    if any(injector.is_alive() for injector in injectors):
        failed.append("the suite itself failed: a fault does not end")
    return failed


def _read_statuses(directory: Path, result: Result) -> Counter[str]:
    counted: Counter[str] = Counter()
    for path in sorted(directory.glob("*.status")):
        status = json.loads(path.read_text())
        result.recoveries_ms += status.pop("recoveries_ms")
        complaints = status.pop("complaints")
        result.problems += complaints
        counted.update(status)
    reads = counted["hits"] + counted["misses"]
    result.hit_ratio = counted["hits"] / reads if reads else 0.0
    result.own_reads = counted["own_reads"]
    result.changes = counted["changes"]
    result.queued = counted["queued"]
    result.flushes = counted["flushes"]
    result.replays = counted["replays"]
    result.reconnects = counted["reconnects"]
    return counted


def _around(stage: Stage, at: int, zero: int) -> list[str]:
    """The faults shortly before a violation."""
    return ["faults before the first of them:"] + [
        f"    {(when - zero) / 1e9:8.3f} s  {what}"
        for when, what in stage.timeline
        if at - TIMELINE_SHOWN_NS <= when <= at
    ]


def _vacuous(plan: Plan, result: Result, counted: Counter[str]) -> list[str]:
    """Whether the round has proved anything at all, and voided nothing needlessly."""
    missing = []
    if not result.reads:
        missing.append("reads")
    if not result.accepted:
        missing.append("accepted invalidations")
    if not plan.is_mixed:
        (fault,) = plan.faults
        missing += [name for name in fault.evidence if not counted[name]]
        if not result.faults and fault.name != "none":
            missing.append("faults")
    problems = [f"the round proved nothing: it had no {' and no '.join(missing)}"] if missing else []
    if not any(fault.voids for fault in plan.faults) and counted["flushes"]:
        problems.append(f"{counted['flushes']} needless flushes: the journal was intact")
    return problems
