"""
The promise, read by read.

For each version the writers recorded when its invalidation was accepted, at the latest. From then on every older
version of that key is stale. So a read that returned version w is stale since the earliest acceptance of any version
after w, and stale *by* its own start less that time. The promise: never by more than the bound.

Rule 1: every read of every process counts, those of killed ones too.
Rule 2: what was never accepted makes nothing stale. Where a hold counts (`by_hold`), a strict change makes older
versions stale once it is announced and committed, whether its writer lives to say so or not.
Rule 3: nobody can read what was not begun: such a read shows that the suite is wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from invalidator.ledger import FOREVER

from .records import CHANGE, READ, Change, Read, read_log
from .source import Source

MOST_SHOWN = 12
"""Violations, each the first of its process and version."""


@dataclass(slots=True)
class Violation:
    """A read that broke the promise (or the suite), in words."""

    process: str
    read: Read
    stale_by: int
    expected: str
    stale_since: int = 0

    def describe(self, zero: int) -> str:
        """In words; times in seconds since *zero*."""
        read = self.read
        return (
            f"{self.process}: row:{read.key} read as version {read.version} at {(read.began - zero) / 1e9:.3f} s "
            f"(returned {(read.returned - read.began) / 1e9:.3f} s later), stale by {self.stale_by / 1e9:.3f} s, since "
            f"{(self.stale_since - zero) / 1e9:.3f} s: {self.expected}"
        )


@dataclass(slots=True)
class Verdict:
    """What was found."""

    reads: int = 0
    stale_reads: int = 0
    worst: int = 0
    """Nanoseconds: a read's start less the time since when it was stale."""
    worst_at_return: int = 0
    """The same, of its return."""
    violations: int = 0
    shown: list[Violation] = field(default_factory=list)
    seen: set[tuple[str, int, int]] = field(default_factory=set)

    def is_new(self, process: str, read: Read) -> bool:
        """Count a violation. Returns whether it is to be shown."""
        self.violations += 1
        what = (process, read.key, read.version)
        if what in self.seen or len(self.shown) == MOST_SHOWN:
            return False
        self.seen.add(what)
        return True


class Truth:
    """
    Every version and when it made older ones stale.

    Args:
        changes: of all writers, with their names.
        committed: who wrote what the database knows.
        died: when writers were killed, by name: what they had committed was committed before.
        by_hold: whether a hold counts. It does not where the server may lose it.
    """

    def __init__(
        self,
        changes: Iterable[tuple[str, Change]],
        committed: dict[tuple[int, int], str],
        died: Mapping[str, int],
        *,
        by_hold: bool,
    ) -> None:
        self._by_hold = by_hold
        self.accepted = 0
        self.never_accepted = 0
        self.changes: dict[int, dict[int, Change]] = defaultdict(dict)
        for writer, change in changes:
            if not change.committed and committed.get((change.key, change.version)) != writer:
                continue  # its writer was killed before the commit
            by = change.committed or died.get(writer, 0)
            self.changes[change.key][change.version] = change._replace(committed=by)
        self.stale_since: dict[int, list[int]] = {}
        for key, versions in self.changes.items():
            since = [FOREVER] * (max(versions) + 1)
            for version in range(len(since) - 2, -1, -1):
                since[version] = min(since[version + 1], self._accepted(versions.get(version + 1)))
            self.stale_since[key] = since
        for versions in self.changes.values():
            for change in versions.values():
                accepted = self._accepted(change) < FOREVER
                self.accepted += accepted
                self.never_accepted += not accepted

    def _accepted(self, change: Change | None) -> int:
        if change is None:
            return FOREVER
        accepted = change.accepted or FOREVER
        if self._by_hold and change.held and change.committed:
            return min(accepted, max(change.held, change.committed))
        return accepted

    def check(self, reads: Iterable[tuple[int, ...]], process: str, bound: int, verdict: Verdict) -> None:
        """Judge *reads* of one log."""
        never = [FOREVER]
        stale_since = self.stale_since
        count = 0
        for key, version, began, returned in reads:
            count += 1
            since = stale_since.get(key, never)
            try:
                stale_by = began - since[version]
            except IndexError:
                self._impossible(Read(key, version, began, returned), process, verdict)
                continue
            if returned - since[version] > verdict.worst_at_return:
                verdict.worst_at_return = returned - since[version]
            if stale_by > 0:
                verdict.stale_reads += 1
                if stale_by > verdict.worst:
                    verdict.worst = stale_by
                if stale_by > bound:
                    self._violated(Read(key, version, began, returned), process, stale_by, bound, verdict)
        verdict.reads += count

    def _violated(self, read: Read, process: str, stale_by: int, bound: int, verdict: Verdict) -> None:
        if verdict.is_new(process, read):
            newer = max(
                version
                for version, change in self.changes[read.key].items()
                if version > read.version and self._accepted(change) + bound < read.began
            )
            since = self.stale_since[read.key][read.version]
            verdict.shown.append(
                Violation(
                    process,
                    read,
                    stale_by,
                    f"should have been version {newer} or newer",
                    since,
                )
            )

    def _impossible(self, read: Read, process: str, verdict: Verdict) -> None:
        if verdict.is_new(process, read):
            verdict.shown.append(Violation(process, read, 0, "nobody wrote such a version: the suite is wrong"))


def read_truth(directory: Path, source: Source, died: Mapping[str, int], *, by_hold: bool) -> Truth:
    """From the writers' logs and the database."""
    committed = {(key, version): writer for key, version, writer in source.history()}
    return Truth(_changes(directory), committed, died, by_hold=by_hold)


def _changes(directory: Path) -> Iterator[tuple[str, Change]]:
    for path in sorted(directory.glob("*.changes")):
        writer = path.name.removesuffix(".changes")
        for fields in read_log(path, CHANGE):
            yield writer, Change(*fields)


def check(
    directory: Path, source: Source, max_staleness: float, died: Mapping[str, int], *, by_hold: bool
) -> tuple[Verdict, Truth]:
    """Judge every read of a round."""
    truth = read_truth(directory, source, died, by_hold=by_hold)
    verdict = Verdict()
    bound = int(max_staleness * 1e9)
    for path in sorted(directory.glob("*.reads")):
        truth.check(read_log(path, READ), path.name.removesuffix(".reads"), bound, verdict)
    return verdict, truth
