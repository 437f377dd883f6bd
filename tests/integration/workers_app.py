"""
The smallest application that caches: one value, read from a file. For WSGI and ASGI servers with any number of workers;
see test_workers.py.

`/read` answers the value, `/write/VALUE` changes it, `/fill/KEY/TIME` fills KEY at that time, and `/look` lists the
threads and connections of this worker.
"""

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from invalidator import Invalidator, NearCache

URL = os.environ["APP_URL"]
SOURCE = Path(os.environ["APP_SOURCE"])

# At import: in the master, where a server preloads.
bus = Invalidator(
    URL,
    namespace=os.environ["APP_NAMESPACE"],
    sidecar=os.environ["APP_LEDGER"] or None,
    max_staleness=float(os.environ["APP_MAX_STALENESS"]),
    publish_timeout=0.5,
)
cache = NearCache(bus)


def look() -> dict[str, Any]:
    """The threads and connections of this worker."""
    return {
        "threads": [thread.name for thread in threading.enumerate() if thread.name.startswith("invalidator")],
        "connections": _connections(urlsplit(URL).port or 6379),
        "leased": bus.status().leased,
        "listener": bus.status().listener,
    }


def _connections(port: int) -> int:
    """How many of our sockets are connected to *port*."""
    remote_port_by_inode = {}
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        remote_port_by_inode[f"socket:[{fields[9]}]"] = int(fields[2].rpartition(":")[2], 16)
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - the listing itself is a descriptor that is gone
        try:
            count += remote_port_by_inode.get(os.readlink(f"/proc/self/fd/{descriptor}")) == port  # noqa: PTH115
        except FileNotFoundError:
            continue
    return count


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """For gunicorn."""
    answer: dict[str, Any] = {"pid": os.getpid()}
    match environ["PATH_INFO"].split("/"):
        case ["", "read"]:
            answer["value"] = cache.get_or_set("product:1", SOURCE.read_text, tags=["products"])
        case ["", "fill", key, at]:
            time.sleep(max(0, float(at) - time.monotonic()))  # so that all requests of this worker fill at once
            answer["stored"] = cache.set(key, "value")
        case ["", "write", value]:
            SOURCE.write_text(value)
            answer["accepted"] = bus.invalidate(tags=["products"]).accepted
        case ["", "look"]:
            answer |= look()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """For uvicorn."""
    answer: dict[str, Any] = {"pid": os.getpid()}
    match scope["path"].split("/"):
        case ["", "read"]:
            answer["value"] = await cache.aget_or_set("product:1", _load, tags=["products"])
        case ["", "write", value]:
            await asyncio.to_thread(SOURCE.write_text, value)
            answer["accepted"] = (await bus.ainvalidate(tags=["products"])).accepted
        case ["", "look"]:
            answer |= look()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def _load() -> str:
    return await asyncio.to_thread(SOURCE.read_text)
