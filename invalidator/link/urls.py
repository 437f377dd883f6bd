"""
Which link a URL asks for.

The module of a real server is imported when the first URL needs it: with the Redis client the whole library takes half
as long again to import, and a process that only imports it, or uses `memory://`, does without.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..config import CONNECTIONS
from ..errors import InvalidSetting
from .base import Link
from .memory import MemoryLink


def make_link(url: str, *, timeout_s: float, namespace: str = "", connections: int = CONNECTIONS.default) -> Link:
    """
    Return the link for *url*: `redis://`, `rediss://` or `unix://` (`address.py`), `memory://` or `embedded://`.

    Args:
        timeout_s: for connecting, and for each answer.
        namespace: what `embedded://` without a name is called.
        connections: how many threads may publish at once.

    Raises:
        InvalidSetting: the URL cannot work.
    """
    if not isinstance(url, str):
        raise InvalidSetting(f"url must be a str such as 'redis://localhost:6379/0', not {type(url).__name__}")
    link: Link
    match url.partition("://")[0] if "://" in url else "":
        case "memory":
            link = MemoryLink(url)
        case "embedded":
            embedded = _module("embedded")
            link = embedded.EmbeddedLink(url, timeout_s=timeout_s, namespace=namespace, connections=connections)
        case "redis" | "rediss" | "unix":
            link = _module("redis").RedisLink(url, timeout_s=timeout_s, connections=connections)
        case _:
            # The URL itself is not shown: it may hold a password.
            raise InvalidSetting("url must begin with redis://, rediss://, unix://, memory:// or embedded://")
    return link


def _module(name: str) -> Any:
    return import_module(f"{__package__}.{name}")
