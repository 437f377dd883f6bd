"""What `invalidate()` returns."""

from __future__ import annotations

import threading

from .forks import FreshRLock


class Receipt:
    """
    The fate of one invalidation.

    Accepted means that Redis has taken it: the staleness bound counts from then on. Before that, it is in force in this
    process only and waits in the queue, which a background thread delivers in order.
    """

    __slots__ = ("__weakref__", "_event", "_id", "_is_done", "_listeners", "_lost_because")

    def __init__(self) -> None:
        self._event: threading.Event | None = (
            None  # made by the first caller that waits: most receipts are accepted before that
        )
        self._is_done = False
        self._id: str | None = None
        self._listeners = 0
        self._lost_because: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether Redis has taken the invalidation."""
        return self._id is not None

    @property
    def queued(self) -> bool:
        """Whether it still waits for Redis."""
        return not self._is_done

    @property
    def id(self) -> str | None:
        """The id of its message in the journal (of the last one, if it took several); None until accepted."""
        return self._id

    @property
    def listeners(self) -> int:
        """How many subscriptions Redis pushed it to; those that were disconnected replay it from the journal."""
        return self._listeners

    @property
    def lost_because(self) -> str | None:
        """Why it will never be delivered (the process closed before Redis came back); None otherwise."""
        return self._lost_because

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the invalidation is accepted, at most *timeout* seconds. Returns `accepted`."""
        with _lock.lock:
            if self._is_done:
                return self.accepted
            if self._event is None:
                self._event = threading.Event()
        self._event.wait(timeout)
        return self.accepted

    def accept(self, id: str, listeners: int) -> None:
        """Redis has taken it. Called by the publisher."""
        self._id = id
        self._listeners = listeners
        self._finish()

    def lose(self, reason: str) -> None:
        """It will never be delivered. Called by the publisher."""
        self._lost_because = reason
        self._finish()

    def _finish(self) -> None:
        with _lock.lock:
            self._is_done = True
            if self._event is not None:
                self._event.set()

    def __repr__(self) -> str:
        if self.accepted:
            return f"<Receipt accepted id={self._id} listeners={self._listeners}>"
        return f"<Receipt {'queued' if self.queued else f'lost: {self._lost_because}'}>"


_lock = FreshRLock()
"""Of all receipts, held for a few instructions. A signal handler or a finalizer may invalidate meanwhile."""
