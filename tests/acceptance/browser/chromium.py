"""
A real browser, and as much of its DevTools protocol as the tests need: go to a page, run JavaScript, take a picture.

Chromium talks over two pipes (`--remote-debugging-pipe`: JSON, each message ended by a NUL), so there is no port, no
driver and no library. It ends when its pipe is closed, so it outlives no test run.
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
    "--no-sandbox",  # root in a container has none
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
    """Move *descriptor* out of the way of 3 and 4."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 20)
    os.close(descriptor)
    return moved


def find() -> str | None:
    """Where a browser is, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """A browser with one page. What it says on its own, such as errors in the console, is in `said`."""

    def __init__(self, program: str) -> None:
        self.said: list[dict[str, Any]] = []
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        their_end, self._out = os.pipe()
        theirs_in = _high(their_end)
        self._in, their_end = os.pipe()
        theirs_out = _high(their_end)
        # They are to be the descriptors 3 and 4 of the browser.
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
                self.said.append(answer)
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
        self.said.clear()
        if problem := self.ask("Page.navigate", url=url).get("errorText"):
            raise RuntimeError(f"{url}: {problem}")
        self._wait_until_loaded()

    def click_through(self, script: str) -> None:
        """Run *script*, which leads to another page, and wait until that is loaded."""
        self.said.clear()
        self.run(script)
        self._wait_until_loaded()

    def _wait_until_loaded(self) -> None:
        """Wait for what the browser says of a new page; the last one may have had a word to say yet."""
        seen = iter(range(1_000_000))
        for event in ("Page.frameNavigated", "Page.loadEventFired"):
            while self._nth(next(seen)).get("method") != event:
                pass

    def _nth(self, index: int) -> dict[str, Any]:
        while len(self.said) <= index:
            self.said.append(self._read())
        return self.said[index]

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def prefer(self, scheme: str) -> None:
        """Be "light" or "dark"."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def complaints(self) -> list[str]:
        """What the console says of the page: errors of scripts, and files that could not be loaded."""
        entries = [message["params"]["entry"] for message in self.said if message.get("method") == "Log.entryAdded"]
        errors = [f"{entry['text']} {entry.get('url', '')}" for entry in entries if entry["level"] == "error"]
        return errors + [
            str(message["params"]) for message in self.said if message.get("method") == "Runtime.exceptionThrown"
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
        said: dict[str, Any] = json.loads(message)
        return said
