"""
Links carry commands and answers; they decide nothing.

`redis.py` speaks to a real server and is the only importer of redis; `memory.py` is a server in this process;
`embedded.py` speaks to a server that the processes of a project start and stop themselves (`local_server.py`).
"""

from .base import PUBLISH_SCRIPT, Accepted, Connection, Link, Post
from .urls import make_link

__all__ = ["PUBLISH_SCRIPT", "Accepted", "Connection", "Link", "Post", "make_link"]
