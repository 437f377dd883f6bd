"""Background work in steps, and the thread that takes them."""

import threading

import pytest

from invalidator.steps import Pause, Steps, ThreadWorker, take_all
from tests.support import PATIENCE_S, wait_until


def test_every_step_is_taken() -> None:
    taken = []

    def steps() -> Steps:
        for step in ("a", "b"):
            yield step
            taken.append(step)
            yield None

    take_all(steps())
    assert taken == ["a", "b"]


def test_a_pause_ends_with_its_event() -> None:
    """A publisher that is closed does not wait for its next attempt."""
    waiting, unless = threading.Event(), threading.Event()

    def steps() -> Steps:
        waiting.set()
        yield Pause(PATIENCE_S * 100, unless=unless)

    worker = ThreadWorker("steps", steps())
    worker.start()
    waiting.wait(PATIENCE_S)
    unless.set()
    assert worker.join(PATIENCE_S)


def test_a_pause_ends_with_its_time() -> None:
    take_all(iter([Pause(0.001, unless=threading.Event())]))


class TestJoin:
    def test_a_worker_that_was_never_started(self) -> None:
        assert ThreadWorker("steps", iter(())).join(PATIENCE_S)

    def test_a_worker_that_goes_on(self) -> None:
        """It says so, in time."""
        unless = threading.Event()
        worker = ThreadWorker("steps", iter([Pause(PATIENCE_S * 100, unless=unless)]))
        worker.start()
        assert not worker.join(0)
        unless.set()
        assert worker.join(PATIENCE_S)

    def test_a_worker_does_not_wait_for_itself(self) -> None:
        """A callback may close the bus that called it."""
        ended: list[bool] = []

        def steps() -> Steps:
            ended.append(worker.join(PATIENCE_S))
            yield None

        worker = ThreadWorker("steps", steps())
        worker.start()
        wait_until(lambda: ended)
        assert ended == [False]


def test_its_thread_has_a_name_and_does_not_keep_the_process_alive() -> None:
    found: list[threading.Thread] = []
    worker = ThreadWorker("invalidator-listener", (found.append(threading.current_thread()) for _ in range(1)))
    worker.start()
    assert worker.join(PATIENCE_S)
    assert (found[0].name, found[0].daemon) == ("invalidator-listener", True)


def test_no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of threads, or the interpreter is going down: whoever starts it is told."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    worker = ThreadWorker("steps", iter(()))
    with pytest.raises(RuntimeError, match="can't start"):
        worker.start()
    assert worker.join(PATIENCE_S)
