"""The validity rule, line by line. Each test fails if its line of the rule is taken out."""

import pytest

from invalidator import entry as entries
from invalidator.copying import keep
from invalidator.entry import Entry, KeptEntry, ValidityRule, parts_of
from invalidator.feeds.doubt import Doubt
from invalidator.ledger import CHANGES, FLUSHED_AT, HEADER_WORDS, LISTENING_SINCE, PROVEN_AT, Ledger
from tests.support import Clock, RecordingWords, S

KEY, TAG, OTHER = 5, 6, 7


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    """A ledger with a lease that was proven now."""
    ledger = Ledger.private(slots=64, namespace="shop")
    ledger.prove(clock())
    return ledger


def make_rule(ledger: Ledger, clock: Clock, **options) -> ValidityRule:
    return ValidityRule(ledger, clock, **{"max_staleness_ns": 2 * S, **options})


def entry_of(now: int, **options) -> Entry[str]:
    return Entry("value", **{"loaded_at": now, "slots": (KEY, TAG), **options})


class TestStamps:
    @pytest.mark.parametrize("slot", [KEY, TAG])
    def test_a_name_invalidated_after_the_load_began_voids_the_entry(self, ledger, clock, slot) -> None:
        entry = entry_of(clock())
        ledger.stamp([slot], clock.advance(0.1))
        ledger.prove(clock())
        assert make_rule(ledger, clock).check(entry) == "invalidated"

    def test_equal_times_void_the_entry(self, ledger, clock) -> None:
        """Nobody knows which came first within one tick of the clock: in doubt, void."""
        entry = entry_of(clock())
        ledger.stamp([KEY], clock())
        assert make_rule(ledger, clock).check(entry) == "invalidated"

    def test_a_name_invalidated_before_the_load_began_does_not(self, ledger, clock) -> None:
        ledger.stamp([KEY, TAG], clock())
        assert make_rule(ledger, clock).check(entry_of(clock.advance(0.1))) == "valid"

    def test_another_name_does_not(self, ledger, clock) -> None:
        entry = entry_of(clock())
        ledger.stamp([OTHER], clock.advance(0.1))
        assert make_rule(ledger, clock).check(entry) == "valid"

    def test_a_flush_voids_everything_loaded_before(self, ledger, clock) -> None:
        entry = entry_of(clock())
        ledger.flush(clock.advance(0.1))
        assert make_rule(ledger, clock).check(entry) == "invalidated"
        assert make_rule(ledger, clock).check(entry_of(clock.advance(0.1))) == "valid"

    def test_a_hold_keeps_out_what_is_loaded_meanwhile(self, ledger, clock) -> None:
        """An invalidation stamped in the future."""
        ledger.hold([KEY], "me", clock() + S, clock())
        assert make_rule(ledger, clock).check(entry_of(clock.advance(0.5))) == "invalidated"
        assert make_rule(ledger, clock).check(entry_of(clock.advance(0.6))) == "valid"

    def test_an_invalidation_is_seen_by_the_check_after_it(self, ledger, clock) -> None:
        """The value of `changes` is compared, not a time: the writer takes its time before it stores."""
        entry, rule = entry_of(clock()), make_rule(ledger, clock)
        stamped_late = clock.advance(0.1)
        clock.advance(0.1)
        assert rule.check(entry) == "valid"
        assert entry.changes == ledger.words[CHANGES]
        ledger.stamp([KEY], stamped_late)
        assert entry.changes != ledger.words[CHANGES]
        assert rule.check(entry) == "invalidated"


class TestTtl:
    def test_an_entry_expires_at_the_end_of_its_ttl(self, ledger, clock) -> None:
        entry, rule = entry_of(clock(), expires_at=clock() + S), make_rule(ledger, clock)
        clock.advance(0.999_999_999)
        assert rule.check(entry) == "valid"
        clock.now = entry.expires_at
        assert rule.check(entry) == "expired"

    def test_no_lease_prolongs_a_ttl(self, ledger, clock) -> None:
        entry = entry_of(clock(), expires_at=clock() + S)
        rule = make_rule(ledger, clock)
        rule.check(entry)
        assert entry.good_until == entry.expires_at

    def test_expired_and_unleased_is_expired(self, ledger, clock) -> None:
        """An unleased entry is good again with the next proof; this one never is."""
        entry = entry_of(clock(), expires_at=clock() + S)
        clock.advance(10)
        assert make_rule(ledger, clock).check(entry) == "expired"

    def test_even_without_a_bound_an_entry_expires(self, ledger, clock) -> None:
        entry = entry_of(clock(), expires_at=clock() + S)
        clock.advance(1)
        assert make_rule(ledger, clock, when_unleased="serve").check(entry) == "expired"


class TestLease:
    def test_an_entry_is_served_as_long_as_the_lease_lasts(self, ledger, clock) -> None:
        """However old it is: silence was proven to mean that nothing changed."""
        entry, rule = entry_of(clock()), make_rule(ledger, clock)
        clock.advance(1000)
        ledger.prove(clock())
        clock.advance(1.999_999_999)
        assert rule.check(entry) == "valid"
        clock.advance(0.000_000_001)
        assert rule.check(entry) == "unleased"

    def test_the_lease_counts_from_the_proof_with_the_readers_own_bound(self, ledger, clock) -> None:
        """A sidecar's workers may differ."""
        entry = entry_of(clock() - 10 * S)
        clock.advance(1)
        assert make_rule(ledger, clock, max_staleness_ns=S).check(entry) == "unleased"
        assert make_rule(ledger, clock, max_staleness_ns=S + 1).check(entry) == "valid"

    def test_another_proof_makes_it_good_again(self, ledger, clock) -> None:
        entry, rule = entry_of(clock()), make_rule(ledger, clock)
        clock.advance(100)
        assert rule.check(entry) == "unleased"
        ledger.prove(clock())
        assert rule.check(entry) == "valid"

    def test_there_is_no_lease_before_the_first_proof(self, clock) -> None:
        """Not even right after boot, when the steady clock itself is younger than the bound."""
        unproven = Ledger.private(slots=64, namespace="shop")
        clock.now = S  # one second after boot
        rule = make_rule(unproven, clock, when_unleased="bypass")
        assert rule.check(entry_of(clock() - S // 2)) == "unleased"
        assert rule.lease_remaining_ns() <= 0

    def test_what_remains_of_a_lease(self, ledger, clock) -> None:
        clock.advance(0.5)
        assert make_rule(ledger, clock).lease_remaining_ns() == 1.5 * S


class TestPolicies:
    """What is served while there is no lease."""

    @pytest.fixture
    def unproven(self, clock) -> Ledger:
        return Ledger.private(slots=64, namespace="shop")

    def test_short_serves_each_entry_for_max_staleness_after_its_own_load(self, unproven, clock) -> None:
        """At most one load per key and bound during an outage, and never a stale answer beyond the bound."""
        entry, rule = entry_of(clock()), make_rule(unproven, clock)
        clock.advance(1.999_999_999)
        assert rule.check(entry) == "valid"
        clock.advance(0.000_000_001)
        assert rule.check(entry) == "unleased"

    def test_short_takes_the_longer_of_lease_and_load(self, ledger, clock) -> None:
        clock.advance(1)
        young, old = entry_of(clock()), entry_of(clock() - 100 * S)
        rule = make_rule(ledger, clock)
        clock.advance(1.5)
        assert (rule.check(young), rule.check(old)) == ("valid", "unleased")

    def test_bypass_serves_nothing(self, unproven, clock) -> None:
        rule = make_rule(unproven, clock, when_unleased="bypass")
        assert rule.check(entry_of(clock())) == "unleased"
        unproven.prove(clock())
        assert rule.check(entry_of(clock())) == "valid"

    def test_serve_serves_until_the_ttl(self, unproven, clock) -> None:
        """It gives up the bound, as its name warns."""
        entry = entry_of(clock())
        clock.advance(10_000)
        assert make_rule(unproven, clock, when_unleased="serve").check(entry) == "valid"

    @pytest.mark.parametrize("policy", ["short", "bypass", "serve"])
    def test_no_policy_serves_what_is_known_to_be_stale(self, unproven, clock, policy) -> None:
        entry = entry_of(clock())
        unproven.stamp([KEY], clock.advance(0.1))
        assert make_rule(unproven, clock, when_unleased=policy).check(entry) == "invalidated"


class TestReplicaLag:
    def test_a_load_counts_from_that_much_earlier(self, ledger, clock) -> None:
        """What a loader reads from a replica may be a second old when it is read."""
        rule = make_rule(ledger, clock, replica_lag_ns=S)
        ledger.stamp([KEY], clock())
        ledger.prove(clock() + S)
        assert rule.check(entry_of(clock.advance(1))) == "invalidated"
        assert rule.check(entry_of(clock.advance(0.000_000_001))) == "valid"

    def test_unleased_it_is_that_much_older(self, clock) -> None:
        """The bound counts from the data, not from the reading of it."""
        unproven = Ledger.private(slots=64, namespace="shop")
        entry, rule = entry_of(clock()), make_rule(unproven, clock, replica_lag_ns=S)
        clock.advance(0.9)
        assert rule.check(entry) == "valid"
        clock.advance(0.1)
        assert rule.check(entry) == "unleased"


class TestListening:
    """What was loaded before somebody listened may have become stale unheard: no proof covers it, nothing voids it."""

    @pytest.fixture
    def ledger(self, clock) -> Ledger:
        """A ledger that listens, and has a lease, since now."""
        ledger = Ledger.private(slots=64, namespace="shop")
        ledger.listen(clock())
        ledger.prove(clock())
        return ledger

    def test_what_was_loaded_before_is_served_as_in_an_outage(self, ledger, clock) -> None:
        """For `max_staleness` after its own load, whatever is proven meanwhile."""
        entry, rule = entry_of(clock() - S), make_rule(ledger, clock)
        assert rule.check(entry) == "valid"
        assert entry.good_until == entry.loaded_at + 2 * S
        ledger.prove(clock.advance(1))
        assert rule.check(entry) == "unleased"

    def test_equal_times_are_not_covered(self, ledger, clock) -> None:
        """Within one tick of the clock nobody knows whether the load or the subscription came first."""
        rule = make_rule(ledger, clock)
        before, after = entry_of(clock()), entry_of(clock() + 1)
        clock.advance(10)
        ledger.prove(clock())
        assert (rule.check(before), rule.check(after)) == ("unleased", "valid")

    def test_a_part_from_before_is_not_covered(self, ledger, clock) -> None:
        """The value that was made from it is no better."""
        rule = make_rule(ledger, clock)
        part = entry_of(clock() - 1, slots=(OTHER,))
        entry = entry_of(clock() + 1, parts=parts_of([part]))
        assert (rule.can_be_leased(entry_of(clock() + 1)), rule.can_be_leased(entry)) == (True, False)
        assert rule.check(entry) == "valid"
        assert entry.good_until == part.loaded_at + 2 * S
        ledger.prove(clock.advance(2))
        assert rule.check(entry) == "unleased"

    def test_what_was_loaded_after_and_read_from_before_is_not_covered(self, ledger, clock) -> None:
        """A replica may show data of before the subscription."""
        rule = make_rule(ledger, clock, replica_lag_ns=S)
        early, late = entry_of(clock() + S), entry_of(clock() + S + 1)
        ledger.prove(clock.advance(10))
        assert (rule.check(early), rule.check(late)) == ("unleased", "valid")

    @pytest.mark.parametrize(("policy", "verdict"), [("bypass", "unleased"), ("serve", "valid")])
    def test_the_policy_says_what_becomes_of_it(self, ledger, clock, policy, verdict) -> None:
        """ "bypass" serves nothing without a lease, though it was loaded a moment ago; "serve" serves until the TTL."""
        entry, rule = entry_of(clock() - 1), make_rule(ledger, clock, when_unleased=policy)
        assert rule.check(entry) == verdict

    def test_its_own_stamps_void_it_as_ever(self, ledger, clock) -> None:
        entry = entry_of(clock() - 1)
        ledger.stamp([KEY], clock())
        assert make_rule(ledger, clock).check(entry) == "invalidated"

    def test_a_load_from_before_is_joined_only_for_so_long(self, ledger, clock) -> None:
        """A load that takes longer than the bound, and began before anybody listened, is handed to nobody who asks."""
        began, rule = clock(), make_rule(ledger, clock)
        assert rule.holds_for_load((KEY,), began)
        ledger.prove(clock.advance(2))
        assert not rule.holds_for_load((KEY,), began)
        assert rule.holds_for_load((KEY,), began + 1)


class TestOrder:
    def test_lease_then_changes_then_stamps_then_the_clock(self, ledger, clock) -> None:
        """
        Whoever is paused between any two of them wakes up to a time past its lease, or to a counter that has moved.
        """
        looked: list[object] = []

        def timed() -> int:
            looked.append("clock")
            return clock()

        ledger.words = words = RecordingWords(ledger.words)
        words.read = looked
        rule = make_rule(ledger, clock)
        rule.clock = timed
        rule.check(entry_of(clock()))
        stamps = [FLUSHED_AT, HEADER_WORDS + KEY, HEADER_WORDS + TAG]
        assert looked == [PROVEN_AT, CHANGES, *stamps, LISTENING_SINCE, "clock"]

    def test_a_pause_before_the_clock_is_read_outlives_no_lease(self, ledger, clock) -> None:
        """A process stopped between looking at the lease and serving must not serve."""

        def long_pause() -> int:
            return clock.advance(60)

        assert make_rule(ledger, long_pause).check(entry_of(clock())) == "unleased"

    def test_what_is_stamped_during_the_check_is_seen_by_the_next(self, ledger, clock) -> None:
        """The counter that is remembered is the one read *before* the slots."""

        class Stamping(RecordingWords):
            def __getitem__(self, index):
                value = super().__getitem__(index)
                if index == HEADER_WORDS + KEY and self.read.count(index) == 1:
                    ledger.stamp([KEY], clock())
                return value

        ledger.words = stamping = Stamping(ledger.words)
        entry, rule = entry_of(clock()), make_rule(ledger, clock)
        rule.check(entry)
        assert entry.changes != stamping[CHANGES]
        assert rule.check(entry) == "invalidated"


class TestWhatAnEntryRemembers:
    def test_a_valid_check_is_remembered(self, ledger, clock) -> None:
        entry, rule = entry_of(clock()), make_rule(ledger, clock)
        assert rule.check(entry) == "valid"
        assert (entry.changes, entry.good_until) == (0, clock() + 2 * S)

    def test_an_invalidated_entry_is_not_marked_good(self, ledger, clock) -> None:
        """A reader that holds it while another checks it must not take it for good."""
        entry, rule = entry_of(clock()), make_rule(ledger, clock)
        ledger.stamp([KEY], clock())
        rule.check(entry)
        assert (entry.changes, entry.good_until) == (-1, 0)

    def test_a_new_entry_has_not_been_looked_at(self, clock) -> None:
        """The counter starts at 0: a new entry must not look as if it had been compared with it."""
        entry = entry_of(clock())
        assert (entry.changes, entry.good_until, entry.hits) == (-1, 0, 0)

    def test_its_age_counts_from_before_its_loader(self, clock) -> None:
        assert entry_of(clock()).age_s(clock() + S // 2) == 0.5


class TestLoads:
    """Whether a load under way may be given to a caller that asks now."""

    def test_not_after_an_invalidation_of_its_names(self, ledger, clock) -> None:
        rule, began = make_rule(ledger, clock), clock()
        assert rule.holds_for_load((KEY,), began)
        ledger.stamp([KEY], clock.advance(0.1))
        assert not rule.holds_for_load((KEY,), began)
        assert rule.holds_for_load((KEY,), clock.advance(0.1))

    def test_not_when_it_is_older_than_the_bound_without_a_lease(self, ledger, clock) -> None:
        """Seen: 2.2 s old at a bound of 1 s."""
        rule, began = make_rule(ledger, clock), clock()
        clock.advance(2.2)
        assert not rule.holds_for_load((KEY,), began)


class TestASecondLook:
    """`still_holds`: the count has moved, and mostly because of another name."""

    @pytest.fixture
    def entry(self, ledger, clock) -> Entry[str]:
        """One that was looked at, before another name was invalidated."""
        entry = entry_of(clock())
        assert make_rule(ledger, clock).check(entry) == "valid"
        ledger.stamp([OTHER], clock.advance(0.1))
        return entry

    def test_an_entry_of_other_names_still_holds_and_remembers_it(self, ledger, clock, entry) -> None:
        assert make_rule(ledger, clock).still_holds(entry, ledger.words, ledger.words[CHANGES])
        assert entry.changes == ledger.words[CHANGES]

    @pytest.mark.parametrize("slot", [KEY, TAG])
    def test_an_invalidated_entry_does_not(self, ledger, clock, entry, slot) -> None:
        ledger.stamp([slot], clock())
        assert not make_rule(ledger, clock).still_holds(entry, ledger.words, ledger.words[CHANGES])
        assert entry.changes != ledger.words[CHANGES]

    def test_nor_does_anything_after_a_flush(self, ledger, clock, entry) -> None:
        ledger.flush(clock())
        assert not make_rule(ledger, clock).still_holds(entry, ledger.words, ledger.words[CHANGES])

    def test_a_stamp_as_old_as_the_load_voids_it(self, ledger, clock) -> None:
        entry, rule = entry_of(clock()), make_rule(ledger, clock)
        rule.check(entry)
        ledger.stamp([KEY], clock())
        assert not rule.still_holds(entry, ledger.words, ledger.words[CHANGES])

    def test_replica_lag_counts(self, ledger, clock) -> None:
        """The writer took its time before the load, and stored it after the first look."""
        stamped_at = clock()
        entry, rule = entry_of(clock.advance(0.1)), make_rule(ledger, clock, replica_lag_ns=S)
        rule.check(entry)
        ledger.stamp([KEY], stamped_at)
        assert not rule.still_holds(entry, ledger.words, ledger.words[CHANGES])

    def test_an_entry_that_nobody_looked_at_is_left_to_the_whole_rule(self, ledger, clock) -> None:
        """What this process has published itself is checked there."""
        assert not make_rule(ledger, clock).still_holds(entry_of(clock()), ledger.words, ledger.words[CHANGES])

    def test_so_is_every_entry_in_doubt(self, ledger, clock, entry) -> None:
        words = Doubt(lambda: None)
        assert not make_rule(ledger, clock).still_holds(entry, words, words[CHANGES])

    def test_it_remembers_the_count_from_before(self, ledger, clock, entry) -> None:
        before = ledger.words[CHANGES]
        ledger.stamp([OTHER], clock())
        assert make_rule(ledger, clock).still_holds(entry, ledger.words, before)
        assert entry.changes == before

    def test_what_is_stored_again_is_left_to_the_whole_rule(self, ledger, clock, entry) -> None:
        entry.look_again()
        assert not make_rule(ledger, clock).still_holds(entry, ledger.words, ledger.words[CHANGES])


class TestParts:
    """An entry made from others' values is no better than they are."""

    def made_from(self, part: Entry[str], clock: Clock) -> Entry[str]:
        return Entry("page", loaded_at=clock(), slots=(OTHER,), parts=parts_of([part]))

    def test_it_falls_with_its_part(self, ledger, clock) -> None:
        page = self.made_from(entry_of(clock()), clock)
        assert make_rule(ledger, clock).check(page) == "valid"
        ledger.stamp([TAG], clock.advance(0.1))
        assert make_rule(ledger, clock).check(page) == "invalidated"

    def test_a_part_counts_from_its_own_load(self, ledger, clock) -> None:
        """The writer took its time before the page was loaded, and stored it after the part was looked at."""
        part = entry_of(clock())
        stamped_late = clock.advance(0.1)
        clock.advance(0.1)
        rule = make_rule(ledger, clock)
        assert rule.check(part) == "valid"
        page = self.made_from(part, clock)
        assert rule.check(page) == "valid"
        ledger.stamp([KEY], stamped_late)
        assert not rule.still_holds(page, ledger.words, ledger.words[CHANGES])
        assert rule.check(page) == "invalidated"

    def test_a_part_of_a_part_counts(self, ledger, clock) -> None:
        inner = self.made_from(entry_of(clock()), clock)
        page = Entry("page", loaded_at=clock.advance(0.1), slots=(OTHER + 1,), parts=parts_of([inner]))
        ledger.stamp([KEY], clock.advance(0.1))
        assert make_rule(ledger, clock).check(page) == "invalidated"

    def test_its_own_names_count_from_its_own_load(self, ledger, clock) -> None:
        """Or a page that was invalidated could not be cached again before its oldest part is."""
        part = entry_of(clock())
        ledger.stamp([OTHER], clock.advance(0.1))
        clock.advance(0.1)
        assert make_rule(ledger, clock).check(self.made_from(part, clock)) == "valid"

    def test_a_flush_after_the_load_of_a_part_voids_it(self, ledger, clock) -> None:
        part = entry_of(clock())
        ledger.flush(clock.advance(0.1))
        clock.advance(0.1)
        assert make_rule(ledger, clock).check(self.made_from(part, clock)) == "invalidated"

    def test_without_a_lease_it_is_as_old_as_its_oldest_part(self, ledger, clock) -> None:
        part = entry_of(clock())
        clock.advance(1.5)
        page = self.made_from(part, clock)
        clock.advance(0.6)
        assert make_rule(ledger, clock).check(page) == "unleased"

    def test_what_this_process_has_invalidated_itself_voids_a_part(self, ledger, clock) -> None:
        own = Ledger.private(slots=64, namespace="shop")
        page = self.made_from(entry_of(clock()), clock)
        own.stamp([KEY], clock.advance(0.1))
        assert make_rule(ledger, clock, own=own).check(page) == "invalidated"

    def test_the_lag_of_a_replica_counts_for_a_part(self, ledger, clock) -> None:
        ledger.stamp([KEY], clock())
        part = entry_of(clock.advance(0.1))
        page = self.made_from(part, clock)
        assert make_rule(ledger, clock).check(page) == "valid"
        assert make_rule(ledger, clock, replica_lag_ns=S).check(page) == "invalidated"


class TestKept:
    """An entry that stands in for one whose value was kept."""

    @pytest.fixture
    def kept(self, clock) -> KeptEntry:
        entry = entry_of(clock(), expires_at=clock() + 5, tags=("t",), parts=((clock(), (OTHER,)),))
        return KeptEntry("k", entry, keep([1]))

    def test_its_value_is_another_each_time(self, kept) -> None:
        assert kept.value == [1]
        assert kept.value is not kept.value

    def test_it_is_served_as_long_as_the_other(self, kept, clock) -> None:
        other = entry_of(clock(), expires_at=clock() + 5, tags=("t",), parts=((clock(), (OTHER,)),))
        names = [name for name in Entry.__slots__ if name != "value"]
        assert {name: getattr(kept, name) for name in names} == {name: getattr(other, name) for name in names}

    def test_who_watches_sees_the_clone_and_its_key(self, kept, monkeypatch) -> None:
        met: list[tuple[str, object]] = []
        monkeypatch.setattr(entries, "clone_watchers", [lambda key, value: met.append((key, value))])
        value = kept.value
        assert met == [("k", value)]
        assert met[0][1] is value
