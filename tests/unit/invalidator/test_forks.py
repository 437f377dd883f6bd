"""What a forked child finds: free locks, whole data, and nothing of its parent's threads."""

import gc
import os
import threading
import weakref

import pytest

from invalidator import forks
from invalidator.forks import Fork, FreshLock, FreshRLock
from tests.support import PATIENCE_S, Thread, in_child

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Owner:
    """Something with locks, which remembers what was done to it."""

    def __init__(self, *locks: forks.Lock) -> None:
        self.locks = locks
        self.forgot = 0

    def fork_locks(self) -> tuple[forks.Lock, ...]:
        return self.locks

    def after_fork_in_child(self) -> None:
        self.forgot += 1


@pytest.fixture(autouse=True)
def registry(monkeypatch) -> None:
    """Nothing but what a test registers."""
    monkeypatch.setattr(forks, "_owners", forks.WeakList())
    monkeypatch.setattr(forks, "_fresh_locks", forks.WeakList())
    monkeypatch.setattr(forks, "_callbacks", [])


def hold(lock) -> tuple[Thread, threading.Event]:
    """Let another thread hold *lock* until the event is set."""
    has_it, enough = threading.Event(), threading.Event()

    def run() -> None:
        with lock.lock:
            has_it.set()
            enough.wait(PATIENCE_S)

    thread = Thread(run)
    has_it.wait(PATIENCE_S)
    return thread, enough


def free(lock: FreshLock) -> None:
    with lock.lock:
        pass


@pytest.mark.parametrize("kind", [FreshLock, FreshRLock])
class TestFreshLocks:
    def test_one_thread_at_a_time_has_it(self, kind) -> None:
        lock, count = kind(), 0

        def add() -> None:
            nonlocal count
            for _ in range(2000):
                with lock.lock:
                    seen = count
                    count = seen + 1

        for thread in [Thread(add) for _ in range(4)]:
            thread.outcome()
        assert count == 8000

    def test_it_is_free_in_a_child_though_another_thread_holds_it(self, kind) -> None:
        lock = kind()
        thread, enough = hold(lock)

        def child() -> None:
            for _ in range(2):
                with lock.lock:
                    pass

        in_child(child)
        enough.set()
        thread.outcome()
        with lock.lock:
            pass

    def test_the_thread_that_forks_may_hold_it(self, kind) -> None:
        """It is free in the child at once, and what the thread does at the end of its block hurts nobody."""
        lock = kind()

        def child() -> None:
            with lock.lock:
                pass

        with lock.lock:
            in_child(child)
        Thread(lambda: free(lock)).outcome()

    def test_it_is_free_in_a_grandchild(self, kind) -> None:
        lock = kind()
        thread, enough = hold(lock)
        in_child(lambda: in_child(lambda: free(lock)))
        enough.set()
        thread.outcome()

    def test_it_is_not_kept_by_the_registry(self, kind) -> None:
        gone = weakref.ref(kind())
        gc.collect()
        assert gone() is None


def test_a_reentrant_lock_may_be_taken_again_by_its_holder() -> None:
    lock = FreshRLock()
    with lock.lock, lock.lock:
        pass
    Thread(lambda: free(lock)).outcome()


class TestOwners:
    def test_a_fork_waits_for_their_locks(self) -> None:
        """So that a child never finds what they protect half changed."""
        owner = Owner(threading.Lock())
        forks.register_for_forks(owner)
        parts, stop = [0, 0], threading.Event()

        def change() -> None:
            while not stop.is_set():
                with owner.locks[0]:
                    parts[0] += 1
                    parts[1] += 1

        changing = Thread(change)

        def child() -> None:
            assert parts[0] == parts[1]
            assert owner.locks[0].acquire(blocking=False)

        for _ in range(20):
            in_child(child)
        stop.set()
        changing.outcome()

    def test_the_child_forgets_and_the_parent_does_not(self) -> None:
        owner = Owner()
        forks.register_for_forks(owner)
        in_child(lambda: _must_be(owner.forgot, 1))
        assert owner.forgot == 0

    def test_locks_are_free_afterwards(self) -> None:
        owner = Owner(threading.Lock(), threading.RLock())
        forks.register_for_forks(owner)

        def take_all() -> None:
            for lock in owner.locks:
                with lock:
                    pass

        in_child(take_all)
        Thread(take_all).outcome()

    @pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
    def test_one_that_is_registered_during_a_fork_is_free_in_the_child_alone(self, kind) -> None:
        """
        It was not taken, so in the parent a release would free what somebody else holds. In the child that somebody
        does not exist: a cache that another thread has just made, and is filling, would hang whoever invalidates.
        """
        late, threads = Owner(kind()), []

        def use() -> None:
            late.locks[0].acquire()
            has_it.set()
            enough.wait(PATIENCE_S)
            late.locks[0].release()

        class Slow(Owner):
            def fork_locks(self) -> tuple[forks.Lock, ...]:
                if not threads:
                    forks.register_for_forks(late)
                    threads.append(Thread(use))
                    has_it.wait(PATIENCE_S)
                return ()

        has_it, enough = threading.Event(), threading.Event()
        slow = Slow()
        forks.register_for_forks(slow)
        in_child(lambda: _must_be(late.locks[0].acquire(blocking=False), expected=True))
        assert not late.locks[0].acquire(blocking=False)
        enough.set()
        threads[0].outcome()

    def test_one_that_dies_is_forgotten(self) -> None:
        owner = Owner()
        forks.register_for_forks(owner)
        gone = weakref.ref(owner)
        del owner
        gc.collect()
        assert gone() is None
        in_child(lambda: None)

    def test_an_error_of_one_does_not_keep_others_from_forgetting(self, caplog) -> None:
        class Failing(Owner):
            def after_fork_in_child(self) -> None:
                raise RuntimeError("failed")

        failing, owner = Failing(), Owner()
        forks.register_for_forks(failing)
        forks.register_for_forks(owner)
        in_child(lambda: _must_be((owner.forgot, "callback after a fork failed" in caplog.text), (1, True)))


class TestAFork:
    def test_it_releases_exactly_what_it_took(self) -> None:
        """Interrupted in the middle, it has taken some."""

        class Interrupting(Owner):
            def fork_locks(self) -> tuple[forks.Lock, ...]:
                raise KeyboardInterrupt

        first, last = Owner(threading.Lock()), Owner(threading.Lock())
        last.locks[0].acquire()
        fork = Fork([first, Interrupting(), last])
        with pytest.raises(KeyboardInterrupt):
            fork.take_locks()
        assert first.locks[0].locked()
        fork.release_locks()
        assert not first.locks[0].locked()
        assert last.locks[0].locked()

    def test_two_threads_may_fork_at_once(self) -> None:
        """Each releases its own: a list that they shared would be overwritten by the second."""
        owners = [Owner(threading.Lock()) for _ in range(5)]
        for owner in owners:
            forks.register_for_forks(owner)

        def fork_often() -> None:
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    os._exit(0 if not any(owner.locks[0].locked() for owner in owners) else 1)
                _, status = os.waitpid(pid, 0)
                assert status == 0

        for thread in [Thread(fork_often) for _ in range(3)]:
            thread.outcome()
        assert not any(owner.locks[0].locked() for owner in owners)


class TestCallbacks:
    def test_they_run_in_the_child_after_owners_have_forgotten(self) -> None:
        """In the order of registration, with every lock free: one that starts a thread is safe."""
        events: list[str] = []
        lock = FreshLock()
        thread, enough = hold(lock)

        class Telling(Owner):
            def after_fork_in_child(self) -> None:
                events.append("owner")

        @forks.on_fork_in_child
        def first() -> None:
            with lock.lock:
                events.append("first")

        forks.on_fork_in_child(lambda: events.append("second"))
        owner = Telling()
        forks.register_for_forks(owner)
        in_child(lambda: _must_be(events, ["owner", "first", "second"]))
        enough.set()
        thread.outcome()
        assert events == []

    def test_a_decorated_function_stays_what_it_was(self) -> None:
        assert forks.on_fork_in_child(test_a_reentrant_lock_may_be_taken_again_by_its_holder) is (
            test_a_reentrant_lock_may_be_taken_again_by_its_holder
        )


def _must_be(found: object, expected: object) -> None:
    assert found == expected
