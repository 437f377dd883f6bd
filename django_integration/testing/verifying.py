"""A block in which every hit is loaded once more and compared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from .. import observing
from ..monitoring.verifier import Verifier


@contextlib.contextmanager
def verify_reads(*, ignore: Iterable[str] = ()) -> Iterator[Verifier]:
    """
    Fail if a value that was cached and hit inside the block was stale, and nothing had invalidated it.

    Every hit of `cached`, `get_or_set` and the backend's `get_or_set` is loaded once more and compared. Where the
    loaders give another answer each time, nothing is said; `report().not_deterministic` of what is returned names them.

    Args:
        ignore: patterns of keys that are left alone, such as "clock:*".

    Raises:
        AssertionError: there was one; the message is a table with its key, age, tags and what is different.
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
