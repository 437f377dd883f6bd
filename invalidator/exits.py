"""
The end of a child process that `multiprocessing` or one of its pools made.

Such a child ends by `os._exit`: the handlers of `atexit` do not run there, only the finalizers of `multiprocessing`.
billiard, which Celery uses, is a copy of `multiprocessing` under another name. A bare `os._exit`, `terminate()` and a
signal that kills end a process with nothing at all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

_AFTER_OTHERS = -100
"""Finalizers run by falling priority; those of `multiprocessing` itself use -5 to 100."""

_registered: set[tuple[int, str, Callable[[], object]]] = set()


def at_end_of_child(callback: Callable[[], object]) -> None:
    """
    Call *callback* at the end of this process if it is such a child, once, however often this is called.

    Call this in the child, after it was forked: what a parent has registered is forgotten there.
    """
    for package in ("multiprocessing", "billiard"):
        process, util = (sys.modules.get(f"{package}.{name}") for name in ("process", "util"))
        key = (os.getpid(), package, callback)
        if process is None or util is None or key in _registered:
            continue
        if type(process.current_process()).__name__ != "_MainProcess":
            util.Finalize(None, callback, exitpriority=_AFTER_OTHERS)
            _registered.add(key)
