"""
The guard of values that are handed out live: INVALIDATOR["GUARD"], and the signal of what it finds.

    from django_integration import value_changed

    @receiver(value_changed)
    def tell(sender, key, where, handed_out_at, type, **kwargs): ...

`value_changed` is sent when a value was found to be changed by somebody who had only been handed it out. Its entry has
left this process by then, and the log says `value_changed`. See `invalidator/guard.py`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.dispatch import Signal

from invalidator import Changed, Guard

from ..conf import conf

OWN_PACKAGES = ("django_integration", "django", "asgiref")
"""What lies between the application and the cache."""

value_changed = Signal()


def guard() -> Guard | float:
    """Return the guard for a near cache that is made now."""
    share = conf.guard
    if share is None:
        share = 1.0 if settings.DEBUG else 0.0
    return Guard(share, _send, packages=OWN_PACKAGES) if share else 0


def _send(changed: Changed) -> None:
    found: dict[str, Any] = asdict(changed)
    value_changed.send_robust(Guard, **found)
