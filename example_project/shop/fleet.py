"""Asks every worker of every server, as a person with several browser windows would: over HTTP, each for its copy."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple, Self, TypeAlias
from urllib.parse import urlsplit

from django.conf import settings

from . import reads, worker

Answer: TypeAlias = dict[str, Any]

TIMEOUT_S = 2.0  # for one answer of a server on the same machine
AGREE_WITHIN_S = 10.0  # what a person waits; the library's bound is 2 s


class Refused(Exception):
    """A server did not save; its answer has the reason."""


class Place(NamedTuple):
    """The address of one worker, at which no other answers."""

    server: str
    worker: int
    url: str

    def as_dict(self) -> Answer:
        """For JSON."""
        return {"server": self.server, "worker": self.worker, "url": self.url}


def copies() -> Answer:
    """Everything this worker serves, and how its near cache is doing."""
    return {
        **worker.identity(),
        "products": [read.as_dict() for read in reads.products()],
        "flags": [read.as_dict() for read in reads.flags()],
        "status": worker.status(),
    }


def ask_all() -> list[Answer]:
    """The copies of all workers of all servers."""
    return _ask(_places(settings.WORKERS))


def ask_here() -> list[Answer]:
    """The copies of all workers of this server; of this process alone if it is not part of a fleet."""
    name = settings.SERVER_NAME
    return _ask(_places([name])) if name in settings.WORKERS else [{**copies(), "url": ""}]


def _places(servers: Iterable[str]) -> list[Place]:
    return [Place(server, number, url) for server in servers for number, url in settings.WORKERS[server].items()]


def _ask(places: list[Place]) -> list[Answer]:
    """Ask all at once. A worker that does not answer is `{"server", "worker", "url", "error"}`."""

    def ask(place: Place) -> Answer:
        try:
            status, answer = _request(place.url, "GET", "/api/copies")
        except (OSError, HTTPException, ValueError) as error:
            return {**place.as_dict(), "error": str(error) or type(error).__name__}
        error_of = {} if status == 200 else {"error": answer.get("error", f"HTTP {status}")}
        return {**place.as_dict(), **answer, **error_of}

    if not places:
        return []
    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(ask, places))


def save_and_time(server: str, path: str, change: Answer) -> Answer:
    """
    POST *change* to *path* on *server*, then ask every worker of every server until it serves the new value.

    Returns the milliseconds the save took, and for each worker those from the answer of the save to its first new
    answer, over a connection that was open before; None for a worker that did not agree in time. Raises Refused when
    the save was not possible.
    """
    places = _places(settings.WORKERS)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(places)) as pool:
        lines = [stack.enter_context(Line(place.url)) for place in places]
        list(pool.map(lambda line: line.get(path), lines))
        began = time.perf_counter()
        try:
            status, saved = _request(settings.FLEET[server], "POST", path, change)
        except (OSError, HTTPException, ValueError) as error:
            raise Refused(f"{server} does not answer: {error}") from None
        answered = time.perf_counter()
        if status != 200:
            raise Refused(saved.get("error", f"{server} answered HTTP {status}"))
        wanted = {name: saved[name] for name in change if name in saved}
        times = list(pool.map(lambda line: _wait(line, path, wanted, answered), lines))
    agreed: dict[str, dict[str, float | None]] = {name: {} for name in settings.FLEET}
    for place, spent in zip(places, times, strict=True):
        agreed[place.server][str(place.worker)] = spent
    known = [spent for spent in times if spent is not None]
    return {
        "saved_on": server,
        "saved_by": saved["worker"],
        "value": wanted,
        "save_ms": round((answered - began) * 1000, 1),
        "agreed_ms": agreed,
        "all_agreed_ms": max(known) if len(known) == len(times) else None,
    }


class Line:
    """An open connection to one worker; the next request opens another if it broke."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)

    def get(self, path: str) -> Answer | None:
        """The answer to GET *path*; None if there is none."""
        try:
            self._connection.request("GET", path)
            answer: Answer = json.loads(self._connection.getresponse().read())
        except (OSError, HTTPException, ValueError):
            self._connection.close()
            return None
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()


def _wait(line: Line, path: str, wanted: Answer, since: float) -> float | None:
    """How many milliseconds after *since* the worker at *line* served what is *wanted*."""
    while time.perf_counter() - since < AGREE_WITHIN_S:
        copy = line.get(path)
        if copy is None:
            time.sleep(0.05)  # down, or on its way up
        elif {name: copy.get(name) for name in wanted} == wanted:
            return round((time.perf_counter() - since) * 1000, 1)
    return None


def _request(url: str, method: str, path: str, body: Answer | None = None) -> tuple[int, Answer]:
    with contextlib.closing(HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)) as connection:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
