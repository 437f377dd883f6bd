"""What others would write: the baselines and competitors."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import Any

import redis
from cachetools import Cache

from invalidator.ledger import now_ns

from .processes import questions
from .timing import no_garbage


class PlainDict:
    """The least that a cache of Python objects can be: a method around `dict.get`."""

    def __init__(self, entries: Iterable[tuple[str, Any]]) -> None:
        self._entries = dict(entries)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*."""
        return self._entries.get(key, default)


class Locked:
    """A cachetools cache with a lock, as its documentation says threads need it."""

    def __init__(self, cache: Cache[str, Any], entries: Iterable[tuple[str, Any]]) -> None:
        self._cache = cache
        self._cache.update(entries)
        self._lock = threading.Lock()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*."""
        with self._lock:
            return self._cache.get(key, default)


class LockedItems(Locked):
    """The same by subscript, the quickest way in: cachetools' `get` looks twice, and no default is returned here."""

    def __getitem__(self, key: str) -> Any:
        with self._lock:
            return self._cache[key]


def bare_subscriber(pipe: Connection, url: str, channels: list[str], reports: bool) -> None:
    """
    A process that subscribes as redis-py's documentation shows it.

    Args:
        reports: whether to send home when each message arrived; such a one is asked before each message.
    """
    client: Any = redis.Redis.from_url(url)  # redis-py types neither its subscriptions nor its connections
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(*channels)
    for _ in channels:
        pubsub.get_message(timeout=5)
    pipe.send("ready")
    with no_garbage():
        if not reports:
            thread = threading.Thread(target=lambda: [None for _ in pubsub.listen()], daemon=True)
            thread.start()
            list(questions(pipe))
            return
        messages = pubsub.listen()
        for _ in questions(pipe):
            pipe.send("listening")
            next(messages)
            arrived = now_ns()
            pipe.send(arrived)
