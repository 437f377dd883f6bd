"""Strict writes: nobody caches what is about to be committed."""

from collections.abc import Iterator

import pytest

from invalidator.bus import Invalidator
from invalidator.errors import ClosedError, HoldEnded, InvalidName, InvalidSetting, PublishError
from invalidator.ledger import LedgerView
from invalidator.message import decode
from invalidator.names import key_slot, tag_slot
from invalidator.publishing.hold import MARGIN
from tests.support import Clock, S, SilentLink


@pytest.fixture
def link() -> SilentLink:
    return SilentLink()


@pytest.fixture
def bus(clock: Clock, link: SilentLink) -> Iterator[Invalidator]:
    with Invalidator("memory://", namespace="shop", clock=clock, link=link, close_timeout=0) as bus:
        yield bus


def stamp_of(ledger: LedgerView, key: str) -> int:
    return ledger.newest_stamp([key_slot(key, ledger.slots)])


def test_it_is_announced_and_in_force_here_until_its_end(bus, link, clock) -> None:
    hold = bus.hold("a", tags=["t"], duration=30)
    assert stamp_of(bus.ledger, "a") == clock() + 30 * S
    assert bus.ledger.newest_stamp([tag_slot("t", bus.ledger.slots)]) == clock() + 30 * S
    [[body]] = link.published
    assert (decode(body).op, decode(body).owner, decode(body).for_ms) == ("hold", hold.owner, 30_000)


def test_releasing_it_invalidates(bus, link, clock) -> None:
    hold = bus.hold("a")
    clock.advance(1)
    assert hold.release().accepted
    assert stamp_of(bus.ledger, "a") == clock()
    assert decode(link.published[-1][0]).op == "release"


def test_releasing_it_again_has_no_effect(bus, link, clock) -> None:
    hold = bus.hold("a")
    receipt = hold.release()
    clock.advance(1)
    assert hold.release() is receipt
    assert len(link.published) == 2
    assert stamp_of(bus.ledger, "a") < clock()


def test_a_redis_that_cannot_be_reached_refuses_the_write(bus, link, clock) -> None:
    """And nothing is held here: the names may be cached again at once."""
    link.down = True
    with pytest.raises(PublishError, match="must not be committed"):
        bus.hold("a")
    assert stamp_of(bus.ledger, "a") <= clock()


def test_a_release_that_was_not_taken_can_be_tried_again(clock, link) -> None:
    with Invalidator("memory://", namespace="shop", clock=clock, link=link, publish="raise") as bus:
        hold = bus.hold("a")
        link.down = True
        with pytest.raises(PublishError):
            hold.release()
        link.down = False
        assert hold.release().accepted


def test_more_names_are_held_until_the_same_moment_or_longer(bus, link, clock) -> None:
    hold = bus.hold("a", duration=30)
    clock.advance(5)
    hold.extend("b")
    assert stamp_of(bus.ledger, "b") >= stamp_of(bus.ledger, "a")
    hold.release()
    assert set(decode(link.published[-1][0]).keys) == {"a", "b"}


def test_it_must_be_committed_well_before_its_end(bus, clock) -> None:
    """A commit takes time as well."""
    hold = bus.hold("a", duration=10)
    clock.advance(10 * (1 - MARGIN))
    hold.check()
    clock.advance(0.001)
    with pytest.raises(HoldEnded, match="roll back and try again"):
        hold.check()
    with pytest.raises(HoldEnded):
        hold.extend("b")


def test_a_released_one_is_no_use(bus) -> None:
    hold = bus.hold("a")
    hold.release()
    with pytest.raises(HoldEnded, match="released"):
        hold.check()


@pytest.mark.parametrize("bad", [0, 0.05, 3601, "30", None, float("nan")])
def test_a_bad_duration_is_refused(bus, link, bad) -> None:
    with pytest.raises(InvalidSetting, match="duration must be"):
        bus.hold("a", duration=bad)
    assert link.published == []


def test_bad_names_are_refused(bus, link) -> None:
    for names in ({"keys": ()}, {"keys": ("",)}, {"keys": ("a",), "tags": "t"}):
        with pytest.raises(InvalidName):
            bus.hold(*names["keys"], tags=names.get("tags", ()))
    assert link.published == []


def test_a_closed_bus_holds_nothing(bus) -> None:
    bus.close()
    with pytest.raises(ClosedError):
        bus.hold("a")
