"""The fate of one invalidation, as its caller sees it."""

from invalidator.receipt import Receipt
from tests.support import Thread


def test_a_new_receipt_is_queued() -> None:
    receipt = Receipt()
    assert (receipt.accepted, receipt.queued, receipt.id, receipt.listeners) == (False, True, None, 0)
    assert "queued" in repr(receipt)


def test_an_accepted_one_has_the_number_of_listeners() -> None:
    receipt = Receipt()
    receipt.accept("5-0", 7)
    assert (receipt.accepted, receipt.queued, receipt.id, receipt.listeners) == (True, False, "5-0", 7)
    assert "accepted" in repr(receipt)


def test_a_lost_one_has_a_reason() -> None:
    """And is no longer queued: nobody waits for ever."""
    receipt = Receipt()
    receipt.lose("closed")
    assert (receipt.accepted, receipt.queued, receipt.lost_because) == (False, False, "closed")
    assert "closed" in repr(receipt)


def test_waiting_ends_when_it_is_accepted() -> None:
    receipt = Receipt()
    waiting = Thread(receipt.wait)
    receipt.accept("5-0", 7)
    assert waiting.outcome() is True


def test_waiting_ends_when_it_is_lost() -> None:
    receipt = Receipt()
    waiting = Thread(receipt.wait)
    receipt.lose("closed")
    assert waiting.outcome() is False


def test_waiting_ends_in_time() -> None:
    assert Receipt().wait(0) is False
