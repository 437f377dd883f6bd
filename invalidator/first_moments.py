"""
The first moments of a process, in which it does not listen yet.

What is loaded before the process listens keeps no lease (`entry.py`), so it would be loaded once more two seconds
later. So the process begins to listen with its first miss, and that miss waits a moment: usually it then counts from
after the subscription, and lives its TTL.

Rule 1: a hit pays nothing; a miss after the first moments, one look at an attribute.
Rule 2: an event loop never waits, nor does the listener's own thread, nor code that interrupts somebody who waits (a
signal handler, a destructor).
Rule 3: nobody waits while the server is known to be away, and nobody waits twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from .feeds import LedgerFeed
from .ledger import Clock

FIRST_WAIT_S = 0.1
"""
A subscription takes 1-3 ms in a data centre, and three or four round trips with TLS: this is enough for a server 25 ms
away. It is spent once in the life of a process, and only if Redis neither answers nor refuses.
"""


class FirstMoments:
    """
    The first moments of one bus.

    Args:
        is_away: whether the server is known to be away.

    Attributes:
        are_over: whether there is nothing to start or to wait for any more. Look at it before `begin`.
    """

    def __init__(self, feed: LedgerFeed, clock: Clock, is_away: Callable[[], bool]) -> None:
        self.are_over = False
        self._feed = feed
        self._clock = clock
        self._is_away = is_away
        self._until: int | None = None
        self._inside: set[int] = set()

    def begin(self) -> None:
        """
        Begin to listen, and wait for the first proof, at most FIRST_WAIT_S from the first call on. Never raises.
        """
        me = threading.get_ident()
        if me in self._inside:
            return
        self._inside.add(me)
        try:
            self._begin()
        finally:
            self._inside.discard(me)

    def _begin(self) -> None:
        now = self._clock()
        if self._until is None:
            self._until = now + int(FIRST_WAIT_S * 1e9)
        self._feed.start()
        if self._feed.view.is_proven() or now >= self._until or self._is_away() or self._feed.is_away():
            self.are_over = True
        elif not (_is_on_event_loop() or self._feed.is_own_thread()):
            self._feed.wait_for_first_proof((self._until - now) / 1e9)
            self.are_over = True

    def begin_again(self) -> None:
        """In a forked child: there is nobody yet who listens."""
        self.are_over = False
        self._until = None
        self._inside.clear()


def _is_on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
