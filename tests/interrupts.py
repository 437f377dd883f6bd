"""
Interruptions: something that runs at one exact place of the library's code, as a signal handler might.

CPython runs signal handlers between byte codes, but not between any two: after a call, at the beginning of a function,
and at a jump backwards (`CHECK_EVAL_BREAKER` in `Python/bytecodes.c`). A garbage collection may start at an allocation,
which is as good as a call here. So these are the places.
"""

from __future__ import annotations

import contextlib
import dis
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_INTERRUPTED_AFTER = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD"}


class Places:
    """
    Counts the places that this thread passes, and calls *act* at one of them.

    Args:
        at: the number of the place, from 1; 0 for none.
        act: what happens there: raises, or calls back into the library.
        within: part of the path of the files that count.
        besides: names of functions that do not count.

    Attributes:
        passed: how many were passed.
    """

    def __init__(
        self, at: int, act: Callable[[], object], *, within: str = "/invalidator/", besides: tuple[str, ...] = ()
    ) -> None:
        self.passed = 0
        self._at = at
        self._act = act
        self._within = within
        self._besides = besides
        self._before: dict[FrameType, str] = {}

    def trace(self, frame: FrameType, event: str, arg: object) -> Any:
        """For `sys.settrace`."""
        if self._within not in frame.f_code.co_filename or frame.f_code.co_name in self._besides:
            return None
        if event == "call":
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        elif event == "opcode":
            before = self._before.get(frame)
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before in _INTERRUPTED_AFTER:
                self._pass()
        elif event == "return":
            self._before.pop(frame, None)
        return self.trace

    def _pass(self) -> None:
        self.passed += 1
        if self.passed == self._at:
            sys.settrace(None)
            self._act()


@contextlib.contextmanager
def interrupted(places: Places) -> Iterator[Places]:
    """Inside the block, *places* are counted, and the one is acted at."""
    before = sys.gettrace()
    sys.settrace(places.trace)
    try:
        yield places
    finally:
        sys.settrace(before)
