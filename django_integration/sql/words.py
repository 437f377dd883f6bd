"""
A text of SQL as statements, and these as words and signs; sqlparse finds them.

Databases differ in what is a string and what a comment. `is_doubtful` says of a text whether one of them may read it
differently from what is found here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from sqlparse import lexer
from sqlparse import tokens as kinds

LONGEST_PARSED = 20_000
"""Characters of a text that is parsed; sqlparse reads some 200 of them in a millisecond."""

_DOUBT = re.compile(
    r"""\\['"]"""  # ends a string, or is a quote inside it
    r"|/\*M?!"  # a comment that MySQL executes
    r"|/\*(?:(?!\*/).)*/\*"  # begins a nested comment, or is text in the first
    r"|\#"  # begins a comment, or is an operator
    r"|--\S",  # begins a comment, or is two minus signs
    re.DOTALL,
)


class Word:
    """A word or sign of a statement."""

    __slots__ = ("is_identifier", "is_name", "text", "upper")

    def __init__(self, kind: Any, text: str) -> None:
        self.text = text
        self.is_identifier = (kind in kinds.Name and kind not in kinds.Name.Placeholder) or kind in kinds.String.Symbol
        """Whether it names something and is no keyword."""
        # Some keywords are names, and SQLite takes a name in single quotes, too.
        self.is_name = self.is_identifier or kind in kinds.Keyword or kind in kinds.Literal.String
        self.upper = "" if kind in kinds.Literal.String else text.upper()
        """In capitals; of strings and of names in quotes nothing, since they are no keywords."""

    def __repr__(self) -> str:
        return self.text


def statements(text: str) -> Iterator[list[Word]]:
    """Yield the words of each statement in *text*, without comments. Costs some 5 µs for each character."""
    words: list[Word] = []
    for kind, value in lexer.tokenize(text):  # type: ignore[no-untyped-call]
        if kind in kinds.Whitespace or kind in kinds.Comment:
            continue
        if kind in kinds.Punctuation and value == ";":
            if words:
                yield words
            words = []
            continue
        # sqlparse returns some keywords of several words as one: "ORDER BY", "ON CONFLICT".
        parts = value.split() if kind in kinds.Keyword else [value]
        words += [Word(kind, part) for part in parts]
    if words:
        yield words


def is_doubtful(text: str) -> bool:
    """Whether a database may take something in *text* for a string or comment that another does not."""
    return _DOUBT.search(text) is not None


def plain_name(name: str) -> str:
    """Return *name*, of a table, as it is looked up: without schema and quotes, in lower case."""
    return name.rpartition(".")[2].strip("\"'`[]").casefold()


def text_of(sql: Any, cursor: Any = None) -> str:
    """Return the text of *sql*: of bytes, too, and of an object that a driver composes of parts for its *cursor*."""
    if isinstance(sql, str):
        return sql
    if isinstance(sql, bytes | bytearray):
        return bytes(sql).decode(errors="replace")
    if hasattr(sql, "as_string"):  # of psycopg
        with contextlib.suppress(Exception):
            return str(sql.as_string(cursor))
    # The `repr` has the names of tables in it. The quotes appended make the text a doubtful one.
    return f"{sql!r}\\'"
