"""Which worker process this is, and how its near cache is doing."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings

from django_integration import bus, cache


def identity() -> dict[str, Any]:
    """The worker that gave an answer; every answer carries this. The successor of a dead worker takes its number."""
    return {"server": settings.SERVER_NAME, "worker": settings.WORKER, "pid": os.getpid()}


def status() -> dict[str, Any]:
    """This worker's bus (state, lease, listener) and the counters of its near cache."""
    state = bus().status().as_dict()
    return {
        **identity(),
        "state": state["state"],
        "leased": state["leased"],
        "listener": state["listener"],
        "bus": state,
        "cache": cache.stats().as_dict(),
    }
