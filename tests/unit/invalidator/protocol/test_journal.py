"""How far a journal was applied, in a ledger."""

from invalidator.ledger import Ledger
from invalidator.protocol.journal import Journal, read_journal, write_journal


def test_a_ledger_keeps_it_for_the_next_writer() -> None:
    ledger = Ledger.private(slots=64, namespace="shop")
    journal = Journal("1700000000000-3", server=5, epoch=-7)
    write_journal(ledger, journal)
    assert read_journal(ledger) == journal


def test_a_new_ledger_has_none() -> None:
    assert read_journal(Ledger.private(slots=64, namespace="shop")) is None
