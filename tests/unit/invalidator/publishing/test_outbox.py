"""What waits for Redis: nothing is lost, nothing grows without bound."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from invalidator.publishing.hold import Hold
from invalidator.publishing.outbox import Batch, Outbox
from invalidator.receipt import Receipt


def batch_of(*keys: str, tags: tuple[str, ...] = (), clear: bool = False, holds: tuple[Hold, ...] = ()) -> Batch:
    return Batch(
        dict.fromkeys(keys),
        dict.fromkeys(tags),
        holds={hold.owner: hold for hold in holds},
        clear=clear,
    )


def hold_of(owner: str, *keys: str) -> Hold:
    hold = Hold(owner, 30, lambda: 0, lambda *_: None, lambda _: Receipt())
    hold.remember(keys, (), [owner.encode()])
    return hold


class TestOutbox:
    def test_it_is_empty_at_first(self) -> None:
        outbox = Outbox(10)
        assert len(outbox) == 0
        assert outbox.take() is None

    def test_names_come_out_in_order_and_once(self) -> None:
        """Saying them later is as good as saying them twice."""
        outbox = Outbox(10)
        outbox.put(batch_of("b", "a"))
        outbox.put(batch_of("a", "c", tags=("t",)))
        batch = outbox.take()
        assert (list(batch.keys), list(batch.tags)) == (["b", "a", "c"], ["t"])

    def test_what_is_under_way_still_counts(self) -> None:
        """Otherwise a caller would overtake it."""
        outbox = Outbox(10)
        outbox.put(batch_of("a"))
        outbox.take()
        assert len(outbox) == 1
        outbox.delivered("1-0", 3)
        assert len(outbox) == 0

    def test_one_batch_is_under_way_at_a_time(self) -> None:
        outbox = Outbox(10)
        outbox.put(batch_of("a"))
        first = outbox.take()
        outbox.put(batch_of("b"))
        assert outbox.take() is first

    def test_a_name_under_way_waits_again(self) -> None:
        """What is under way may be accepted before this change was made."""
        outbox = Outbox(10)
        outbox.put(batch_of("a"))
        outbox.take()
        outbox.put(batch_of("a"))
        outbox.delivered("1-0", 3)
        assert list(outbox.take().keys) == ["a"]

    def test_a_receipt_is_accepted_when_its_batch_is_delivered(self) -> None:
        outbox = Outbox(10)
        early = outbox.put(batch_of("a"))
        outbox.take()
        late = outbox.put(batch_of("b"))
        outbox.delivered("1-0", 3)
        assert (early.accepted, early.id, early.listeners) == (True, "1-0", 3)
        assert late.queued
        outbox.take()
        outbox.delivered("2-0", 3)
        assert late.accepted

    def test_what_waits_together_has_one_receipt(self) -> None:
        """It has one fate."""
        outbox = Outbox(10)
        assert outbox.put(batch_of("a")) is outbox.put(batch_of("b"))

    def test_receipts_that_nobody_keeps_are_forgotten(self) -> None:
        """A worker that invalidates one name for a day, while Redis is away, keeps that name and nothing else."""
        outbox = Outbox(10)
        for _ in range(1000):
            outbox.put(batch_of("a"))
            outbox.take()
            outbox.put(batch_of("a"))
            outbox.failed()
        batch = outbox.take()
        assert len(batch.waiters) < 5
        assert list(batch.keys) == ["a"]

    def test_what_failed_is_tried_again_before_what_came_later(self) -> None:
        outbox = Outbox(10)
        early = outbox.put(batch_of("a"))
        outbox.take()
        late = outbox.put(batch_of("b"))
        outbox.failed()
        batch = outbox.take()
        assert list(batch.keys) == ["a", "b"]
        assert list(batch.receipts()) == [early, late]

    def test_who_looks_without_a_lock_never_finds_it_empty(self) -> None:
        """While what failed goes back to what waits, a caller that looked in between would overtake it."""
        seen: list[int] = []

        class Watched(Outbox):
            def __setattr__(self, name: str, value: object) -> None:
                super().__setattr__(name, value)
                if {"_waiting", "_under_way"} <= vars(self).keys():
                    seen.append(len(self))

        outbox = Watched(10)
        outbox.put(batch_of("a"))
        seen.clear()
        outbox.take()
        outbox.failed()
        assert seen
        assert 0 not in seen

    def test_too_many_names_become_one_clear(self) -> None:
        """Nothing is lost, and the queue is bounded."""
        outbox = Outbox(3)
        receipt = outbox.put(batch_of("a", "b", tags=("t",)))
        assert outbox.overflows == 0
        outbox.put(batch_of("c"))
        batch = outbox.take()
        assert batch.clear
        assert batch.keys == batch.tags == {}
        assert len(outbox) == 1
        assert outbox.overflows == 1
        assert list(batch.receipts()) == [receipt]

    def test_too_many_together_with_what_failed(self) -> None:
        outbox = Outbox(3)
        outbox.put(batch_of("a", "b"))
        outbox.take()
        outbox.put(batch_of("c", "d"))
        outbox.failed()
        assert outbox.take().clear
        assert outbox.overflows == 1

    def test_a_clear_holds_every_name(self) -> None:
        outbox = Outbox(10)
        outbox.put(batch_of("a"))
        outbox.put(batch_of(clear=True))
        outbox.put(batch_of("b"))
        batch = outbox.take()
        assert batch.clear
        assert not batch.keys
        assert outbox.overflows == 0

    def test_a_clear_does_not_swallow_releases(self) -> None:
        """It says that the names are stale, and not that nobody holds them any more."""
        outbox = Outbox(10)
        outbox.put(batch_of(holds=(hold_of("me", "a"),)))
        outbox.put(batch_of(clear=True))
        assert list(outbox.take().holds) == ["me"]

    def test_what_is_abandoned_is_counted_and_told(self) -> None:
        outbox = Outbox(10)
        first = outbox.put(batch_of("a", "b"))
        outbox.take()
        second = outbox.put(batch_of("c"))
        assert outbox.abandon("closed") == 3
        for receipt in (first, second):
            assert (receipt.accepted, receipt.queued, receipt.lost_because) == (False, False, "closed")
        assert len(outbox) == 0


class OutboxAgainstModel(RuleBasedStateMachine):
    """Against a set of names: each that was put is delivered after it was put, by its name or by a clear."""

    names = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4)

    @initialize(limit=st.integers(1, 6))
    def begin(self, limit: int) -> None:
        self.outbox = Outbox(limit)
        self.owed: dict[str, int] = {}  # by name, when it was put last
        self.receipts: list[Receipt] = []
        self.taken: Batch | None = None
        self.taken_at = 0
        self.time = 0

    @rule(keys=names)
    def put(self, keys: list[str]) -> None:
        self.time += 1
        self.receipts.append(self.outbox.put(batch_of(*keys)))
        self.owed.update(dict.fromkeys(keys, self.time))

    @rule()
    def clear(self) -> None:
        self.time += 1
        self.receipts.append(self.outbox.put(batch_of(clear=True)))
        self.owed["*"] = self.time

    @rule()
    def take(self) -> None:
        fresh = self.taken is None
        self.taken = self.outbox.take()
        if fresh:
            self.taken_at = self.time
        assert (self.taken is None) == (not self.owed)

    @rule()
    def deliver(self) -> None:
        if self.taken is None:
            return
        self.outbox.delivered("1-0", 1)
        for name, put_at in list(self.owed.items()):
            if put_at <= self.taken_at:
                assert self.taken.clear or name in self.taken.keys
                del self.owed[name]
        self.taken = None

    @rule()
    def fail(self) -> None:
        if self.taken is not None:
            self.outbox.failed()
            self.taken = None

    @invariant()
    def it_is_empty_when_nothing_is_owed(self) -> None:
        if hasattr(self, "outbox"):
            assert bool(self.owed) == bool(len(self.outbox))
            assert bool(self.owed) == any(receipt.queued for receipt in self.receipts)

    @invariant()
    def it_is_bounded(self) -> None:
        if hasattr(self, "outbox"):
            assert len(self.outbox) <= 2 * self.outbox.limit


OutboxAgainstModel.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAgainstModel = OutboxAgainstModel.TestCase
