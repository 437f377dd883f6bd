"""
Errors that strike from outside: time limits of task queues, raised by signal handlers between any two lines of code.

Such an error is the application's, also where it strikes this app's own code: nobody may take it for a fault of ours
and go on, or the task would run on beyond its limit.
"""

from __future__ import annotations

from itertools import pairwise
from types import FrameType, TracebackType


def is_interruption(error: BaseException) -> bool:
    """Whether a signal handler has raised *error*: one that was called with a number and the frame that it struck."""
    return any(_is_handler(inner, struck) for struck, inner in pairwise(_frames(error.__traceback__)))


def _frames(trace: TracebackType | None) -> list[FrameType]:
    frames = []
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    return frames


def _is_handler(frame: FrameType, struck: FrameType) -> bool:
    code = frame.f_code
    arguments = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount]]
    return any(isinstance(number, int) and other is struck for number, other in pairwise(arguments))
