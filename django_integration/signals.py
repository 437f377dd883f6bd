"""
Django signals for what this process receives: `invalidated` and `flushed`.

    from django_integration import flushed, invalidated

    @receiver(invalidated)
    def reload_flags(sender, keys, tags, everything, **kwargs): ...

`invalidated` is sent for every message of the namespace that was applied here, whichever process published it:

    keys, tags   tuples of names; empty if `everything`
    everything   the whole namespace was cleared
    local        whether this process published it
    node, id     the process that published it; the message's id in the journal
    received_at  as `django.utils.timezone.now()` gives it

`flushed` is sent when this process voided everything it had, because it may have missed something, and once when it
begins to listen: `reason` (text), `received_at`.

Rule 1: without receivers this costs nothing: the bus calls this module only while one is connected.
Rule 2: connecting starts nothing, so that it is safe in `ready()`, before a preloading server forks. Signals are sent
from the first use of the process' bus on; a process that only receives calls `bus().start()`.
Rule 3: receivers run in the listener's thread, without a request or a transaction. What one raises is logged by Django,
and neither the others nor the listener notice. One that waits delays the proof that everything was received.
Rule 4: a sidecar's worker receives no messages, so no signal is sent there; the log says so once (`signals_not_sent`).
A listener of our own would be ahead of the ledger by which the worker's cache reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.dispatch import Signal
from django.utils import timezone

from invalidator import Invalidation, Invalidator
from invalidator.extending import FreshRLock

from . import runtime

logger = logging.getLogger(__name__)


class BusSignal(Signal):
    """A signal that listens on the bus only while it has receivers."""

    def connect(self, *args: Any, **options: Any) -> None:
        """See Django."""
        super().connect(*args, **options)
        _relay.look()

    def disconnect(self, *args: Any, **options: Any) -> bool:
        """See Django."""
        was_connected = super().disconnect(*args, **options)
        _relay.look()
        return was_connected


class _Relay:
    """Listens on the process' bus while a signal has a receiver."""

    def __init__(self) -> None:
        self._lock = FreshRLock()  # a receiver may connect another
        self._bus: Invalidator | None = None
        self._end: Callable[[], None] | None = None

    def look(self) -> None:
        """Begin or end to listen on the process' bus, if there is one, as receivers want it."""
        with self._lock.lock:
            bus = runtime.made_bus()
            if self._bus is not bus:
                self._leave()
            if bus is None or not is_wanted():
                self._leave()
            elif self._end is None:
                self._join(bus)

    def _join(self, bus: Invalidator) -> None:
        self._bus = bus
        if bus.status().listener == "sidecar":
            logger.error("signals_not_sent reason=%r", "a sidecar's worker gets no messages")
            self._end = lambda: None
        else:
            self._end = bus.on_invalidate(_send(bus))

    def _leave(self) -> None:
        if self._end is not None:
            self._end()
        self._bus = self._end = None


def is_wanted() -> bool:
    """Whether a receiver is connected to one of the signals."""
    return invalidated.has_listeners() or flushed.has_listeners()


def _send(bus: Invalidator) -> Callable[[Invalidation], None]:
    """Return the callback for the bus."""

    def send(applied: Invalidation) -> None:
        if not applied.is_message:
            flushed.send_robust(Invalidator, reason=applied.reason, received_at=timezone.now())
            return
        invalidated.send_robust(
            Invalidator,
            keys=applied.keys,
            tags=applied.tags,
            everything=applied.everything,
            local=applied.node == bus.node,
            node=applied.node,
            id=applied.id,
            received_at=timezone.now(),
        )

    return send


_relay = _Relay()
invalidated = BusSignal()
flushed = BusSignal()

runtime.on_made(lambda _: _relay.look())
