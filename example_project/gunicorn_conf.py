"""
How `demo.py` runs the workers of each server: processes with several threads, each with a near cache of its own.

Rule 1: the server ends when the demo does: see `tether.py`.
Rule 2: workers have numbers from 1, and a worker that takes the place of a dead one takes its number.
Rule 3: a worker answers at the server's port, as its siblings do (the system chooses), and at one of its own, for those
who want to ask just this one: the fleet page, tests, and people with curl.
"""

import itertools
import os
from typing import Any

from example_project.tether import tie

_PORTS = [int(port) for port in os.environ["WORKER_PORTS"].split()]

worker_class = "gthread"
workers = len(_PORTS)
threads = 8
graceful_timeout = 5  # seconds for requests in progress at the end
keepalive = 30
control_socket_disable = True  # gunicorn 25 and newer would put one into the home directory


def on_starting(server: Any) -> None:
    """Watch for the end of the demo, in the server's master process."""
    tie()


def pre_fork(server: Any, worker: Any) -> None:
    """Give *worker* the first number that no living one has."""
    taken = {other.number for other in server.WORKERS.values()}
    worker.number = next(number for number in itertools.count(1) if number not in taken)


def post_fork(server: Any, worker: Any) -> None:
    """In the worker, before it loads the application: leave the others' own ports to them."""
    os.environ["WORKER_NUMBER"] = str(worker.number)
    others = {port for number, port in enumerate(_PORTS, start=1) if number != worker.number}
    worker.sockets = [listening for listening in worker.sockets if listening.getsockname()[1] not in others]
