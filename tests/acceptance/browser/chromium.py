"""
A real browser, and as much of its DevTools protocol as the tests need: open a page, run JavaScript, take a picture.

Chromium speaks the protocol over two pipes (`--remote-debugging-pipe`: JSON, each message ended by a NUL): it needs no
port, no driver and no library. It ends when its pipe is closed, so it outlives no test run.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # as root in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--window-size=1280,900",
    "--remote-debugging-pipe",
)


def _high(descriptor: int) -> int:
    """Duplicate *descriptor* to a number above 3 and 4, and close the original."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 20)
    os.close(descriptor)
    return moved


def find() -> str | None:
    """Return the path of a browser, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """
    A browser with one page.

    Attributes:
        events: what the browser has sent unasked since the last navigation, such as errors in the console.
    """

    def __init__(self, program: str) -> None:
        self.events: list[dict[str, Any]] = []
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        their_end, self._out = os.pipe()
        theirs_in = _high(their_end)
        self._in, their_end = os.pipe()
        theirs_out = _high(their_end)
        # The browser expects them at the descriptors 3 and 4.
        start = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out} {theirs_in}<&- {theirs_out}>&-'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", start, "bash", program, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = b""
        self._id = 0
        self._session: str | None = None
        pages = [target for target in self.ask("Target.getTargets")["targetInfos"] if target["type"] == "page"]
        target = pages[0]["targetId"] if pages else self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result. Raises RuntimeError if the browser refuses it."""
        self._id += 1
        asked: dict[str, Any] = {"id": self._id, "method": method, "params": params}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._out, json.dumps(asked).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") != self._id:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            else:
                result: dict[str, Any] = answer["result"]
                return result

    def go(self, url: str) -> None:
        """
        Open *url* and wait until it is loaded.

        Raises:
            RuntimeError: nothing answers there.
        """
        self.events.clear()
        if problem := self.ask("Page.navigate", url=url).get("errorText"):
            raise RuntimeError(f"{url}: {problem}")
        self._wait_until_loaded()

    def click_through(self, script: str) -> None:
        """Run *script*, which leads to another page, and wait until that is loaded."""
        self.events.clear()
        self.run(script)
        self._wait_until_loaded()

    def _wait_until_loaded(self) -> None:
        """Wait for the events of a new page. Late events of the page before it may come first."""
        seen = iter(range(1_000_000))
        for event in ("Page.frameNavigated", "Page.loadEventFired"):
            while self._nth(next(seen)).get("method") != event:
                pass

    def _nth(self, index: int) -> dict[str, Any]:
        while len(self.events) <= index:
            self.events.append(self._read())
        return self.events[index]

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def prefer(self, scheme: str) -> None:
        """Prefer the colour scheme "light" or "dark"."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def complaints(self) -> list[str]:
        """The errors in the console: of scripts, and of files that could not be loaded."""
        entries = [message["params"]["entry"] for message in self.events if message.get("method") == "Log.entryAdded"]
        errors = [f"{entry['text']} {entry.get('url', '')}" for entry in entries if entry["level"] == "error"]
        return errors + [
            str(message["params"]) for message in self.events if message.get("method") == "Runtime.exceptionThrown"
        ]

    def picture(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End the browser."""
        for descriptor in (self._out, self._in):
            os.close(descriptor)
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._profile.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._in, 1 << 16)
            if not chunk:
                raise RuntimeError(f"the browser has ended (exit code {self._process.poll()})")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed
