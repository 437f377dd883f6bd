""" "get, compute, set" counts from the get."""

import asyncio
import gc

import pytest

from invalidator.misses import DEEPEST, FLOOR_LASTS_NS, MOST_MISSES, Misses, current_task
from tests.support import Thread


@pytest.fixture
def misses() -> Misses:
    return Misses()


class TestOneContext:
    def test_a_set_counts_from_the_miss_before_it(self, misses) -> None:
        misses.note("a", 100)
        assert misses.take("a", 900) == 100

    def test_a_set_without_a_miss_counts_from_now(self, misses) -> None:
        misses.note("b", 100)
        assert misses.take("a", 900) == 900

    def test_a_miss_counts_once(self, misses) -> None:
        """A later, unrelated set of the same key is not spoiled by it."""
        misses.note("a", 100)
        misses.take("a", 900)
        assert misses.take("a", 950) == 950

    def test_a_slow_computation_counts_however_long_it_takes(self, misses) -> None:
        misses.note("a", 100)
        assert misses.take("a", 100 + 100 * FLOOR_LASTS_NS) == 100

    def test_the_newest_counts_first(self, misses) -> None:
        """A computation inside a computation takes its own miss and leaves the outer one its own."""
        misses.note("a", 100)
        misses.note("a", 200)
        assert misses.take("a", 900) == 200
        assert misses.take("a", 901) == 100
        assert misses.take("a", 902) == 902

    def test_of_a_deep_nest_the_newest_are_kept(self, misses) -> None:
        for level in range(DEEPEST + 3):
            misses.note("a", 100 + level)
        times = [misses.take("a", 900) for _ in range(DEEPEST + 1)]
        assert times == [105, 104, 103, 102]


class TestBounds:
    def test_what_is_pushed_out_leaves_its_time_behind(self, misses) -> None:
        """Otherwise a dropped miss lets a stale set in."""
        for number in range(MOST_MISSES + 1):
            misses.note(f"k{number}", 100 + number)
        assert misses.take("k0", 5000) == 100
        assert misses.take("never seen", 5000) == 100
        assert misses.take("k1", 5000) == 101

    def test_the_oldest_time_left_behind_counts(self, misses) -> None:
        for number in range(MOST_MISSES + 50):
            misses.note(f"k{number}", 100 + number)
        assert misses.take("k49", 5000) == 100

    def test_a_miss_of_a_remembered_key_pushes_nobody_out(self, misses) -> None:
        for number in range(MOST_MISSES):
            misses.note(f"k{number}", 100 + number)
        misses.note("k5", 9000)
        assert misses.take("never seen", 9001) == 9001

    def test_the_floor_is_forgotten_after_a_while(self, misses) -> None:
        """A loop that gave up on a thousand keys does not spoil every later set."""
        for number in range(MOST_MISSES + 1):
            misses.note(f"k{number}", 100)
        assert misses.take("other", 100 + FLOOR_LASTS_NS - 1) == 100
        assert misses.take("other", 100 + 2 * FLOOR_LASTS_NS) == 100 + 2 * FLOOR_LASTS_NS

    def test_each_time_left_behind_lasts_its_while(self, misses) -> None:
        """Not only the first: the last one dropped before the first is forgotten is remembered as long."""
        for number in range(MOST_MISSES + 1):
            misses.note(f"k{number}", 100)
        later = 100 + FLOOR_LASTS_NS - 1
        misses.note("one more", later)  # pushes k1 out, which may still be computed
        assert misses.take("k1", later + FLOOR_LASTS_NS - 1) == 100

    def test_a_loop_that_never_ends_does_not_spoil_every_later_set(self, misses) -> None:
        """It leaves a time behind again and again: the first must be forgotten all the same."""
        second = FLOOR_LASTS_NS // 60
        for number in range(MOST_MISSES + 1000):
            misses.note(f"k{number}", number * second)
        now = (MOST_MISSES + 1000) * second
        floor = misses.take("other", now)
        assert floor <= 999 * second  # the miss that was dropped last
        assert floor >= (1000 - 2 * 60) * second

    def test_the_memory_is_bounded(self, misses) -> None:
        """Every dictionary is."""
        for number in range(3 * MOST_MISSES):
            misses.note(f"k{number}", number)
            misses.note("same", number)
        context = misses._context()
        assert len(context.times) <= MOST_MISSES
        assert len(context.times["same"]) <= DEEPEST + 1


class TestContexts:
    def test_each_thread_has_its_own(self, misses) -> None:
        """Another thread's miss has nothing to do with when this one reads the source."""
        misses.note("a", 100)
        assert Thread(lambda: misses.take("a", 900)).outcome() == 900
        assert misses.take("a", 900) == 100

    def test_each_task_has_its_own(self, misses) -> None:
        """Tasks share a thread."""

        async def note_and_take(noted: asyncio.Event, other: asyncio.Event, at: int) -> int:
            misses.note("a", at)
            noted.set()
            await other.wait()
            return misses.take("a", 900)

        async def main() -> list[int]:
            one, two = asyncio.Event(), asyncio.Event()
            return await asyncio.gather(note_and_take(one, two, 100), note_and_take(two, one, 200))

        assert asyncio.run(main()) == [100, 200]

    def test_a_task_is_not_its_thread(self, misses) -> None:
        async def take() -> int:
            return misses.take("a", 900)

        misses.note("a", 100)
        assert asyncio.run(take()) == 900

    def test_a_finished_task_leaves_nothing(self, misses) -> None:
        """A server runs a task per request."""

        async def note() -> None:
            misses.note("a", 100)

        asyncio.run(note())
        gc.collect()
        assert len(misses._tasks) == 0

    def test_outside_of_a_loop_there_is_no_task(self) -> None:
        assert current_task() is None


class TestClaims:
    def test_a_recent_miss_makes_a_set_a_fill(self, misses) -> None:
        misses.note("a", 100)
        assert misses.claim("a", 150, 50) == (True, 100)
        assert misses.claim("a", 150, 50) == (False, 150)

    def test_a_miss_long_past_makes_no_fill_but_still_counts(self, misses) -> None:
        """A loop that gave up on a key, and sets it much later: that is a change, and is published."""
        misses.note("a", 100)
        assert misses.claim("a", 151, 50) == (False, 100)

    def test_a_set_of_what_nobody_missed_is_no_fill(self, misses) -> None:
        misses.note("a", 100)
        assert misses.claim("b", 101, 50) == (False, 101)

    def test_what_was_pushed_out_is_no_fill_and_counts_from_then(self, misses) -> None:
        for number in range(MOST_MISSES + 1):
            misses.note(f"k{number}", 100)
        assert misses.claim("k0", 101, 50) == (False, 100)

    def test_a_context_forgets_its_own(self, misses) -> None:
        """A thread serves one request after the other."""
        misses.note("a", 100)
        Thread(misses.forget).outcome()
        assert misses.claim("a", 101, 50) == (True, 100)
        misses.note("a", 100)
        misses.forget()
        assert misses.claim("a", 101, 50) == (False, 101)

    def test_a_task_forgets_its_own(self, misses) -> None:
        async def task() -> tuple[bool, int]:
            misses.forget()
            misses.note("a", 100)
            misses.forget()
            return misses.claim("a", 101, 50)

        misses.note("a", 90)
        assert asyncio.run(task()) == (False, 101)
        assert misses.claim("a", 101, 50) == (True, 90)

    def test_a_context_that_changes_a_key_itself_has_not_missed_it(self, misses) -> None:
        misses.note("a", 100)
        misses.note("a", 110)
        misses.note("b", 100)
        misses.drop(["a", "c"])
        assert misses.claim("a", 120, 50) == (False, 120)
        assert misses.claim("b", 120, 50) == (True, 100)
