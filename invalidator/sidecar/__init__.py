"""
The sidecar: a daemon that listens once for all workers of a host, and writes what it hears into shared memory.

`daemon.py` is the daemon; `http.py` shows how it is doing; `notify.py` tells systemd.
"""

from .daemon import Sidecar

__all__ = ["Sidecar"]
