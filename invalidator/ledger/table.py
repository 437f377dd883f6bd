"""
The ledger: for each name, the last time it became stale, on this host's steady clock.

It is a table of signed 64-bit integers in one buffer: a header of `HEADER_WORDS` words, then the slots. A name belongs
to the slot that its hash selects; the time in a slot is a *stamp*. The buffer may be private memory, or a file that the
processes of a host share (`file.py`).

One writer, many readers, no locks on the read path:

Rule 1: the writer stores slots, `FLUSHED_AT` and `LISTENING_SINCE`, then `CHANGES`, then `POSITION_SEQ` and
`POSITION_MS`, then `PROVEN_AT`.
Rule 2: a reader reads `PROVEN_AT`, then `CHANGES`, then the slots and `LISTENING_SINCE` (`read_lease` comes before
`newest_stamp` and `covers`), and remembers the *value* of `CHANGES`. While it has not moved, nothing it looked at has
become stale.
Rule 3: a stamp never goes down, except when a hold is released that explains it. (Two names in one slot cause an
unneeded miss, never staleness.)
Rule 4: the two words of a position are read in the opposite order of their storing (`read_position`), so that what is
read is never ahead of what was applied.
Rule 5: every time is a `now_ns()` of this host. No time of another clock is ever stored.
Rule 6: no proof covers what was loaded at `LISTENING_SINCE` or before: it may have become stale before anybody
listened. It is not void, either.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from _thread import RLock  # that of threading is replaced by gevent, with one that orders nothing
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

Clock = Callable[[], int]

# One clock for all processes of a host, which goes on while the host is suspended. time.monotonic() stops then, on both
# systems.
_STEADY = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC
now_ns: Clock = partial(time.clock_gettime_ns, _STEADY)
"""Nanoseconds on this host's steady clock."""

NEVER = 0
"""Earlier than every time of the clock: a slot that was never stamped, a lease that was never proven."""
FOREVER = 2**63 - 1
"""Later than every time of the clock."""

MAGIC = int.from_bytes(b"INVALEDG", "big")
LAYOUT = 2

IN_ORDER = os.uname().machine in ("x86_64", "amd64")
"""Whether this machine keeps loads in order with loads, and stores with stores, without a fence."""

MOST_HELD = 100_000
"""Holds that are kept apart; a strict writer has a handful at a time."""

HEADER_WORDS = 64
MAGIC_WORD, LAYOUT_WORD, SLOTS_WORD, WRITER, BOOT = range(5)
RING = 5
"""How many words follow the slots: room for a ring of the slots that were stamped last. This version keeps none."""
# These are read by every read, and share one cache line with nothing else.
CHANGES, FLUSHED_AT, PROVEN_AT, LISTENING_SINCE = range(8, 12)
RING_AT = 12
"""Reserved: where the ring goes on."""
POSITION_MS, POSITION_SEQ, SERVER_RUN, EPOCH = range(16, 20)
JOURNAL = range(20, 24)
"""Reserved: what else tells one journal from another."""
NAMESPACE_WORDS = range(24, 32)  # 64 bytes of text, padded with zeros


class Words(Protocol):
    """A buffer of signed 64-bit integers: a `memoryview` of format "q"."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...


def fence() -> None:
    """
    Complete every load and store above, as every processor sees it, before any below begins. For machines that are not
    `IN_ORDER`; `file.py` says why this is enough.
    """
    lock = RLock()  # a new one: no thread waits for it, and no fork finds it taken
    with lock:
        pass
    with lock:
        pass


def _text_words(text: str) -> tuple[int, ...]:
    return struct.unpack("8q", text.encode().ljust(64, b"\0"))


def read_namespace(words: Words) -> str:
    """Return the namespace that a ledger is for."""
    return struct.pack("8q", *[words[index] for index in NAMESPACE_WORDS]).rstrip(b"\0").decode(errors="replace")


class LedgerView:
    """A ledger, as a reader sees it."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.slots = words[SLOTS_WORD]

    def read_lease(self) -> tuple[int, int]:
        """Return (`proven_at`, `changes`), read in this order, which must come before the stamps (rule 2)."""
        words = self.words
        proven_at = words[PROVEN_AT]
        if not IN_ORDER:
            fence()
        changes = words[CHANGES]
        if not IN_ORDER:
            fence()
        return proven_at, changes

    def newest_stamp(self, slots: Iterable[int]) -> int:
        """Return the last time that a name in *slots*, or everything, became stale. See `names` for slots."""
        return self.newest_at((FLUSHED_AT, *[HEADER_WORDS + slot for slot in slots]))

    def newest_at(self, places: Iterable[int]) -> int:
        """`newest_stamp`, by indexes of words: `FLUSHED_AT` and slots, at least one of them."""
        words = self.words
        return max([words[place] for place in places])

    def covers(self, loaded_at: int) -> bool:
        """Whether proofs of this ledger say anything about what was loaded then. Comes after `read_lease` (rule 2)."""
        return loaded_at > self.words[LISTENING_SINCE]

    def listening_since(self) -> int:
        """Proofs cover what was loaded after that time. No older than what the caller has read before."""
        if not IN_ORDER:
            fence()
        return self.words[LISTENING_SINCE]

    def is_proven(self) -> bool:
        """Whether there was ever a proof, however long ago."""
        return self.words[PROVEN_AT] != NEVER

    def read_position(self) -> tuple[int, int]:
        """Return the id of a journal entry up to which everything was applied, as two numbers."""
        words = self.words
        ms = words[POSITION_MS]
        if not IN_ORDER:
            fence()
        return ms, words[POSITION_SEQ]


class Ledger(LedgerView):
    """
    A ledger, as its writer sees it. Several threads of the writing process may call the methods.

    Args:
        words: the buffer, zeroed or written by an earlier `Ledger` of the same layout.
        slots: how many slots it has.
        namespace: the namespace it is for.
    """

    def __init__(self, words: Words, *, slots: int, namespace: str) -> None:
        words[MAGIC_WORD] = MAGIC
        words[LAYOUT_WORD] = LAYOUT
        words[SLOTS_WORD] = slots
        for index, text in zip(NAMESPACE_WORDS, _text_words(namespace), strict=True):
            words[index] = text
        words[WRITER] = os.getpid()
        super().__init__(words)
        self.lock = threading.RLock()  # a signal handler may invalidate while its thread stamps
        self._holds: dict[int, dict[str, int]] = {}  # by slot and owner, until when
        self._held = 0
        self._newest = NEVER  # no stamp is later than this, also none that a hold hides in its slot

    @classmethod
    def private(cls, *, slots: int, namespace: str) -> Ledger:
        """A ledger in this process' own memory. Untouched pages of it cost nothing."""
        return cls(memoryview(bytearray(8 * (HEADER_WORDS + slots))).cast("q"), slots=slots, namespace=namespace)

    def stamp(self, slots: Iterable[int], now: int, *, count: bool = True) -> None:
        """Void everything in *slots* that was loaded before *now*. Without *count*, call `touch` afterwards."""
        words = self.words
        with self.lock:
            self._newest = max(self._newest, now)
            for slot in slots:
                index = HEADER_WORDS + slot
                if words[index] < now:
                    words[index] = now
            if count:
                self._count()

    def hold(self, slots: Iterable[int], owner: str, until: int, now: int, *, count: bool = True) -> None:
        """Let nothing in *slots* be cached before *until*, or before *owner* releases it. For *count* see `stamp`."""
        words = self.words
        with self.lock:
            if self._held >= MOST_HELD:
                self._forget_ended_holds(now)
            if self._held >= MOST_HELD:
                words[FLUSHED_AT] = max(words[FLUSHED_AT], until)  # too many to keep apart: hold everything
                slots = ()
            for slot in slots:
                owners = self._holds.setdefault(slot, {})
                self._held += owner not in owners
                owners[owner] = max(owners.get(owner, NEVER), until)
                words[HEADER_WORDS + slot] = max(words[HEADER_WORDS + slot], until)
            if count:
                self._count()

    def release(self, slots: Iterable[int], owner: str, now: int, *, count: bool = True) -> None:
        """Void everything in *slots* that was loaded before *now*, and end the hold of *owner*."""
        words = self.words
        with self.lock:
            self._newest = now = max(self._newest, now)
            for slot in slots:
                index = HEADER_WORDS + slot
                owners = self._holds.get(slot, {})
                # A stamp in the future that no hold here explains was written by an earlier writer of this ledger, and
                # stays.
                explained = words[index] <= max(now, *owners.values(), NEVER)
                if owners.pop(owner, None) is not None:
                    self._held -= 1
                if not owners:
                    self._holds.pop(slot, None)
                if explained:
                    words[index] = max(now, *owners.values(), NEVER)
            if count:
                self._count()

    def _forget_ended_holds(self, now: int) -> None:
        for slot, owners in list(self._holds.items()):
            left = {owner: until for owner, until in owners.items() if until > now}
            self._held -= len(owners) - len(left)
            if left:
                self._holds[slot] = left
            else:
                del self._holds[slot]

    def flush(self, now: int) -> None:
        """Void everything that was loaded before *now*."""
        with self.lock:
            self.words[FLUSHED_AT] = max(self.words[FLUSHED_AT], now)
            self._count()

    def listen(self, now: int) -> None:
        """
        From *now* on everything is received that is accepted; nobody knows what was before. Voids nothing: proofs do
        not cover what was loaded until then.
        """
        with self.lock:
            self.words[LISTENING_SINCE] = max(self.words[LISTENING_SINCE], now)

    def touch(self) -> None:
        """Count what was stamped without, so that every reader checks its entries anew."""
        with self.lock:
            self._count()

    def _count(self) -> None:
        """Move the count, after everything that was stored (rule 1)."""
        if not IN_ORDER:
            fence()
        self.words[CHANGES] += 1

    def move(self, position: tuple[int, int], server_run: int, epoch: int) -> None:
        """Record how far which journal has been applied: the id of an entry, and fingerprints of server and epoch."""
        words = self.words
        with self.lock:
            # Between the two stores a reader finds the old millisecond, all of which has been applied, with the new
            # number. The new millisecond with the old number could be ahead of what has been applied.
            words[POSITION_SEQ] = position[1]
            if not IN_ORDER:
                fence()
            words[POSITION_MS] = position[0]
            words[SERVER_RUN] = server_run
            words[EPOCH] = epoch

    def prove(self, at: int) -> None:
        """Record that every invalidation accepted before *at* is in this ledger."""
        with self.lock:
            self.words[PROVEN_AT] = max(self.words[PROVEN_AT], at)
