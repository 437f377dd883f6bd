"""How far which journal has been applied, and how a ledger records it."""

from __future__ import annotations

from dataclasses import dataclass

from ..ledger import EPOCH, POSITION_MS, POSITION_SEQ, SERVER_RUN, Ledger


@dataclass(frozen=True, slots=True)
class Journal:
    """
    How far which journal has been applied.

    Args:
        position: the id of the last message that was applied.
        server: a fingerprint of the run of the server it was read from; 0 if the server does not reveal it.
        epoch: a fingerprint of the token that was drawn when the journal began.
    """

    position: str
    server: int
    epoch: int


def write_journal(ledger: Ledger, journal: Journal) -> None:
    """Record *journal* in *ledger*, for whoever writes the ledger next."""
    ms, _, seq = journal.position.partition("-")
    ledger.move((int(ms), int(seq)), journal.server, journal.epoch)


def read_journal(ledger: Ledger) -> Journal | None:
    """Return what the last writer of *ledger* recorded; None if nothing was."""
    words = ledger.words
    if not words[POSITION_MS]:
        return None
    return Journal(f"{words[POSITION_MS]}-{words[POSITION_SEQ]}", words[SERVER_RUN], words[EPOCH])
