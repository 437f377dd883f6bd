"""The journal, page by page; tests/unit/invalidator/test_bus.py reads a real one."""

import pytest

from invalidator import journal_reader
from invalidator.errors import JournalUnread, LinkDown
from invalidator.journal_reader import read_journal


class Server:
    """Keeps messages with the ids "1-0" and so on."""

    def __init__(self, messages: int) -> None:
        self.ids = [f"{number}-0" for number in range(1, messages + 1)]
        self.asked: list[tuple[str, int]] = []

    def read_page(self, before: str, count: int) -> list[tuple[str, bytes]]:
        self.asked.append((before, count))
        ids = self.ids[: self.ids.index(before)] if before else self.ids
        return [(id, b'{"v":1,"keys":["k"]}') for id in ids[::-1][:count]]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch) -> None:
    monkeypatch.setattr(journal_reader, "PAGE", 2)


@pytest.mark.parametrize(
    ("most", "asked"),
    [(0, []), (1, [("", 1)]), (3, [("", 2), ("4-0", 1)]), (99, [("", 2), ("4-0", 2), ("2-0", 2)])],
)
def test_it_is_read_in_pages_and_no_further_than_asked(most, asked) -> None:
    server = Server(5)
    found = [message.id for message in read_journal(server.read_page, most)]
    assert found == server.ids[::-1][:most]
    assert server.asked == asked


def test_a_page_is_read_when_it_is_asked_for() -> None:
    server = Server(5)
    messages = read_journal(server.read_page, 99)
    assert server.asked == []
    next(messages)
    assert len(server.asked) == 1


def test_what_this_version_cannot_read_is_there() -> None:
    [message] = read_journal(lambda before, count: [("1500-0", b'{"v":9}')], 1)
    assert (message.operation, message.at, message.keys) == ("unknown", 1.5, ())


def test_a_server_that_is_away_is_an_error() -> None:
    def away(before: str, count: int) -> list[tuple[str, bytes]]:
        raise LinkDown("gone")

    with pytest.raises(JournalUnread, match="gone"):
        next(read_journal(away, 1))
