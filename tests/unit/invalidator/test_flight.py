"""Single flight: who boards, who flies alone, and that everybody lands."""

import asyncio
import threading

import pytest

from invalidator import flight as flight_module
from invalidator.entry import Entry
from invalidator.flight import Flight, Flights, Landing
from tests.support import Thread, wait_until


@pytest.fixture
def flights(monkeypatch) -> Flights:
    """No loads under way, and nobody who waits: the tests of this module abandon many."""
    for name in ("by_flight", "by_thread"):
        monkeypatch.setattr(flight_module._waiting, name, {})
    return Flights()


def board(
    flights: Flights, key: str = "k", slots=(1,), *, still_good=lambda slots, at: True, blocking=True
) -> tuple[Flight, bool]:
    return flights.board(key, slots, (), now=lambda: 500, still_good=still_good, blocking=blocking)


ENTRY = Entry("value", loaded_at=500, slots=(1,))


class TestBoarding:
    def test_the_first_flies_and_the_next_boards(self, flights) -> None:
        flight, is_mine = board(flights)
        assert is_mine
        assert Thread(lambda: board(flights)).outcome() == (flight, False)

    def test_its_load_counts_from_before_it_began(self, flights) -> None:
        assert board(flights)[0].loaded_at == 500

    def test_each_key_has_its_own(self, flights) -> None:
        board(flights, "a")
        assert Thread(lambda: board(flights, "b")).outcome()[1]
        assert len(flights) == 2

    def test_nobody_boards_a_flight_whose_load_has_become_stale(self, flights) -> None:
        """Who asks after an invalidation is not handed what a slow loader read before it."""
        stale, _ = board(flights)
        fresh, is_mine = Thread(lambda: board(flights, still_good=lambda slots, at: False)).outcome()
        assert is_mine
        assert fresh is not stale

    def test_the_next_boards_the_fresh_flight(self, flights) -> None:
        board(flights)
        fresh, _ = board(flights, still_good=lambda slots, at: False)
        assert Thread(lambda: board(flights)).outcome() == (fresh, False)

    def test_the_flight_and_the_passenger_bring_their_names(self, flights) -> None:
        """The passenger's own tags may have been invalidated though the pilot knows nothing of them."""
        asked = []
        board(flights, slots=(1, 2))
        Thread(lambda: board(flights, slots=(1, 3), still_good=lambda *facts: asked.append(facts) or True)).outcome()
        [(slots, loaded_at)] = asked
        assert set(slots) == {1, 2, 3}
        assert loaded_at == 500

    def test_nobody_boards_what_is_about_to_land(self, flights) -> None:
        flight, _ = board(flights)
        flights.leave("k", flight)
        assert len(flights) == 0
        assert Thread(lambda: board(flights)).outcome()[1]

    def test_a_stale_flight_that_lands_leaves_its_successor_in_the_air(self, flights) -> None:
        stale, _ = board(flights)
        Thread(lambda: board(flights, still_good=lambda slots, at: False)).outcome()
        flights.leave("k", stale)
        assert len(flights) == 1


class TestLanding:
    def test_everybody_who_waits_lands(self, flights) -> None:
        flight, _ = board(flights)
        waiting = [Thread(flight.wait) for _ in range(5)]
        landing = Landing(ENTRY)
        flight.land(landing)
        assert all(thread.outcome() is landing for thread in waiting)

    def test_who_comes_late_lands_at_once(self, flights) -> None:
        flight, _ = board(flights)
        flight.land(Landing(ENTRY))
        assert flight.wait().entry is ENTRY

    def test_a_passenger_who_gives_up_does_not_end_the_flight(self, flights) -> None:
        """A cancelled task is one caller, not all of them."""

        async def main() -> Landing:
            flight, _ = board(flights, blocking=False)
            one = asyncio.create_task(flight.await_landing())
            two = asyncio.create_task(flight.await_landing())
            await asyncio.sleep(0)
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)
            flight.land(Landing(ENTRY))
            return await two

        assert asyncio.run(main()).entry is ENTRY

    def test_tasks_wait_for_a_thread_without_blocking_the_loop(self, flights) -> None:
        flight, _ = board(flights)

        async def main() -> Landing:
            waiting = asyncio.create_task(flight.await_landing())
            await asyncio.sleep(0)  # the loop turns
            flight.land(Landing(ENTRY))
            return await waiting

        assert asyncio.run(main()).entry is ENTRY

    def test_a_waiting_task_whose_loop_is_gone_does_not_spoil_the_landing(self, flights) -> None:
        """The pilot must not hear of passengers who left with their loop."""
        flight, _ = board(flights)

        async def main() -> None:
            asyncio.create_task(flight.await_landing())  # noqa: RUF006 - abandoned on purpose
            await asyncio.sleep(0)

        asyncio.run(main())
        flight.land(Landing(ENTRY))
        assert flight.wait().entry is ENTRY


class TestNobodyWaitsForHimself:
    """Who would, loads on his own. A test that fails here hangs, and pytest's time-out ends it."""

    def test_a_loader_that_asks_for_its_own_key(self, flights) -> None:
        board(flights)
        assert board(flights)[1]

    def test_a_task_that_asks_for_its_own_key(self, flights) -> None:
        async def main() -> bool:
            board(flights, blocking=False)
            return board(flights, blocking=False)[1]

        assert asyncio.run(main())

    def test_a_task_may_wait_for_another_task(self, flights) -> None:
        async def main() -> bool:
            await asyncio.create_task(asyncio.to_thread(lambda: None))

            async def fly() -> None:
                board(flights, blocking=False)

            await asyncio.create_task(fly())
            return board(flights, blocking=False)[1]

        assert not asyncio.run(main())

    def test_two_loaders_that_ask_for_each_others_key(self, flights) -> None:
        """A flies a and boards b: from then on who flies b must not wait for a, though A does not wait yet."""
        a_boarded, b_flies = threading.Event(), threading.Event()

        def fly_b() -> bool:
            board(flights, "b")
            b_flies.set()
            a_boarded.wait()
            return board(flights, "a")[1]

        board(flights, "a")
        other = Thread(fly_b)
        b_flies.wait()
        assert not board(flights, "b")[1]
        a_boarded.set()
        assert other.outcome()

    def test_a_circle_of_three(self, flights) -> None:
        """Through as many flights as there are."""
        turn = {key: threading.Event() for key in "abc"}
        alone: list[str] = []

        def fly(key: str, wants: str) -> None:
            flight, _ = board(flights, key)
            turn[key].set()
            for event in turn.values():
                event.wait()
            other, is_mine = board(flights, wants)
            if is_mine:
                alone.append(key)
                other.land(Landing(ENTRY))
            else:
                other.wait()
            flight.land(Landing(ENTRY))

        threads = [Thread(lambda key=key, wants=wants: fly(key, wants)) for key, wants in ("ab", "bc", "ca")]
        for thread in threads:
            thread.outcome()
        assert alone

    def test_a_sync_caller_on_the_loops_own_thread(self, flights) -> None:
        """It would block the very thread whose task flies."""

        async def main() -> bool:
            async def fly() -> None:
                board(flights, blocking=False)

            await asyncio.create_task(fly())
            return board(flights, blocking=True)[1]

        assert asyncio.run(main())

    def test_a_loop_run_inside_a_loader(self, flights) -> None:
        """A sync loader that runs async code waits, with its thread, for every task of that loop."""

        async def ask() -> bool:
            return board(flights, blocking=False)[1]

        board(flights)
        assert asyncio.run(ask())

    def test_a_child_task_of_a_loader(self, flights) -> None:
        """An async loader that gathers its parts waits for each of them."""

        async def main() -> bool:
            board(flights, blocking=False)

            async def ask() -> bool:
                return board(flights, blocking=False)[1]

            return await asyncio.create_task(ask())

        assert asyncio.run(main())

    def test_what_a_loader_gathers_waits_for_the_loader_too(self, flights) -> None:
        """Two async loaders whose child tasks ask for each other's key."""

        async def main() -> list[bool]:
            boarded: list[bool] = []

            async def load(key: str, wants: str) -> None:
                flight, _ = board(flights, key, blocking=False)
                await asyncio.sleep(0)  # both fly

                async def child() -> None:
                    other, is_mine = board(flights, wants, blocking=False)
                    boarded.append(is_mine)
                    if not is_mine:
                        await other.await_landing()

                await asyncio.create_task(child())
                flights.leave(key, flight)
                flight.land(Landing(ENTRY))

            await asyncio.gather(load("a", "b"), load("b", "a"))
            return boarded

        assert sorted(asyncio.run(main())) == [False, True]

    def test_a_thread_that_is_blocked_flies_none_of_its_tasks(self, flights) -> None:
        """A sync call inside a coroutine stops the whole loop: who flies what it waits for must not wait for a task."""
        loop_blocked, b_flies = threading.Event(), threading.Event()

        def fly_b() -> bool:
            b, _ = board(flights, "b")
            b_flies.set()
            loop_blocked.wait()
            alone = board(flights, "a")[1]
            b.land(Landing(ENTRY))
            return alone

        async def fly_a() -> None:
            board(flights, "a", blocking=False)

        async def main() -> bool:
            await asyncio.create_task(fly_a())
            other = Thread(fly_b)
            b_flies.wait()
            b, is_mine = board(flights, "b", blocking=True)
            assert not is_mine
            loop_blocked.set()
            b.wait()
            return other.outcome()

        assert asyncio.run(main())

    def test_who_has_landed_waits_no_more(self, flights) -> None:
        """What one waited for an hour ago makes no circle, and is not kept in memory."""

        def wait() -> None:
            mine, _ = board(flights, "mine")
            flight, _ = board(flights)
            flight.wait()
            flights.leave("mine", mine)

        flight, _ = board(flights)
        passengers = [Thread(wait) for _ in range(3)]
        wait_until(lambda: len(flight_module._waiting.by_thread) == 3)
        flight.land(Landing(ENTRY))
        for passenger in passengers:
            passenger.outcome()
        assert not flight_module._waiting.by_flight
        assert not flight_module._waiting.by_thread
