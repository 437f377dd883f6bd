"""
Which link a URL asks for.

The module of a real server is imported when the first URL needs it: with the Redis client the whole library takes half
as long again to import, and a process that only imports it, or uses `memory://`, does without.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from ..errors import InvalidSetting
from .base import Link
from .memory import MemoryLink


def make_link(url: str, *, timeout_s: float, namespace: str = "") -> Link:
    """
    Return the link for *url*: `redis://`, `rediss://` or `unix://` (as in redis-py), `memory://` or `embedded://`.

    Args:
        timeout_s: for connecting, and for each answer.
        namespace: what `embedded://` without a name is called.

    Raises:
        InvalidSetting: the URL cannot work.
    """
    if not isinstance(url, str):
        raise InvalidSetting(f"url must be a str such as 'redis://localhost:6379/0', not {type(url).__name__}")
    link: Link
    match urlsplit(url).scheme:
        case "memory":
            link = MemoryLink(url)
        case "embedded":
            link = _module("embedded").EmbeddedLink(url, timeout_s=timeout_s, namespace=namespace)
        case "redis" | "rediss" | "unix":
            link = _module("redis").RedisLink(url, timeout_s=timeout_s)
        case scheme:
            # The URL itself is not shown: it may hold a password.
            known = "redis://, rediss://, unix://, memory:// or embedded://"
            raise InvalidSetting(f"url must begin with {known}, not {scheme or 'nothing'}")
    return link


def _module(name: str) -> Any:
    return import_module(f"{__package__}.{name}")
