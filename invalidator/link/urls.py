"""Which link a URL asks for."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..errors import InvalidSetting
from .base import Link
from .embedded import EmbeddedLink
from .memory import MemoryLink
from .redis import RedisLink


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
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryLink(url)
    if scheme == "embedded":
        return EmbeddedLink(url, timeout_s=timeout_s, namespace=namespace)
    if scheme in ("redis", "rediss", "unix"):
        return RedisLink(url, timeout_s=timeout_s)
    # The URL itself is not shown: it may hold a password.
    known = "redis://, rediss://, unix://, memory:// or embedded://"
    raise InvalidSetting(f"url must begin with {known}, not {scheme or 'nothing'}")
