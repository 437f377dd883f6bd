"""The table of stamps: what is written in which order, and that nothing goes back."""

import sys
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invalidator.ledger import (
    CHANGES,
    FLUSHED_AT,
    HEADER_WORDS,
    LAYOUT_WORD,
    MAGIC,
    MAGIC_WORD,
    NEVER,
    POSITION_MS,
    POSITION_SEQ,
    PROVEN_AT,
    SLOTS_WORD,
    Ledger,
    LedgerView,
    now_ns,
)
from tests.support import RecordingWords


@pytest.fixture
def ledger() -> Ledger:
    return Ledger.private(slots=64, namespace="shop")


@pytest.fixture
def recorded(ledger: Ledger) -> RecordingWords:
    """The words of the ledger, which notes what was read and written from now on."""
    ledger.words = words = RecordingWords(ledger.words)
    return words


class TestAnEmptyLedger:
    def test_says_what_it_is(self, ledger) -> None:
        """A reader of shared memory refuses what is not a ledger of its own kind."""
        assert ledger.words[MAGIC_WORD] == MAGIC == int.from_bytes(b"INVALEDG", "big")
        assert ledger.words[LAYOUT_WORD] == 2
        assert ledger.words[SLOTS_WORD] == ledger.slots == 64
        assert len(ledger.words) == HEADER_WORDS + 64

    def test_proves_nothing_and_voids_nothing(self, ledger) -> None:
        """There is no lease before the first proof."""
        assert ledger.read_lease() == (NEVER, 0)
        assert ledger.newest_stamp(range(64)) == NEVER

    def test_does_not_listen(self, ledger) -> None:
        """A process that has loaded a value already may begin to listen later: no word voids that."""
        assert (ledger.listening_since(), ledger.is_proven()) == (NEVER, False)
        ledger.prove(1)
        assert ledger.is_proven()

    def test_a_view_reads_what_the_writer_wrote(self, ledger) -> None:
        view = LedgerView(ledger.words)
        ledger.stamp([3], 500)
        assert view.slots == 64
        assert view.newest_stamp([2, 3]) == 500


class TestListening:
    def test_proofs_cover_what_is_loaded_after_it(self, ledger) -> None:
        """In the same tick of the clock the load may have come first."""
        ledger.listen(500)
        assert [ledger.covers(time) for time in (499, 500, 501)] == [False, False, True]

    def test_it_never_goes_down(self, ledger) -> None:
        """A forked child, or a new sidecar, may begin to listen once more, and its parent's time be later."""
        ledger.listen(500)
        ledger.listen(400)
        assert ledger.listening_since() == 500

    def test_it_voids_nothing(self, ledger) -> None:
        """What is loaded before is served for a while: nobody has to look again."""
        ledger.listen(500)
        assert ledger.newest_stamp(range(64)) == NEVER
        assert ledger.read_lease() == (NEVER, 0)


class TestStamps:
    def test_each_name_has_its_own(self, ledger) -> None:
        ledger.stamp([1, 2], 500)
        assert [ledger.newest_stamp([slot]) for slot in (0, 1, 2)] == [NEVER, 500, 500]

    def test_the_newest_of_all_names_counts(self, ledger) -> None:
        """A key and its tags: any of them makes the entry stale."""
        ledger.stamp([1], 500)
        ledger.stamp([2], 700)
        assert ledger.newest_stamp([1, 2]) == ledger.newest_stamp([2, 1]) == 700

    def test_a_stamp_never_goes_down(self, ledger) -> None:
        """Two threads take their times before they take the lock."""
        ledger.stamp([1], 700)
        ledger.stamp([1], 500)
        assert ledger.newest_stamp([1]) == 700

    def test_a_flush_counts_for_every_name_and_never_goes_down(self, ledger) -> None:
        ledger.flush(700)
        ledger.flush(500)
        ledger.stamp([1], 600)
        assert ledger.newest_stamp([]) == ledger.newest_stamp([1]) == 700

    def test_a_proof_never_goes_down(self, ledger) -> None:
        """A lease that was given is not taken back, and one that was earned late does not shorten it."""
        ledger.prove(700)
        ledger.prove(500)
        assert ledger.read_lease()[0] == 700

    @pytest.mark.parametrize("change", [lambda it: it.stamp([1], 5), lambda it: it.flush(5), lambda it: it.touch()])
    def test_every_change_moves_the_counter(self, ledger, change) -> None:
        """Entries remember its value: what does not move it stays unseen by every hit."""
        before = ledger.words[CHANGES]
        change(ledger)
        assert ledger.words[CHANGES] > before

    def test_even_a_stamp_that_changes_nothing_moves_the_counter(self, ledger) -> None:
        """The counter is compared by value; one look too many is cheap."""
        ledger.stamp([1], 700)
        before = ledger.words[CHANGES]
        ledger.stamp([1], 500)
        assert ledger.words[CHANGES] > before

    def test_a_proof_and_a_position_leave_the_counter_alone(self, ledger) -> None:
        """Otherwise every entry would be looked at again several times a second."""
        ledger.prove(700)
        ledger.move((12, 3), 1, 2)
        assert ledger.words[CHANGES] == 0
        assert (ledger.words[POSITION_MS], ledger.words[POSITION_SEQ]) == (12, 3)

    @given(
        st.lists(
            st.tuples(st.sampled_from(["stamp", "flush", "prove"]), st.integers(0, 7), st.integers(0, 1000)),
            max_size=40,
        )
    )
    def test_nothing_ever_goes_down(self, steps) -> None:
        """Whatever is written in whatever order: stamps, the flush, the proof and the counter only grow."""
        ledger = Ledger.private(slots=64, namespace="shop")
        seen = [[0] * 10]
        newest = [0] * 8
        flushed = 0
        for step, slot, now in steps:
            if step == "stamp":
                ledger.stamp([slot], now)
                newest[slot] = max(newest[slot], now)
            elif step == "flush":
                ledger.flush(now)
                flushed = max(flushed, now)
            else:
                ledger.prove(now)
            stamps = [ledger.newest_stamp([slot]) for slot in range(8)]
            assert stamps == [max(stamp, flushed) for stamp in newest]
            seen.append([*stamps, *ledger.read_lease()])
        assert all(old <= new for before, after in pairwise(seen) for old, new in zip(before, after, strict=True))


class TestHolds:
    """An invalidation stamped in the future, with an owner."""

    def test_a_hold_reaches_into_the_future(self, ledger) -> None:
        """A load that begins while it lasts is born invalid."""
        ledger.hold([1], "me", until=900, now=500)
        assert ledger.newest_stamp([1]) == 900

    def test_its_release_is_an_invalidation(self, ledger) -> None:
        """What was loaded before the commit is void; what is loaded after it may be kept at once."""
        ledger.hold([1], "me", until=900, now=500)
        ledger.release([1], "me", now=600)
        assert ledger.newest_stamp([1]) == 600

    def test_a_release_does_not_uncover_what_was_stamped_meanwhile(self, ledger) -> None:
        """Who releases took his time before he had the lock; a held slot does not show the stamps that came since."""
        ledger.hold([1], "me", until=900, now=500)
        ledger.stamp([1], 620)
        ledger.release([1], "me", now=600)
        assert ledger.newest_stamp([1]) >= 620

    def test_nobody_frees_another_ones_hold(self, ledger) -> None:
        ledger.hold([1], "me", until=800, now=500)
        ledger.hold([1], "you", until=900, now=500)
        ledger.release([1], "you", now=600)
        assert ledger.newest_stamp([1]) == 800
        ledger.release([1], "nobody", now=610)
        assert ledger.newest_stamp([1]) == 800
        ledger.release([1], "me", now=620)
        assert ledger.newest_stamp([1]) == 620

    def test_a_release_without_its_hold_is_an_invalidation_all_the_same(self, ledger) -> None:
        """Whoever missed the announcement still hears the change."""
        ledger.release([1], "me", now=600)
        assert ledger.newest_stamp([1]) == 600

    def test_a_stamp_that_came_after_the_release_stays(self, ledger) -> None:
        """Only what the hold itself explains is taken back."""
        ledger.hold([1], "me", until=900, now=500)
        ledger.stamp([1], 950)
        ledger.release([1], "me", now=600)
        assert ledger.newest_stamp([1]) == 950

    def test_a_release_after_the_end_does_not_go_back(self, ledger) -> None:
        ledger.hold([1], "me", until=600, now=500)
        ledger.stamp([1], 700)
        ledger.release([1], "me", now=650)
        assert ledger.newest_stamp([1]) >= 700

    def test_a_shorter_second_announcement_does_not_shorten_a_hold(self, ledger) -> None:
        """A replay applies old announcements again, in any order with live ones."""
        ledger.hold([1], "me", until=900, now=500)
        ledger.hold([1], "me", until=700, now=500)
        assert ledger.newest_stamp([1]) == 900

    def test_an_invalidation_does_not_end_a_hold(self, ledger) -> None:
        ledger.hold([1], "me", until=900, now=500)
        ledger.stamp([1], 600)
        assert ledger.newest_stamp([1]) == 900

    def test_a_hold_and_a_release_move_the_counter_after_the_slots(self, ledger, recorded) -> None:
        ledger.hold([1, 2], "me", until=900, now=500)
        ledger.release([1, 2], "me", now=600)
        slots = [HEADER_WORDS + 1, HEADER_WORDS + 2, CHANGES]
        assert recorded.written == slots * 2

    def test_too_many_holds_hold_everything(self, ledger, monkeypatch) -> None:
        """The table of owners is bounded, and what does not fit is not forgotten."""
        monkeypatch.setattr("invalidator.ledger.table.MOST_HELD", 2)
        ledger.hold([1, 2], "me", until=900, now=500)
        ledger.hold([3], "you", until=950, now=500)
        assert ledger.newest_stamp([]) == 950

    def test_ended_holds_make_room(self, ledger, monkeypatch) -> None:
        monkeypatch.setattr("invalidator.ledger.table.MOST_HELD", 2)
        ledger.hold([1, 2], "dead", until=600, now=500)
        ledger.hold([3], "me", until=950, now=700)
        assert (ledger.newest_stamp([]), ledger.newest_stamp([3])) == (NEVER, 950)


class TestOrder:
    def test_a_stamp_is_stored_before_the_counter_moves(self, ledger, recorded) -> None:
        """A reader that sees the new counter must find the new stamp; the other way round it remembers it unseen."""
        ledger.stamp([1, 2], 500)
        assert recorded.written == [HEADER_WORDS + 1, HEADER_WORDS + 2, CHANGES]

    def test_a_flush_is_stored_before_the_counter_moves(self, ledger, recorded) -> None:
        ledger.flush(500)
        assert recorded.written == [FLUSHED_AT, CHANGES]

    def test_the_lease_is_read_before_the_counter(self, ledger, recorded) -> None:
        """
        Stamps before the lease is wrong: a writer that wakes between the two reads renews a lease over stamps not
        yet looked at.
        """
        ledger.read_lease()
        assert recorded.read == [PROVEN_AT, CHANGES]

    @pytest.mark.parametrize(
        "write",
        [
            lambda it: it.stamp([1], 5),
            lambda it: it.flush(5),
            lambda it: it.touch(),
            lambda it: it.prove(5),
            lambda it: it.move((1, 2), 3, 4),
            lambda it: it.hold([1], "me", 9, 5),
            lambda it: it.release([1], "me", 5),
        ],
    )
    def test_every_write_holds_the_lock(self, ledger, recorded, write) -> None:
        """The listener and every invalidating thread write: read, compare and store must be one step."""
        unlocked = []
        ledger.lock = threading.Lock()  # of which one can see whether it is held
        recorded.on_write = lambda index: None if ledger.lock.locked() else unlocked.append(index)
        write(ledger)
        assert recorded.written
        assert not unlocked
        assert not ledger.lock.locked()


class TestTheClock:
    def test_it_is_steady_and_counts_suspended_time(self) -> None:
        """Not time.monotonic(), which stands still while a laptop sleeps, and never the wall clock."""
        steady = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC
        before = time.clock_gettime_ns(steady)
        now = now_ns()
        assert before <= now <= time.clock_gettime_ns(steady)
