"""
Links carry commands and answers; they decide nothing.

`redis.py` speaks to a real server and is the only importer of redis (`address.py` takes its URL apart,
`connections.py` lends the connections on which threads publish); `memory.py` is a server in this process;
`embedded.py` speaks to a server that the processes of a project start and stop themselves (`local_server.py`).
"""

from .address import Address, is_address, parse_address
from .base import PUBLISH_SCRIPT, Accepted, Connection, Link, Post
from .urls import make_link

__all__ = [
    "PUBLISH_SCRIPT",
    "Accepted",
    "Address",
    "Connection",
    "Link",
    "Post",
    "is_address",
    "make_link",
    "parse_address",
]
