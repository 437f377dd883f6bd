"""
What must hold after every step, judged by what happened in the world.

- *bound*: no read that begins at t returns a version replaced by a change accepted before t - max_staleness.
- *strict*: with a hold, the same, counted from the commit, whether or not its writer lived to publish.
- *stale fill*: a value loaded before an invalidation was applied in a process is not served there afterwards.
- *hold*: what was loaded before a read begins is not served to it while a hold is in force in its process.
- *own write*: who has called `invalidate` never reads what it replaced.
- *honest lease*: a proof of some time finds everything in the ledger that was accepted before it.
- *receipt*: accepted means that the server took it.
- *needless flush*: a reconnect to the same server with its journal intact keeps the entries.
- *recovery*: when the faults end, everybody has a lease again, within bounded time, and has applied everything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from invalidator import Receipt
from invalidator.ledger import LedgerView
from invalidator.message import Body
from invalidator.names import key_slot, tag_slot

from .choices import S
from .source import Value

if TYPE_CHECKING:
    from .process import Process
    from .world import World

EVERYTHING = "*"
BOUND = 2 * S


class Violation(Exception):
    """The promise was broken."""


class Accepted(NamedTuple):
    """A version that the server knows to have replaced all before."""

    at: int
    version: int
    committed_at: int


@dataclass
class Change:
    """An invalidation whose receipt we watch."""

    process: Process
    versions: Mapping[str, int]
    committed_at: int
    called_at: int
    receipt: Receipt
    everything: bool = False


@dataclass
class Strict:
    """A change that was made under a hold which the server had taken."""

    versions: Mapping[str, int]
    committed_at: int
    damages: int


class Expectation(NamedTuple):
    """What a read that begins now may not return."""

    begins_at: int
    own: Mapping[str, int]
    applied: Mapping[str, int]
    held: frozenset[str]


class Checks:
    """One world's memory of what happened."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.damages = 0
        self.journals_begun = 0
        self.reads = 0
        self._accepted: dict[str, list[Accepted]] = defaultdict(list)
        self._taken: dict[tuple[Process, str], int] = {}
        self._watched: list[Change] = []
        self._strict: list[Strict] = []
        self._publishers: dict[tuple[str, Body], Process] = {}

    # What happens.

    def server_took(self, process: Process, id: str, body: Body) -> None:
        """A server accepted a message, though nobody may ever know."""
        self._publishers[id, body] = self._publishers["", body] = process  # a hold may also arrive without its id
        if body.op == "clear":
            self._taken[process, EVERYTHING] = self.world.now
        elif body.op in ("invalidate", "release"):
            for name in (*body.keys, *body.tags):
                self._taken[process, name] = self.world.now

    def watch(self, change: Change) -> None:
        """`invalidate` returned."""
        self._watched.append(change)
        self.look_at_receipts()

    def published_itself(self, process: Process, id: str, body: Body) -> bool:
        """Whether this message is *process*' own."""
        return self._publishers.get((id, body)) is process

    def committed_under_hold(self, versions: Mapping[str, int], committed_at: int, damages: int) -> None:
        """A strict write was committed in time; its hold was taken when there were that many damages."""
        self._strict.append(Strict(versions, committed_at, damages))

    def damage(self) -> None:
        """A server lost something, or became another: whoever was away has to flush."""
        self.damages += 1

    def look_at_receipts(self) -> None:
        """Note what has been accepted since."""
        for change in list(self._watched):
            if change.receipt.accepted:
                self._watched.remove(change)
                self._note_accepted(change)
            elif not change.receipt.queued or change.process.dead:
                self._watched.remove(change)

    def _note_accepted(self, change: Change) -> None:
        for name, version in change.versions.items():
            times = [self._taken.get((change.process, taken), -1) for taken in (name, EVERYTHING)]
            if (at := max(times)) < change.called_at:
                self.world.fail("receipt", f"{name} v{version} is accepted, but no server took it")
            self._accepted[name].append(Accepted(at, version, change.committed_at))

    def waiting(self) -> list[Change]:
        """Invalidations of living processes of which nobody knows yet whether they were accepted."""
        self.look_at_receipts()
        return self._watched

    # What is looked at.

    def expect(self, process: Process) -> Expectation:
        """A read begins."""
        held = process.names_held() | process.fed_by.names_held()
        return Expectation(self.world.now, dict(process.own_versions), dict(process.fed_by.applied), held)

    def served(self, process: Process, value: Value, expected: Expectation) -> None:
        """A read ended with *value*."""
        self.reads += 1
        self.look_at_receipts()
        self.world.note(lambda: f"{process.name} was handed {value} (asked at {expected.begins_at})")
        for name, version in value.versions.items():
            if value.read_at < expected.begins_at:
                self._check_own_write(process, name, version, expected)
                self._check_stale_fill(process, name, value, expected)
                self._check_hold(process, name, value, expected)
            if process.bounded and not process.fed_by.has_missed:
                self._check_bound(process, name, version, expected)
                self._check_strict(process, name, version, expected)

    def _check_own_write(self, process: Process, name: str, version: int, expected: Expectation) -> None:
        if self.world.ids_went_back and not process.listens:
            return  # a worker asks for its host's position, which then proves nothing
        if version < (own := expected.own.get(name, 0)):
            self.world.fail("own write", f"{process.name} read {name} v{version} after it had invalidated for v{own}")

    def _check_stale_fill(self, process: Process, name: str, value: Value, expected: Expectation) -> None:
        for stale in (name, EVERYTHING):
            if value.read_at < expected.applied.get(stale, 0):
                self.world.fail(
                    "stale fill",
                    f"{process.name} served {value} after it had applied an invalidation of {stale} "
                    f"at {expected.applied[stale]}",
                )

    def _check_hold(self, process: Process, name: str, value: Value, expected: Expectation) -> None:
        if name in expected.held:
            self.world.fail("hold", f"{process.name} served {value} from its cache, though {name} was held")

    def _check_bound(self, process: Process, name: str, version: int, expected: Expectation) -> None:
        before = expected.begins_at - BOUND - self.world.setup.tick_ns
        for change in self._accepted[name]:
            if change.version > version and change.at < before:
                late = (expected.begins_at - change.at) / S
                self.world.fail(
                    "bound", f"{process.name} served {name} v{version}, {late:.3f} s after v{change.version}"
                )

    def _check_strict(self, process: Process, name: str, version: int, expected: Expectation) -> None:
        before = expected.begins_at - BOUND - self.world.setup.tick_ns
        for change in self._strict:
            replaced = change.versions.get(name, 0) > version and change.damages == self.damages
            if replaced and change.committed_at < before:
                late = (expected.begins_at - change.committed_at) / S
                self.world.fail(
                    "strict",
                    f"{process.name} served {name} v{version}, {late:.3f} s after the commit of "
                    f"v{change.versions[name]}",
                )

    def proven(self, process: Process, proven_at: int) -> None:
        """A proof of this time of the process' clock is in its ledger."""
        if process.has_missed:
            return
        self.look_at_receipts()
        ledger = LedgerView(process.words.memory)
        for name, changes in self._accepted.items():
            # A proof says nothing about what was loaded before the process listened.
            stamp = max(ledger.newest_stamp([self.slot(name, ledger.slots)]), ledger.listening_since())
            for change in changes:
                if process.local(change.at) < proven_at and stamp < process.local(change.committed_at):
                    self.world.fail(
                        "honest lease",
                        f"{process.name} has a proof of {proven_at}, "
                        f"without {name} v{change.version} accepted at {change.at}",
                    )

    @property
    def reasons_to_flush(self) -> int:
        """
        Damages, and journals that were begun after one: who has asked for the epoch just before that, and for the last
        id just after it, has to flush when it learns of the new one.
        """
        return self.damages + self.journals_begun

    def flushed(self, process: Process, reason: str) -> None:
        """A process voided its ledger."""
        if self.world.info_was_refused:
            return  # who cannot learn which run of the server this is has to flush at every reconnect
        subscription = process.subscription
        # Who has not listened yet knows of no journal that could have been begun anew.
        damaged = self.reasons_to_flush > process.damages_known if process.has_position else self.damages > 0
        position = subscription.journal.position if subscription.journal else ""
        trimmed = bool(position) and self.world.primary.has_trimmed_past(position)
        if not (damaged or trimmed):
            self.world.fail("needless flush", f"{process.name} flushed ({reason}), though nothing was lost")

    def settled(self, process: Process) -> None:
        """
        The faults are over, and everything had time to arrive: nothing stale is left that was read since the process
        listens. (What was read before is for `served` to check.)
        """
        since = LedgerView(process.words.memory).listening_since() + self.world.setup.replica_lag_ns
        for key in self.world.keys:
            entry = process.cache.peek(key)
            if entry is not None and process.local(entry.value.read_at) <= since:
                continue
            for name, version in entry.value.versions.items() if entry else ():
                newest = max((change.version for change in self._accepted[name]), default=0)
                if version < newest:
                    self.world.fail("recovery", f"{process.name} still serves {name} v{version}, not v{newest}")

    @staticmethod
    def slot(name: str, slots: int) -> int:
        """Where a name of this world lies: tags begin with "t"."""
        return tag_slot(name, slots) if name.startswith("t") else key_slot(name, slots)
