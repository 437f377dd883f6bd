"""
How `demo.py` runs each server: one process with several threads, so that one server is one near cache.

Rule: a server ends when the demo does, however that ended. Its standard input is a pipe of which only the demo
holds the other end; the kernel closes it even after `kill -9`, and then the server stops itself. (PR_SET_PDEATHSIG
would do the same, on Linux only, and when the wrong thread ends.)
"""

import os
import signal
import threading

worker_class = "gthread"
workers = 1
threads = 8
graceful_timeout = 5  # seconds for requests in progress at the end
keepalive = 30
control_socket_disable = True  # gunicorn 25 and newer would put one into the home directory


def on_starting(server: object) -> None:
    """Watch for the end of the demo, in the server's master process."""
    threading.Thread(target=_stop_with_the_demo, daemon=True).start()


def _stop_with_the_demo() -> None:
    # os.read and not sys.stdin: a daemon thread inside a buffered read aborts the interpreter's shutdown.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
