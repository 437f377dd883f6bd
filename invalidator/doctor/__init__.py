"""
`invalidator doctor`: what, on this host and on its Redis server, can keep the promise from being kept.

`questions.py` asks a server, `server.py` and `host.py` judge, `examination.py` puts them together.
"""

from .examination import examine
from .findings import Finding, Unhealthy

__all__ = ["Finding", "Unhealthy", "examine"]
