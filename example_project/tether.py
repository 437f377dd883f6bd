"""
Ties a process to the demo: it ends when the demo does, however that ended.

Its standard input is a pipe of which only the demo holds the other end; the kernel closes it even after `kill -9`, and
then the process sends itself a SIGTERM. (PR_SET_PDEATHSIG would do the same, on Linux only, and when the wrong thread
ends.)
"""

import os
import signal
import threading


def tie() -> None:
    """Watch for the end of the demo, in a thread."""
    threading.Thread(target=_end_with_the_demo, daemon=True).start()


def _end_with_the_demo() -> None:
    # os.read and not sys.stdin: a daemon thread inside a buffered read aborts the interpreter's shutdown.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
