"""Asks every server, as a person with several browser windows would: over HTTP, each for its own copy."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from django.conf import settings

Answer: TypeAlias = dict[str, Any]

TIMEOUT_S = 2.0  # for one answer of a server on the same machine
AGREE_WITHIN_S = 10.0  # what a person waits; the library's bound is 2 s


class Refused(Exception):
    """A server did not save; its answer says why."""


def ask_all(path: str) -> list[Answer]:
    """GET *path* from every server at once; who does not answer is `{"server", "error"}`."""

    def ask(name: str) -> Answer:
        try:
            status, answer = _request(name, "GET", path)
        except (OSError, HTTPException, ValueError) as error:
            return {"server": name, "url": settings.FLEET[name], "error": str(error) or type(error).__name__}
        error_of = {} if status == 200 else {"error": answer.get("error", f"HTTP {status}")}
        return {"server": name, "url": settings.FLEET[name], **answer, **error_of}

    if not settings.FLEET:
        return []
    with ThreadPoolExecutor(len(settings.FLEET)) as pool:
        return list(pool.map(ask, settings.FLEET))


def save_and_time(server: str, path: str, change: Answer) -> Answer:
    """
    POST *change* to *path* on *server*, then ask every server until it serves the new value.

    Returns the milliseconds the save took, and for each server those from the answer of the save to its first new
    answer; None for a server that did not agree in time. Raises Refused when the save was not possible.
    """
    began = time.perf_counter()
    try:
        status, saved = _request(server, "POST", path, change)
    except (OSError, HTTPException, ValueError) as error:
        raise Refused(f"{server} does not answer: {error}") from None
    answered = time.perf_counter()
    if status != 200:
        raise Refused(saved.get("error", f"{server} answered HTTP {status}"))
    wanted = {name: saved[name] for name in change if name in saved}

    def wait(name: str) -> float | None:
        while (now := time.perf_counter()) - answered < AGREE_WITHIN_S:
            try:
                _, copy = _request(name, "GET", path)
            except (OSError, HTTPException, ValueError):
                time.sleep(0.05)  # down, or on its way up
                continue
            if {key: copy.get(key) for key in wanted} == wanted:
                return round((time.perf_counter() - answered) * 1000, 1)
        del now
        return None

    with ThreadPoolExecutor(len(settings.FLEET)) as pool:
        agreed = dict(zip(settings.FLEET, pool.map(wait, settings.FLEET), strict=True))
    times = [spent for spent in agreed.values() if spent is not None]
    return {
        "saved_on": server,
        "value": wanted,
        "save_ms": round((answered - began) * 1000, 1),
        "agreed_ms": agreed,
        "all_agreed_ms": max(times) if len(times) == len(agreed) else None,
    }


def _request(name: str, method: str, path: str, body: Answer | None = None) -> tuple[int, Answer]:
    connection = HTTPConnection(urlsplit(settings.FLEET[name]).netloc, timeout=TIMEOUT_S)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
        response = connection.getresponse()
        answer = json.loads(response.read())
        return response.status, answer
    finally:
        connection.close()
