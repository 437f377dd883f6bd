"""
The ledger's memory, watched: between any two accesses somebody else may go on.

A reader's access is preceded by `between`, which may run anything. What a listener stores is not stored at once but
queued, and released store by store as steps of their own: a read may see any part of it, and the listener may be
stopped, or killed, after any of them.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable

Memory = array  # of signed 64-bit integers


class SteppedWords:
    """One process' view of a ledger's memory."""

    def __init__(self, memory: Memory[int], between: Callable[[], None]) -> None:
        self.memory = memory
        self.between = between
        self.recording = False
        self.unstored: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self.memory)

    def __getitem__(self, index: int) -> int:
        if self.recording:
            for stored, value in reversed(self.unstored):
                if stored == index:
                    return value
        else:
            self.between()
        return self.memory[index]

    def __setitem__(self, index: int, value: int) -> None:
        if self.recording:
            self.unstored.append((index, value))
        else:
            self.between()
            self.memory[index] = value

    def store_next(self) -> None:
        """Let one store of the listener become visible."""
        index, value = self.unstored.popleft()
        self.memory[index] = value

    def store_all(self) -> None:
        """Let the listener finish the section it is in."""
        while self.unstored:
            self.store_next()


class SectionLock:
    """The ledger's lock: who takes it waits until the listener has finished its section."""

    def __init__(self, words: SteppedWords) -> None:
        self._words = words
        self.held = False

    def acquire(self) -> None:
        if not self._words.recording:
            assert not self.held, "a dead lock: the world ran somebody who has to wait"
            self._words.store_all()
            self.held = True

    def release(self) -> None:
        if not self._words.recording:
            self.held = False

    def locked(self) -> bool:
        return self.held

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()


class VisibleLock:
    """A lock of which the world can see whether it is held. The world runs nobody who would have to wait for it."""

    def __init__(self) -> None:
        self.holds = 0

    def acquire(self) -> None:
        self.holds += 1

    def release(self) -> None:
        self.holds -= 1

    def locked(self) -> bool:
        return self.holds > 0

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()
