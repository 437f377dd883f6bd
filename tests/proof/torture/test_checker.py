"""The checker can fail: the promise is judged from what was accepted, read by read."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from .checker import Truth, Verdict
from .records import CHANGE, Change, Log, LogFull, read_log

BOUND = 500
KEY = 7


def judge(
    changes: list[Change],
    reads: list[tuple[int, int]],
    *,
    committed: Mapping[tuple[int, int], str] | None = None,
    died: Mapping[str, int] | None = None,
    by_hold: bool = False,
) -> Verdict:
    """The verdict on *reads* of (version, began), each returned 10 later."""
    truth = Truth([("writer", change) for change in changes], dict(committed or {}), died or {}, by_hold=by_hold)
    verdict = Verdict()
    truth.check([(KEY, version, began, began + 10) for version, began in reads], "reader", BOUND, verdict)
    return verdict


def change(version: int, *, accepted: int = 0, held: int = 0, committed: int = 90) -> Change:
    return Change(KEY, version, accepted, held, committed, 80)


def test_a_read_beyond_the_bound_is_a_violation_and_names_what_was_expected() -> None:
    verdict = judge([change(1, accepted=100)], [(0, 601)])
    assert verdict.violations == 1
    assert verdict.worst == 501
    assert "version 1 or newer" in verdict.shown[0].describe(0)


def test_a_read_within_the_bound_is_stale_and_none_of_a_violation() -> None:
    verdict = judge([change(1, accepted=100)], [(0, 600)])
    assert (verdict.reads, verdict.stale_reads, verdict.violations, verdict.worst) == (1, 1, 0, 500)
    assert verdict.worst_at_return == 510


def test_what_was_never_accepted_makes_nothing_stale() -> None:
    assert judge([change(1)], [(0, 10_000)]).stale_reads == 0


def test_any_later_acceptance_makes_an_older_version_stale() -> None:
    """Version 1 was never published, but version 2 was: version 0 is as stale as it is."""
    assert judge([change(1), change(2, accepted=200)], [(0, 701), (1, 701), (2, 701)]).violations == 2


def test_the_earliest_acceptance_counts() -> None:
    """The invalidation of version 1 waited in a queue while that of version 2 was taken."""
    assert judge([change(1, accepted=900), change(2, accepted=200)], [(0, 701)]).worst == 501


def test_a_version_that_nobody_wrote_shows_that_the_suite_is_wrong() -> None:
    assert judge([change(1, accepted=100)], [(2, 110)]).violations == 1


def test_a_hold_counts_from_the_commit_on_even_if_the_writer_died_before_it_could_say_so() -> None:
    left_behind = change(1, held=50, committed=0)
    committed, died = {(KEY, 1): "writer"}, {"writer": 100}
    assert judge([left_behind], [(0, 601)], committed=committed, died=died, by_hold=True).violations == 1
    assert judge([left_behind], [(0, 601)], committed=committed, died=died).stale_reads == 0


def test_a_change_that_its_writer_did_not_live_to_commit_is_none() -> None:
    never_committed = change(1, held=50, committed=0)
    assert judge([never_committed], [(0, 601)], died={"writer": 100}, by_hold=True).stale_reads == 0


def test_a_log_ends_at_its_last_whole_record_and_has_an_end(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", CHANGE, room=2)
    place = log.append(KEY, 1, 0, 0, 0, 80)
    log.note_committed(place, 90)
    log.note_accepted(place, 100)
    assert [Change(*fields) for fields in read_log(tmp_path / "log", CHANGE)] == [change(1, accepted=100)]
    log.append(KEY, 2, 0, 0, 0, 80)
    with pytest.raises(LogFull):
        log.append(KEY, 3, 0, 0, 0, 80)
