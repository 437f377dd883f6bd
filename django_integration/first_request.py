"""
A server process begins to listen with its first request, before that request opens a transaction or misses anything.

Not in `ready()`: preloading servers fork after it. A command, a shell, a worker of a task queue or a test begins with
its first miss (`invalidator.first_moments`): many commands never read a cache, and are run where no Redis is
(`collectstatic` while an image is built).

Rule 1: the request waits at most once in the life of its process, for `invalidator.first_moments.FIRST_WAIT_S`, and
never on an event loop: Django calls this receiver of an ASGI request in a thread.
Rule 2: whatever is wrong, the request goes on. The system checks, and the first use of a cache, say what it is.
"""

from __future__ import annotations

import logging
from typing import Any

from django.core.signals import request_started

from . import runtime

logger = logging.getLogger(__name__)

_UID = "invalidator.first_request"
_TEST_CLIENT = "django.test.client"
"""It sends the signal as well, and serves nobody."""


def install() -> None:
    """Listen from the first request on."""
    request_started.connect(_begin, dispatch_uid=_UID)


def _begin(sender: Any, **_: object) -> None:
    bus = runtime.made_bus()
    if (bus is not None and bus.first_moments.are_over) or getattr(sender, "__module__", "") == _TEST_CLIENT:
        return
    try:
        runtime.bus().first_moments.begin()
    except Exception:
        request_started.disconnect(dispatch_uid=_UID)  # once is enough
        logger.exception("cannot listen")
