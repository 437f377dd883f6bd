"""A block in which every hit is loaded once more, and compared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from .. import observing
from ..monitoring.verifier import Verifier


@contextlib.contextmanager
def verify_reads(*, ignore: Iterable[str] = ()) -> Iterator[Verifier]:
    """
    Fail if a hit inside the block was stale, and nothing had invalidated it.

    Every hit of `cached`, `get_or_set` and the backend's `get_or_set` is loaded once more and compared. A loader that
    gives another answer each time is no failure; `report().not_deterministic` of what this returns names it.

    Args:
        ignore: patterns of keys that are left alone, such as "clock:*".

    Raises:
        AssertionError: there was a stale hit; the message has a table with its key, age, tags and the difference.
    """
    verifier = Verifier(settle_s=0, ignore=ignore)
    observing.review(verifier)
    try:
        yield verifier
    finally:
        observing.end_review(verifier)
        report = verifier.wait()
    if report.findings:
        reads = "1 stale read" if report.counts.stale == 1 else f"{report.counts.stale} stale reads"
        raise AssertionError("\n\n".join([f"{reads} that nothing had invalidated.", *map(str, report.findings)]))
