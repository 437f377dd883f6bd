"""
Makes the link that a URL asks for.

A module is imported when the first URL needs it: the Redis client takes half as long to import as all the rest of this
library, and a process that only imports the library, or uses `memory://`, can do without.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from ..errors import InvalidSetting
from . import Link
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
