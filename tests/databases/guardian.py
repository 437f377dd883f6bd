"""
Starts the database server of a test process, and ends it when the test process has ended.

    python guardian.py '{"directory": …, "user": …, "prepare": [[…]], "serve": […], "end": …}'

It runs the commands of `prepare` and then the server, as `user` where one is named. It prints "serving" when the server
has been started, and ends when the server does.

Rule 1: only the test process, its owner, holds the other end of its standard input. When the owner ends, by `kill -9`
or otherwise, the kernel closes that end; then the guardian ends what runs and removes the directory.
Rule 2: the guardian sends a server the signal `end`, upon which the server removes its shared memory. If the server
still runs after `PATIENCE_S`, the guardian kills its whole process group.
Rule 3: only the end of its owner or of the server ends the guardian. A signal to all processes of a test run must not
leave a server without one.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any

PATIENCE_S = 10.0

owner_gone = threading.Event()
_lock = threading.Lock()
_running: subprocess.Popen[bytes] | None = None
_signal = signal.SIGKILL


def run(command: list[str], identity: dict[str, Any], end: signal.Signals) -> subprocess.Popen[bytes] | None:
    """Start *command*, unless the owner has ended. When the owner ends, the watching thread sends *end*."""
    global _running, _signal  # noqa: PLW0603 - one process, one guarded child
    with _lock:
        if owner_gone.is_set():
            return None
        _signal = end
        _running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr, process_group=0, cwd="/", **identity
        )
        return _running


def watch() -> None:
    """Wait for the owner's end, then end what runs."""
    # os.read and not sys.stdin: a daemon thread inside a buffered read aborts the interpreter's shutdown.
    os.read(0, 1)
    with _lock:
        owner_gone.set()
    if _running is None:
        return
    if _signal == signal.SIGKILL:
        _kill_group(_running.pid)
        return
    _running.send_signal(_signal)
    with contextlib.suppress(subprocess.TimeoutExpired):
        _running.wait(PATIENCE_S)
        return
    _kill_group(_running.pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def main(what: dict[str, Any]) -> int:
    """Prepare and serve. Returns the exit code of the command that ended it."""
    identity = {"user": what["user"], "group": what["group"], "extra_groups": []} if what["user"] is not None else {}
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # unlike SIG_IGN, this is not inherited by the server
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    code = 0
    for command in what["prepare"]:
        child = run(command, identity, signal.SIGKILL)
        code = child.wait() if child else 1
        if code:
            break
    else:
        server = run(what["serve"], identity, signal.Signals(what["end"]))
        # The owner may just have ended: what it leaves is cleared all the same.
        with contextlib.suppress(BrokenPipeError):
            os.write(1, b"serving\n")
        code = server.wait() if server else 1
    if owner_gone.is_set():
        shutil.rmtree(what["directory"], ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
