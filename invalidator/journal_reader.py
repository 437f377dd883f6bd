"""The journal for people: the last messages of a namespace, newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import message
from .errors import InvalidMessage, JournalUnread, LinkDown
from .status import Journaled

PAGE = 200
"""Messages. At most 4 MiB, as for a replay."""

ReadPage = Callable[[str, int], list[tuple[str, bytes]]]
"""Returns ids and bodies: a number of them before an id, or from the last one on if that is "". Raises LinkDown."""


def read_journal(read_page: ReadPage, most: int) -> Iterator[Journaled]:
    """
    Yield at most *most* messages; each page is read when it is asked for.

    Raises:
        JournalUnread: the server did not answer.
    """
    before = ""
    while most > 0:
        wanted = min(most, PAGE)
        try:
            page = read_page(before, wanted)
        except LinkDown as error:
            raise JournalUnread(f"the journal cannot be read: {error}") from error
        yield from (_journaled(id, body) for id, body in page)
        if len(page) < wanted:
            return
        most -= wanted
        before = page[-1][0]


def _journaled(id: str, data: bytes) -> Journaled:
    at = int(id.partition("-")[0]) / 1000
    try:
        body = message.decode(data)
    except InvalidMessage:
        return Journaled(id, at, "unknown", "", (), ())
    return Journaled(id, at, body.op, body.node, body.keys, body.tags)
