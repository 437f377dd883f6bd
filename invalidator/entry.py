"""
An entry, and the rule that says whether it may be served.

The rule (docs/guarantees.md derives it):

    every stamp of its key and tags  <  loaded_at
    flushed_at                       <  loaded_at
    now < expires_at
    now < proven_at + max_staleness  and  loaded_at > listening_since,  or  now < loaded_at + max_staleness

(`listening_since`: no proof says anything about what became stale before somebody listened.)

A value that was made from other entries' values (`parts`) is no better than they are. The first two lines must hold for
each of them with its own names and its own `loaded_at`, and the last line for the oldest. (One time for all of them
would be wrong. A time later than a part's own misses a stamp whose writer read the clock before that time and stores
the stamp after it. The oldest time for all would keep out a value that is reloaded because only its own names were
invalidated.)

An entry remembers two numbers from the last look at the whole rule: the count of `changes` that the ledger had, and
`good_until`, the time up to which the last two lines hold. While the count stands still and `good_until` is ahead, the
rule still holds: a hit costs one read of the ledger and one of the clock. (`proven_at` only grows, so an old
`good_until` is early, never late.) When the count has moved and `good_until` is still ahead, the hit compares the
stamps once more, with a third number that the entry remembers, `floor`.

Nothing here does I/O or takes a lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, Literal, TypeVar

from .config import WhenUnleased
from .copying import Kept, clone_watchers
from .ledger import FLUSHED_AT, FOREVER, HEADER_WORDS, IN_ORDER, NEVER, Clock, LedgerView, Words, fence

V = TypeVar("V")

Verdict = Literal["valid", "invalidated", "expired", "unleased"]

Parts = tuple[tuple[int, tuple[int, ...]], ...]

NOT_LOOKED_AT = -1
"""A count of changes that no ledger has."""


class Entry(Generic[V]):
    """
    A value and what decides how long it may be served.

    Args:
        value: what the loader returned.
        loaded_at: nanoseconds on the ledger's clock, *before* the loader began.
        expires_at: the end of its TTL on the same clock.
        slots: those of its key and tags.
        tags: for people to look at; the rule looks at `slots`.
        parts: for each entry whose value this one was made from, its `loaded_at` and its slots; see `parts_of`.

    Attributes:
        places: the words of the ledger that can void it: that of a flush, and its slots.
        changes: the count of changes at the last look at the whole rule.
        floor: at that look, no stamp in `places` was at this time or later; NEVER before the first look.
        good_until: the time up to which its TTL and its lease hold.
        hits, hits_at_turn: how often it was served; how often when its last turn to leave came (`store.py`).
        size: in the unit of the store's *getsizeof*.
    """

    __slots__ = (
        "changes",
        "expires_at",
        "floor",
        "good_until",
        "hits",
        "hits_at_turn",
        "loaded_at",
        "parts",
        "places",
        "size",
        "tags",
        "value",
    )

    def __init__(
        self,
        value: V,
        *,
        loaded_at: int,
        slots: tuple[int, ...],
        expires_at: int = FOREVER,
        tags: tuple[str, ...] = (),
        parts: Parts = (),
    ) -> None:
        self.value = value
        self.loaded_at = loaded_at
        self.expires_at = expires_at
        self.places = (FLUSHED_AT, *[HEADER_WORDS + slot for slot in slots])
        self.tags = tags
        self.parts = parts
        self.changes = NOT_LOOKED_AT
        self.floor = NEVER
        self.good_until = 0
        self.hits = 0
        self.hits_at_turn = 0
        self.size: float = 1

    @property
    def slots(self) -> tuple[int, ...]:
        """Those of its key and tags."""
        return tuple([place - HEADER_WORDS for place in self.places[1:]])

    def _stand_in(self, entry: AnyEntry) -> None:
        """Be served as long as *entry*, which has not been stored, and will not be."""
        self.loaded_at = entry.loaded_at
        self.expires_at = entry.expires_at
        self.places = entry.places
        self.tags = entry.tags
        self.parts = entry.parts
        self.changes = NOT_LOOKED_AT
        self.floor = NEVER
        self.good_until = 0
        self.hits = 0
        self.hits_at_turn = 0
        self.size = entry.size

    def look_again(self) -> None:
        """The next read looks at the whole rule."""
        self.changes = NOT_LOOKED_AT
        self.floor = NEVER

    def age_s(self, now: int) -> float:
        """Seconds since its loader began."""
        return (now - self.loaded_at) / 1e9


AnyEntry = Entry[Any]


class KeptEntry(Entry[Any]):
    """
    Stands in for the entry of *key* whose value was kept: `value` is another clone each time, whoever looks.

    Other entries cost nothing more for that.
    """

    __slots__ = ("_kept", "key")

    def __init__(self, key: str, entry: AnyEntry, kept: Kept) -> None:
        self.key = key
        self._kept = kept
        self._stand_in(entry)

    @property
    def value(self) -> Any:  # others read it as fast as an attribute
        """A clone for the caller to keep."""
        kept = self._kept
        value = kept.copy(kept.value)
        if clone_watchers:
            for watch in tuple(clone_watchers):
                watch(self.key, value)
        return value


def parts_of(entries: Iterable[AnyEntry]) -> Parts:
    """Return what an entry keeps of those it was made from: their slots, and those of their parts, by load time."""
    slots_by_time: dict[int, dict[int, None]] = {}
    for entry in entries:
        for loaded_at, slots in ((entry.loaded_at, entry.slots), *entry.parts):
            slots_by_time.setdefault(loaded_at, {}).update(dict.fromkeys(slots))
    return tuple((loaded_at, tuple(slots)) for loaded_at, slots in slots_by_time.items())


class ValidityRule:
    """
    The rule for one ledger, one staleness bound and one policy.

    Args:
        own: a second ledger of as many slots, for what this process has published and the first does not have yet.
        max_staleness_ns: how long silence is trusted.
        when_unleased: what is served without a lease, or was loaded before it could have one. "short" serves an entry
            for `max_staleness` after its own load; "bypass" serves nothing; "serve" serves until the TTL and gives up
            the bound.
        replica_lag_ns: how old the data may be that a loader reads; a load is treated as that much older.
    """

    def __init__(
        self,
        ledger: LedgerView,
        clock: Clock,
        *,
        own: LedgerView | None = None,
        max_staleness_ns: int,
        when_unleased: WhenUnleased = "short",
        replica_lag_ns: int = 0,
    ) -> None:
        self.ledger = ledger
        self.own = None if own is ledger else own
        self.clock = clock
        self.max_staleness_ns = max_staleness_ns
        self.when_unleased = when_unleased
        self.replica_lag_ns = replica_lag_ns

    def check(self, entry: Entry[V]) -> Verdict:
        """Look at the whole rule, and let the entry remember what was seen."""
        proven_at, changes = self.ledger.read_lease()
        as_of = entry.loaded_at - self.replica_lag_ns
        if self.ledger.newest_at(entry.places) >= as_of:
            return "invalidated"
        if self.own is not None and self.own.newest_at(entry.places) >= as_of:
            return "invalidated"
        entry.floor = NEVER if entry.parts else as_of
        for loaded_at, slots in entry.parts:
            part_as_of = loaded_at - self.replica_lag_ns
            if self._newest_stamp(slots) >= part_as_of:
                return "invalidated"
            as_of = min(as_of, part_as_of)
        served_until = self._served_until(proven_at, as_of)
        entry.good_until = min(entry.expires_at, served_until)
        entry.changes = changes
        # The clock comes last: a thread that is paused between any two lines above wakes up after the end of its lease.
        now = self.clock()
        if now < entry.good_until:
            return "valid"
        return "expired" if now >= entry.expires_at else "unleased"

    def still_holds(self, entry: AnyEntry, words: Words, count: int) -> bool:
        """
        Whether nothing in *words*, with which hits compare, has voided *entry* since `check` found it valid. If
        something has, `check` has to look again. That `good_until` is ahead is for the caller to see, afterwards.

        The usual case, written for speed: somebody has invalidated something else. Two things are taken over from
        `check`: the lease, since an old `good_until` is early and never late; and what this process has published
        itself, since *words* have it, or are a `Doubt`, whose stamps are later than every load. An entry that was not
        checked since it was stored, or that has parts, has no floor.

        Args:
            count: `words[CHANGES]`, read before this call.
        """
        if not IN_ORDER:
            fence()
        floor = entry.floor
        for place in entry.places:
            if words[place] >= floor:
                return False
        entry.changes = count
        return True

    def holds_for_load(self, slots: Iterable[int], loaded_at: int, parts: Parts = ()) -> bool:
        """Whether the value of a load of *slots* that began at *loaded_at* may be given to a caller that asks now."""
        probe: Entry[None] = Entry(None, loaded_at=loaded_at, slots=tuple(slots), parts=parts)
        return self.check(probe) == "valid"

    def can_be_leased(self, entry: AnyEntry) -> bool:
        """Whether *entry*, and all that it was made from, was loaded after somebody listened. For people to look at."""
        oldest = min(entry.loaded_at, *[loaded_at for loaded_at, _ in entry.parts], FOREVER)
        return self.ledger.covers(oldest - self.replica_lag_ns)

    def lease_remaining_ns(self) -> int:
        """How long the lease lasts without another proof; 0 or less when there is none."""
        proven_at, _ = self.ledger.read_lease()
        return proven_at + self.max_staleness_ns - self.clock() if proven_at else 0

    def _newest_stamp(self, slots: tuple[int, ...]) -> int:
        newest = self.ledger.newest_stamp(slots)
        return newest if self.own is None else max(newest, self.own.newest_stamp(slots))

    def _served_until(self, proven_at: int, as_of: int) -> int:
        """*as_of*: that of the entry, or of its oldest part."""
        if self.when_unleased == "serve":
            return FOREVER
        leased_until = proven_at + self.max_staleness_ns if proven_at and self.ledger.covers(as_of) else 0
        if self.when_unleased == "bypass":
            return leased_until
        return max(leased_until, as_of + self.max_staleness_ns)
