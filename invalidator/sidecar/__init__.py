"""
The sidecar: a daemon that receives invalidations once for all workers of a host, and writes them to shared memory.

`daemon.py` is the daemon, `service.py` what it takes to run it as a service. `http.py` and `metrics.py` show its state,
`notify.py` reports it to systemd, and `log.py` writes its log.
"""

from .daemon import Sidecar

__all__ = ["Sidecar"]
