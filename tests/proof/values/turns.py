"""
Threads of which one runs at a time: whoever has the turn.

The driver hands the turn to a thread, which gives it back when its operation ends, or where the operation may be left:
before and after each statement, commit and publish (`may_be_left`). Whether it is left there is a choice.

Rule 1: nothing outside of a turn changes anything. An operation never waits for another thread but by giving its turn
back until that one is done (`wait_until`).
Rule 2: a thread may have helpers (the loop of a coroutine, a pool), but it waits for them. So all have its turn.
"""

from __future__ import annotations

import faulthandler
import threading
from collections.abc import Callable
from typing import Any

PATIENCE_S = 60.0
"""For an operation that waits for something that nobody gives: a bug of the world, or a deadlock of the library."""


class AbandonedError(BaseException):
    """The world has ended, and this operation with it."""


class Turns:
    """Who has the turn."""

    def __init__(self) -> None:
        self.current: Thread | None = None
        self.abandoned = False
        self._back = threading.Semaphore(0)

    def give(self, thread: Thread) -> None:
        """Let *thread* go on until it gives the turn back."""
        self.current = thread
        thread.go.release()
        if not self._back.acquire(timeout=PATIENCE_S):
            faulthandler.dump_traceback(all_threads=True)
            raise RuntimeError(f"{thread.name} does not give its turn back")
        self.current = None

    def give_back(self) -> None:
        """The thread that has the turn gives it back, and waits for the next one."""
        thread = self.current
        assert thread is not None
        self._back.release()
        thread.go.acquire()
        if self.abandoned:
            raise AbandonedError

    def ended(self) -> None:
        """The thread that has the turn has done its operation."""
        self._back.release()

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Give the turn back until *is_so*; outside of a turn it is so."""
        while self.current is not None and not is_so():
            self.current.waits_for = is_so
            try:
                self.give_back()
            finally:
                if self.current is not None:
                    self.current.waits_for = None


class Thread:
    """
    A thread that does operations, one by one, in its turns.

    Attributes:
        busy: whether it was left in the middle of an operation.
        waits_for: what it waits for, if it does.
    """

    def __init__(self, turns: Turns, name: str) -> None:
        self.name = name
        self.turns = turns
        self.go = threading.Semaphore(0)
        self.busy = False
        self.waits_for: Callable[[], bool] | None = None
        self._operation: Callable[[], object] | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def can_go_on(self) -> bool:
        """Whether a turn is of any use to it."""
        return self.waits_for is None or self.waits_for()

    def begin(self, operation: Callable[[], object]) -> None:
        """Begin *operation*, in a turn."""
        assert not self.busy
        self._operation = operation
        self.busy = True
        self.go_on()

    def go_on(self) -> None:
        """Give it a turn. Raises what an operation raised that ended in it."""
        self.turns.give(self)
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def call(self, operation: Callable[[], object]) -> Any:
        """Do a whole *operation* and return its result."""
        self.begin(operation)
        while self.busy:
            self.go_on()
        return self._result

    def close(self) -> None:
        """End: an operation that was left is abandoned."""
        self.turns.abandoned = self.busy
        while self.busy:
            self.turns.give(self)
        self._error = None
        self.turns.abandoned = False
        self._operation = None
        self.go.release()
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        while True:
            self.go.acquire()
            operation, self._operation = self._operation, None
            if operation is None:
                return
            try:
                self._result = operation()
            except BaseException as error:  # noqa: BLE001 - the driver raises it
                self._error = error
            self.busy = False
            self.turns.ended()
