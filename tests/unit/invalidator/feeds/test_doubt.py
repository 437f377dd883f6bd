"""What a hit compares with while the host's ledger may be behind."""

import pytest

from invalidator.feeds.doubt import Doubt
from invalidator.ledger import CHANGES, FLUSHED_AT, FOREVER, HEADER_WORDS


def test_no_entry_remembers_its_count() -> None:
    """A count of a real ledger is never negative, and an entry that was never checked has -1."""
    assert Doubt(lambda: None)[CHANGES] < -1


@pytest.mark.parametrize("index", [FLUSHED_AT, HEADER_WORDS, HEADER_WORDS + 7])
def test_its_stamps_are_later_than_every_load(index: int) -> None:
    assert Doubt(lambda: None)[index] == FOREVER


def test_every_read_checks_whether_it_may_end() -> None:
    looks: list[bool] = []
    doubt = Doubt(lambda: looks.append(True))
    doubt[CHANGES]
    doubt[HEADER_WORDS]
    assert len(looks) == 2


def test_nobody_writes_to_it() -> None:
    with pytest.raises(TypeError, match="nobody writes"):
        Doubt(lambda: None)[CHANGES] = 1
