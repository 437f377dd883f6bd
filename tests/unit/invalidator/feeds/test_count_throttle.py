"""When what was stamped is counted: at once, or in a storm soon."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from invalidator.feeds.count_throttle import BURST, CALM_PER_S, STEP_NS, CountThrottle

S = 1_000_000_000
BEGIN = 1_000 * S


def counts(throttle: CountThrottle, times: list[int]) -> list[int]:
    """When the count moves for messages at *times*, by a listener that settles after each and when it is due."""
    moved: list[int] = []
    due = None
    for at in times:
        if due is not None and due <= at:
            moved.append(due)
            throttle.counted(due)
        throttle.stamped(at)
        due = throttle.due()
        if due <= at:
            moved.append(at)
            throttle.counted(at)
            due = None
    return moved if due is None else [*moved, due]


def evenly(per_s: int, number: int) -> list[int]:
    return [BEGIN + index * S // per_s for index in range(number)]


class TestCounts:
    def test_messages_are_counted_at_once(self) -> None:
        times = evenly(CALM_PER_S, 10 * BURST)
        assert counts(CountThrottle(), times) == times

    def test_so_is_a_burst_of_them(self) -> None:
        times = [BEGIN] * BURST
        assert counts(CountThrottle(), times) == times

    def test_and_the_next_one_when_it_has_passed(self) -> None:
        times = [BEGIN] * BURST + [BEGIN + BURST * S // CALM_PER_S] * BURST
        assert counts(CountThrottle(), times) == times

    def test_in_a_storm_the_count_moves_once_a_step(self) -> None:
        moved = counts(CountThrottle(), evenly(4 * CALM_PER_S, 8 * CALM_PER_S))
        late = [at for at in moved if at > BEGIN + S]
        assert {after - before for before, after in pairwise(late)} == {STEP_NS}

    def test_a_storm_is_over_soon(self) -> None:
        """However long it lasted."""
        throttle = CountThrottle()
        counts(throttle, evenly(10 * CALM_PER_S, 10 * CALM_PER_S))
        after = BEGIN + S + 2 * BURST * S // CALM_PER_S
        assert counts(throttle, [after]) == [after]

    @given(st.lists(st.integers(0, STEP_NS), max_size=400))
    def test_nothing_waits_longer_than_a_step(self, gaps: list[int]) -> None:
        times = [BEGIN]
        for gap in gaps:
            times.append(times[-1] + gap // 50)
        moved = counts(CountThrottle(burst=3), times)
        assert all(any(at <= move <= at + STEP_NS for move in moved) for at in times)
