"""
The stale-read verifier: it loads some hits once more, and reports those that were stale though nothing had invalidated
them.

    INVALIDATOR = {..., "VERIFY": 0.01}          on staging: one hit in a hundred, see `conf.py`
    manage.py invalidator verify /products/1/    a reader that runs beside the servers
    with verify_reads(): ...                     in tests, every hit, see `testing/verifying.py`

A hit is reloaded in the request that hit it, by its own loader, and the caller gets the cached value all the same.

Rule 1: a difference is a suspicion. It is a finding only if, after `settle_s` and a proof that everything accepted up
to then was received, the entry's names were still not invalidated. Until then an invalidation may be under way.
Rule 2: a loader that gives two different answers in a row proves nothing: its key is counted once, as "not
deterministic".
Rule 3: nothing grows without bound, and nothing is reloaded more often than `per_second` allows.
Rule 4: values are not logged; they may be personal data.
"""

from __future__ import annotations

import fnmatch
import logging
import math
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from django.db import Error
from django.utils import timezone

from invalidator import Invalidator, NearCache
from invalidator.extending import FreshLock, register_for_forks

from .. import near_caches, observing, runtime
from ..conf import conf
from ..observing import AnyEntry, NothingToReloadError, Outcome, Probe
from . import differences
from .differences import Difference

log = logging.getLogger(__name__)

PER_SECOND = 10.0
"""Reloads of one process, with the setting. A loader that takes 10 ms then costs a tenth of a thread at the most."""
MOST_FINDINGS = 100
"""Kept for people to look at; all are counted and logged."""
MOST_SUSPECTS = 1_000
"""That wait at once; more are counted as undecided."""
PROOFS = 3
"""How many times `max_staleness` a suspect waits for a proof."""


@dataclass(slots=True)
class Counts:
    """
    What became of the hits that were looked at.

    Attributes:
        reloaded: hits that were loaded once more.
        same: of them, those that were as cached.
        invalidated: were different, and their invalidation was under way.
        stale: were different, and were never invalidated.
        not_deterministic: loads that differ from each other.
        not_reloaded: the loader is not known, or the database or the network failed.
        undecided: were different, and nothing proves whether they were invalidated.
        skipped: were chosen, and would have been more than the bound allows.
    """

    reloaded: int = 0
    same: int = 0
    invalidated: int = 0
    stale: int = 0
    not_deterministic: int = 0
    not_reloaded: int = 0
    undecided: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """
    A value that was served though it was stale, and that nothing had invalidated.

    Attributes:
        cache: of which near cache.
        age_s: seconds since its load began, when it was found.
        tags: those it carries. A tag that is missing here, or was never published, is the mistake.
        difference: the first one, with the values, shortened.
        at: when it was found.
    """

    key: str
    cache: str
    age_s: float
    tags: tuple[str, ...]
    difference: Difference
    at: str

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.key}  ({self.cache}; loaded {self.age_s:.1f} s before)",
                f"    different: {self.difference}",
                f"    its tags:  {' '.join(self.tags) or 'none'}",
            ]
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What a verifier has found up to now."""

    counts: Counts
    findings: tuple[Finding, ...]
    not_deterministic: tuple[str, ...]

    def as_dict(self, *, with_values: bool) -> dict[str, Any]:
        """Ready for JSON."""
        found = [
            {
                **{field.name: getattr(finding, field.name) for field in fields(finding)},
                "tags": list(finding.tags),
                "difference": finding.difference.as_dict(with_values=with_values),
            }
            for finding in self.findings
        ]
        return {"counts": asdict(self.counts), "findings": found, "not_deterministic": list(self.not_deterministic)}


@dataclass(frozen=True, slots=True)
class _Suspect:
    near: NearCache
    key: str
    entry: AnyEntry
    difference: Difference
    age_s: float
    due: int


class Verifier:
    """
    Reviews what is hit in this process, see `observing.review`.

    Args:
        share: of the hits, from 0 to 1.
        per_second: reloads, at the most.
        settle_s: seconds that an invalidation may take from the commit until Redis has accepted it; None takes the
            bus' `max_staleness`.
        ignore: patterns of keys, such as `clock:*`, that are left alone.
    """

    def __init__(
        self,
        share: float = 1.0,
        *,
        per_second: float = math.inf,
        settle_s: float | None = None,
        ignore: Iterable[str] = (),
    ) -> None:
        self._share = share
        self._per_second = per_second
        self._settle_s = settle_s
        self._ignore = tuple(ignore)
        self._lock = FreshLock()
        self._allowed_from = 0.0
        self._counts = Counts()
        self._findings: deque[Finding] = deque(maxlen=MOST_FINDINGS)
        self._not_deterministic: OrderedDict[str, None] = OrderedDict()
        self._suspects: deque[_Suspect] = deque()
        self._changed = threading.Condition(self._lock.lock)
        self._thread: threading.Thread | None = None
        self._ended = False
        register_for_forks(self)

    # What `observing` asks.

    def wants(self, near: NearCache, key: str) -> bool:
        """See `Reviewer.wants`."""
        if random.random() >= self._share:
            return False
        if self._ignore and any(fnmatch.fnmatchcase(key, pattern) for pattern in self._ignore):
            return False
        return self._is_allowed()

    def reloaded(self, probe: Probe, fresh: Outcome) -> bool:
        """See `Reviewer.reloaded`."""
        self._count("reloaded")
        if _could_not(fresh):
            self._count("not_reloaded")
        elif _difference(probe, fresh) is None:
            self._count("same")
        else:
            return True
        return False

    def reloaded_again(self, probe: Probe, fresh: Outcome, again: Outcome) -> None:
        """See `Reviewer.reloaded_again`."""
        difference = _difference(probe, fresh)
        if _could_not(again) or difference is None:
            self._count("not_reloaded")
        elif not _agree(fresh, again):
            with self._lock.lock:
                self._counts.not_deterministic += 1
                self._not_deterministic[probe.key] = None
                if len(self._not_deterministic) > MOST_FINDINGS:
                    self._not_deterministic.popitem(last=False)
        else:
            self._suspect(probe, difference)

    # What people ask.

    def report(self) -> Report:
        """What was found up to now. Suspects that still wait are in none of the counts but `reloaded`."""
        with self._lock.lock:
            counts = Counts(**{field.name: getattr(self._counts, field.name) for field in fields(Counts)})
            return Report(counts, tuple(self._findings), tuple(self._not_deterministic))

    def wait(self) -> Report:
        """Wait until every suspect is judged; then `report`."""
        with self._lock.lock:
            self._changed.wait_for(lambda: not self._suspects)
        return self.report()

    def end(self) -> None:
        """Judge nothing any more: what waits is undecided."""
        with self._lock.lock:
            self._ended = True
            self._counts.undecided += len(self._suspects)
            self._suspects.clear()
            self._changed.notify_all()

    def fork_locks(self) -> tuple[()]:
        """See `ForkOwner`: the lock is a fresh one in a child, so a fork need not wait for it."""
        return ()

    def after_fork_in_child(self) -> None:
        """The thread that judges, and what it had to judge, are the parent's."""
        self._changed = threading.Condition(self._lock.lock)
        self._suspects.clear()
        self._thread = None

    # Inside.

    def _count(self, what: str) -> None:
        with self._lock.lock:
            setattr(self._counts, what, getattr(self._counts, what) + 1)

    def _is_allowed(self) -> bool:
        if self._per_second == math.inf:
            return True
        with self._lock.lock:
            now = time.monotonic()
            if now < self._allowed_from:
                self._counts.skipped += 1
                return False
            self._allowed_from = now + 1 / self._per_second
            return True

    def _suspect(self, probe: Probe, difference: Difference) -> None:
        near = probe.near
        settle_s = near.bus.config.max_staleness if self._settle_s is None else self._settle_s
        now = near.bus.clock()
        suspect = _Suspect(near, probe.key, probe.entry, difference, probe.entry.age_s(now), now + int(settle_s * 1e9))
        with self._lock.lock:
            if self._ended or len(self._suspects) >= MOST_SUSPECTS:
                self._counts.undecided += 1
                return
            self._suspects.append(suspect)
            if self._thread is None:
                self._start_thread()
            self._changed.notify_all()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._judge_all, name="invalidator-verifier", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the interpreter is going down, or the system is out of threads
            log.warning("verifier_cannot_start error=%s", error)
        else:
            self._thread = thread

    def _judge_all(self) -> None:
        while True:
            with self._lock.lock:
                if not self._suspects:
                    self._thread = None
                    return
                suspect = self._suspects[0]
                wait_s = (suspect.due - suspect.near.bus.clock()) / 1e9
                if wait_s > 0:
                    self._changed.wait(wait_s)
                    continue
            verdict = _judge_and_report(suspect)
            with self._lock.lock:
                if self._suspects and self._suspects[0] is suspect:  # or it has ended meanwhile
                    self._suspects.popleft()
                    setattr(self._counts, verdict, getattr(self._counts, verdict) + 1)
                    if verdict == "stale":
                        self._findings.append(_finding(suspect))
                    self._changed.notify_all()


def _judge_and_report(suspect: _Suspect) -> str:
    """What to count *suspect* as. Whatever is raised meanwhile, by a callback for evictions too, ends here."""
    verdict = "undecided"
    try:
        verdict = _judge(suspect)
        if verdict == "stale":
            _report(suspect)
    except BaseException:  # the thread judges all others as well
        log.exception("verifier_failed key=%r", suspect.key)
    return verdict


def _judge(suspect: _Suspect) -> str:
    """What to count *suspect* as."""
    bus = suspect.near.bus
    if bus.make_rule().check(suspect.entry) == "invalidated":
        return "invalidated"
    is_proven = any(_wait_until_proven(bus, suspect.due) for _ in range(PROOFS))
    if bus.make_rule().check(suspect.entry) == "invalidated":
        return "invalidated"
    return "stale" if is_proven else "undecided"


def _wait_until_proven(bus: Invalidator, at: int) -> bool:
    return bus.status().state != "closed" and bus.wait_until_proven(at)


def _report(suspect: _Suspect) -> None:
    log.error(
        "stale_read key=%r cache=%r age_s=%.1f tags=%r where=%r",
        suspect.key,
        near_caches.name_of(suspect.near),
        suspect.age_s,
        list(suspect.entry.tags),
        suspect.difference.where,
    )
    # It would be found again and again, and be served meanwhile.
    if suspect.entry in suspect.near.peek_all(suspect.key):
        suspect.near.evict(suspect.key)


def _finding(suspect: _Suspect) -> Finding:
    return Finding(
        key=suspect.key,
        cache=near_caches.name_of(suspect.near),
        age_s=round(suspect.age_s, 3),
        tags=suspect.entry.tags,
        difference=suspect.difference,
        at=timezone.now().isoformat(timespec="milliseconds"),
    )


def _could_not(fresh: Outcome) -> bool:
    """Whether a reload proves nothing about the value."""

    return isinstance(fresh.error, NothingToReloadError | Error | OSError)


def _difference(probe: Probe, fresh: Outcome) -> Difference | None:
    if fresh.error is not None:
        return Difference("", differences.short(probe.entry.value), f"{type(fresh.error).__name__}: {fresh.error}")
    return differences.find(probe.entry.value, fresh.value)


def _agree(fresh: Outcome, again: Outcome) -> bool:
    if fresh.error is not None or again.error is not None:
        return type(fresh.error) is type(again.error)
    return differences.find(fresh.value, again.value) is None


# The setting.


class _OfTheSetting:
    """The verifier that INVALIDATOR["VERIFY"] asks for."""

    def __init__(self) -> None:
        self.verifier: Verifier | None = None

    def begin(self, _: Invalidator) -> None:
        """A bus was made."""
        if (share := conf.verify) and self.verifier is None:
            self.verifier = Verifier(share, per_second=PER_SECOND, ignore=conf.verify_ignore)
            observing.review(self.verifier)

    def end(self) -> None:
        """It was closed."""
        if (verifier := self.verifier) is not None:
            self.verifier = None
            observing.end_review(verifier)
            verifier.end()


_of_the_setting = _OfTheSetting()


def report() -> Report | None:
    """What the verifier of INVALIDATOR["VERIFY"] has found in this process; None if there is none."""
    verifier = _of_the_setting.verifier
    return None if verifier is None else verifier.report()


def install() -> None:
    """Begin with the process' bus, if INVALIDATOR["VERIFY"] asks for it."""
    runtime.on_made(_of_the_setting.begin)
    runtime.on_reset(_of_the_setting.end)
