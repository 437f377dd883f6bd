"""Single flight: who joins, who leads a load of its own, and that everybody gets a result."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from invalidator import loads as loads_module
from invalidator.entry import Entry
from invalidator.loads import Load, Loads, Result
from tests.support import Thread, wait_until


class SomeLoads(Loads):
    """Loads of which the test decides whether they are still valid."""

    def __init__(self) -> None:
        self.valid: Callable[[tuple[int, ...], int], bool] = lambda slots, at: True
        self.failures = 0
        super().__init__(clock=lambda: 500, as_of=lambda: 500, is_valid=self._ask_test, on_failure=self._count_failure)

    def _count_failure(self) -> None:
        self.failures += 1

    def _ask_test(self, slots: tuple[int, ...], loaded_at: int) -> bool:
        return self.valid(slots, loaded_at)

    def ask(self, key: str = "k", slots=(1,), *, blocking=True) -> tuple[Load, bool]:
        return self.join_or_start(key, slots, (), blocking=blocking)


@pytest.fixture
def loads(monkeypatch) -> SomeLoads:
    """No loads under way, and nobody who waits: the tests of this module abandon many."""
    for name in ("by_load", "by_thread"):
        monkeypatch.setattr(loads_module._waiting, name, {})
    return SomeLoads()


ENTRY = Entry("value", loaded_at=500, slots=(1,))


class TestJoining:
    def test_the_first_leads_and_the_next_joins(self, loads) -> None:
        load, leads = loads.ask()
        assert leads
        assert Thread(loads.ask).outcome() == (load, False)

    def test_it_is_treated_as_loaded_before_it_began(self, loads) -> None:
        assert loads.ask()[0].loaded_at == 500

    def test_each_key_has_its_own(self, loads) -> None:
        loads.ask("a")
        assert Thread(lambda: loads.ask("b")).outcome()[1]
        assert len(loads) == 2

    def test_nobody_joins_a_load_that_has_become_stale(self, loads) -> None:
        """A caller that asks after an invalidation is not given what a slow loader read before it."""
        stale, _ = loads.ask()
        loads.valid = lambda slots, at: False
        fresh, leads = Thread(loads.ask).outcome()
        assert leads
        assert fresh is not stale

    def test_the_next_joins_the_fresh_load(self, loads) -> None:
        loads.ask()
        loads.valid = lambda slots, at: False
        fresh, _ = loads.ask()
        loads.valid = lambda slots, at: True
        assert Thread(loads.ask).outcome() == (fresh, False)

    def test_the_load_and_the_caller_bring_their_names(self, loads) -> None:
        """The caller's own tags may have been invalidated though the leader does not know them."""
        asked = []
        loads.ask(slots=(1, 2))
        loads.valid = lambda *facts: asked.append(facts) or True
        Thread(lambda: loads.ask(slots=(1, 3))).outcome()
        [(slots, loaded_at)] = asked
        assert set(slots) == {1, 2, 3}
        assert loaded_at == 500

    def test_nobody_joins_what_is_about_to_end(self, loads) -> None:
        load, _ = loads.ask()
        loads.close("k", load)
        assert len(loads) == 0
        assert Thread(loads.ask).outcome()[1]

    def test_a_stale_load_that_ends_leaves_its_successor_under_way(self, loads) -> None:
        stale, _ = loads.ask()
        loads.valid = lambda slots, at: False
        Thread(loads.ask).outcome()
        loads.close("k", stale)
        assert len(loads) == 1

    def test_a_caller_that_is_apart_joins_nobody_and_nobody_joins_it(self, loads) -> None:
        first, _ = loads.ask()
        alone, leads = loads.join_or_start("k", (1,), (), blocking=True, alone=True)
        assert leads
        assert Thread(loads.ask).outcome() == (first, False)
        assert alone is not first


class TestLeading:
    def test_the_entry_goes_to_those_who_wait(self, loads) -> None:
        load, _ = loads.ask()
        with loads.lead("k", load) as result:
            result.entry = ENTRY
        assert load.wait().entry is ENTRY
        assert len(loads) == 0

    def test_so_does_an_error(self, loads) -> None:
        load, _ = loads.ask()
        with pytest.raises(LookupError), loads.lead("k", load):
            raise LookupError
        assert isinstance(load.wait().error, LookupError)
        assert loads.failures == 1

    def test_a_load_that_is_given_up_has_no_result(self, loads) -> None:
        """Neither an entry nor an error: what interrupted the leader is no affair of those who wait."""
        load, _ = loads.ask()
        with pytest.raises(KeyboardInterrupt), loads.lead("k", load):
            raise KeyboardInterrupt
        assert load.wait() == Result()
        assert (len(loads), loads.failures) == (0, 0)


class TestWaiting:
    def test_everybody_who_waits_gets_the_result(self, loads) -> None:
        load, _ = loads.ask()
        waiting = [Thread(load.wait) for _ in range(5)]
        result = Result(ENTRY)
        load.end(result)
        assert all(thread.outcome() is result for thread in waiting)

    def test_a_caller_that_is_late_gets_it_at_once(self, loads) -> None:
        load, _ = loads.ask()
        load.end(Result(ENTRY))
        assert load.wait().entry is ENTRY

    def test_a_waiting_task_that_is_cancelled_does_not_end_the_load(self, loads) -> None:
        """A cancelled task is one caller, not all of them."""

        async def main() -> Result:
            load, _ = loads.ask(blocking=False)
            one = asyncio.create_task(load.wait_async())
            two = asyncio.create_task(load.wait_async())
            await asyncio.sleep(0)
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)
            load.end(Result(ENTRY))
            return await two

        assert asyncio.run(main()).entry is ENTRY

    def test_tasks_wait_for_a_thread_without_blocking_the_loop(self, loads) -> None:
        load, _ = loads.ask()

        async def main() -> Result:
            waiting = asyncio.create_task(load.wait_async())
            await asyncio.sleep(0)  # the loop turns
            load.end(Result(ENTRY))
            return await waiting

        assert asyncio.run(main()).entry is ENTRY

    def test_a_waiting_task_whose_loop_is_gone_does_not_spoil_the_end(self, loads) -> None:
        """The leader must not see an error because of callers who left with their loop."""
        load, _ = loads.ask()

        async def main() -> None:
            asyncio.create_task(load.wait_async())  # noqa: RUF006 - abandoned on purpose
            await asyncio.sleep(0)

        asyncio.run(main())
        load.end(Result(ENTRY))
        assert load.wait().entry is ENTRY


class TestNobodyWaitsForItself:
    """A caller that would starts a load of its own. A test that fails here hangs, and pytest's time-out ends it."""

    def test_a_loader_that_asks_for_its_own_key(self, loads) -> None:
        loads.ask()
        assert loads.ask()[1]

    def test_a_task_that_asks_for_its_own_key(self, loads) -> None:
        async def main() -> bool:
            loads.ask(blocking=False)
            return loads.ask(blocking=False)[1]

        assert asyncio.run(main())

    def test_a_task_may_wait_for_another_task(self, loads) -> None:
        async def main() -> bool:
            await asyncio.create_task(asyncio.to_thread(lambda: None))

            async def lead() -> None:
                loads.ask(blocking=False)

            await asyncio.create_task(lead())
            return loads.ask(blocking=False)[1]

        assert not asyncio.run(main())

    def test_two_loaders_that_ask_for_each_others_key(self, loads) -> None:
        """A leads a and joins b: from then on the leader of b must not wait for a, though A does not wait yet."""
        a_joined, b_led = threading.Event(), threading.Event()

        def lead_b() -> bool:
            loads.ask("b")
            b_led.set()
            a_joined.wait()
            return loads.ask("a")[1]

        loads.ask("a")
        other = Thread(lead_b)
        b_led.wait()
        assert not loads.ask("b")[1]
        a_joined.set()
        assert other.outcome()

    def test_a_circle_of_three(self, loads) -> None:
        """Through as many loads as there are."""
        turn = {key: threading.Event() for key in "abc"}
        alone: list[str] = []

        def lead(key: str, wants: str) -> None:
            load, _ = loads.ask(key)
            turn[key].set()
            for event in turn.values():
                event.wait()
            other, leads = loads.ask(wants)
            if leads:
                alone.append(key)
                other.end(Result(ENTRY))
            else:
                other.wait()
            load.end(Result(ENTRY))

        threads = [Thread(lambda key=key, wants=wants: lead(key, wants)) for key, wants in ("ab", "bc", "ca")]
        for thread in threads:
            thread.outcome()
        assert alone

    def test_a_sync_caller_on_the_loops_own_thread(self, loads) -> None:
        """It would block the very thread whose task leads."""

        async def main() -> bool:
            async def lead() -> None:
                loads.ask(blocking=False)

            await asyncio.create_task(lead())
            return loads.ask(blocking=True)[1]

        assert asyncio.run(main())

    def test_a_loop_run_inside_a_loader(self, loads) -> None:
        """A sync loader that runs async code waits, with its thread, for every task of that loop."""

        async def ask() -> bool:
            return loads.ask(blocking=False)[1]

        loads.ask()
        assert asyncio.run(ask())

    def test_a_child_task_of_a_loader(self, loads) -> None:
        """An async loader that gathers its parts waits for each of them."""

        async def main() -> bool:
            loads.ask(blocking=False)

            async def ask() -> bool:
                return loads.ask(blocking=False)[1]

            return await asyncio.create_task(ask())

        assert asyncio.run(main())

    def test_what_a_loader_gathers_waits_for_the_loader_too(self, loads) -> None:
        """Two async loaders whose child tasks ask for each other's key."""

        async def main() -> list[bool]:
            led: list[bool] = []

            async def lead(key: str, wants: str) -> None:
                load, _ = loads.ask(key, blocking=False)
                await asyncio.sleep(0)  # both are under way

                async def child() -> None:
                    other, leads = loads.ask(wants, blocking=False)
                    led.append(leads)
                    if not leads:
                        await other.wait_async()

                await asyncio.create_task(child())
                loads.close(key, load)
                load.end(Result(ENTRY))

            await asyncio.gather(lead("a", "b"), lead("b", "a"))
            return led

        assert sorted(asyncio.run(main())) == [False, True]

    def test_a_thread_that_is_blocked_runs_none_of_its_tasks(self, loads) -> None:
        """A sync call in a coroutine stops the whole loop, and with it every task that leads a load there."""
        loop_blocked, b_led = threading.Event(), threading.Event()

        def lead_b() -> bool:
            b, _ = loads.ask("b")
            b_led.set()
            loop_blocked.wait()
            alone = loads.ask("a")[1]
            b.end(Result(ENTRY))
            return alone

        async def lead_a() -> None:
            loads.ask("a", blocking=False)

        async def main() -> bool:
            await asyncio.create_task(lead_a())
            other = Thread(lead_b)
            b_led.wait()
            b, leads = loads.ask("b", blocking=True)
            assert not leads
            loop_blocked.set()
            b.wait()
            return other.outcome()

        assert asyncio.run(main())

    def test_a_caller_whose_load_has_ended_waits_no_more(self, loads) -> None:
        """What one waited for an hour ago makes no circle, and is not kept in memory."""

        def wait() -> None:
            mine, _ = loads.ask("mine")
            load, _ = loads.ask()
            load.wait()
            loads.close("mine", mine)

        load, _ = loads.ask()
        waiting = [Thread(wait) for _ in range(3)]
        wait_until(lambda: len(loads_module._waiting.by_thread) == 3)
        load.end(Result(ENTRY))
        for thread in waiting:
            thread.outcome()
        assert not loads_module._waiting.by_load
        assert not loads_module._waiting.by_thread


class TestGivingUp:
    def test_a_caller_that_has_waited_for_too_long_is_given_nothing(self, loads) -> None:
        loads.ask()
        assert Thread(lambda: loads.ask()[0].wait(0.0)).outcome() is None

    def test_nor_does_a_coroutine_wait_for_ever(self, loads) -> None:
        load, _ = loads.ask()
        assert asyncio.run(load.wait_async(0.0)) is None

    def test_a_load_whose_loop_was_closed_will_never_end(self, loads, monkeypatch) -> None:
        """Somebody may hold the task, as the asyncio documentation advises, so nothing says that it is over."""
        monkeypatch.setattr(loads_module, "LOOK_AGAIN_S", 0.0)

        async def start() -> Load:
            return loads.ask(blocking=False)[0]

        assert asyncio.run(start()).wait() is None

    def test_the_next_caller_starts_anew(self, loads) -> None:
        """And the others, that have waited as long, join in that load: there is no stampede."""
        old, _ = loads.ask()
        loads.give_up("k", old)
        new, leads = loads.ask()
        assert leads
        loads.give_up("k", old)
        assert Thread(loads.ask).outcome() == (new, False)
