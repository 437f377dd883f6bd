"""
Which tables a text of SQL reads.

A table is a name in the place of one: after FROM or JOIN, after a comma behind these, after USING or TABLE. The parts
of a WITH are tables only where their names are not in scope.

Rule 1: one-sided. Any other name in the text may be that of a table as well (`Reading.mentioned`), and if databases
read the text differently, or it is too long, every table that it mentions counts (`Reading.in_doubt`). A name too many
costs a miss, a missing one a stale value.
Rule 2: what reads tables that the text does not name is told by name: procedures, functions of somebody's own, SQL that
is put together while it runs (`Reading.unknown`).
Rule 3: a table that a statement writes to is not read by that, unless it hands its rows on, as a part of a WITH.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from .words import LONGEST_PARSED, Word, is_doubtful, plain_name, statements

_MAY_READ = re.compile(r"\b(?:SELECT|FROM|JOIN|TABLE|USING|COPY|CALL|EXEC|EXECUTE|DO)\b", re.IGNORECASE)
_READS_NOTHING = frozenset(
    {
        *("ALTER", "BEGIN", "CLOSE", "COMMIT", "DEALLOCATE", "DESC", "DESCRIBE", "DISCARD", "DROP", "END", "FETCH"),
        *("FLUSH", "GRANT", "KILL", "LISTEN", "LOCK", "MOVE", "NOTIFY", "PRAGMA", "RELEASE", "RESET", "REVOKE"),
        *("ROLLBACK", "SAVEPOINT", "SHOW", "START", "TRUNCATE", "UNLISTEN", "UNLOCK", "USE", "VACUUM"),
    }
)
"""First words of statements that hand out no rows of tables. What FETCH hands out, DECLARE has named."""
_RUNS_SOMETHING = frozenset({"CALL", "EXEC", "EXECUTE", "DO"})
"""First words of statements that run what is not in the text, or is in it as a string."""
_CLAUSES = frozenset(
    {
        *("WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "FETCH", "WINDOW", "QUALIFY", "UNION", "EXCEPT"),
        *("INTERSECT", "MINUS", "VALUES", "SET", "RETURNING", "CONNECT", "PROCEDURE", "SELECT", "WHEN"),
    }
)
"""Words that end a FROM, and begin a part in which a comma is followed by no table."""
_BEFORE_A_TABLE = frozenset({"LATERAL", "ONLY", "ROWS", "IGNORE", "INTO", "LOW_PRIORITY", "QUICK", "DELAYED", "OR"})
"""Words that may stand between FROM, JOIN, UPDATE or INSERT and the name."""
_BEFORE_TABLE = frozenset({"", "(", "ALL", "AS", "DISTINCT", "EXCEPT", "INTERSECT", "UNION"})
"""What stands before TABLE where that means SELECT * FROM."""
_BEFORE_INTO = frozenset({"IGNORE", "INSERT", "MERGE", "REPLACE"})
"""What stands before INTO where a statement writes. What hands on its rows is a part of a WITH."""
_NOT_A_VERB_AFTER = frozenset({"DO", "FOR", "KEY", "ON", "THEN"})
"""Words after which UPDATE begins no statement."""
_AFTER_FOR = frozenset({"KEY", "NO", "READ", "SHARE", "UPDATE"})
"""Words by which FOR locks rows, and ends FROM."""
_WRITES = frozenset({"CREATE", "DELETE", "INSERT", "MERGE", "REPLACE", "UPDATE"})
"""First words of statements in which a name outside of a FROM is that of a table that is written to, or made."""
_VERBS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "VALUES", "TABLE"})
_BUILT_IN = re.compile(
    r"""(?xi)
    abs|age|all|any|array\w*|ascii|avg|binary|bit\w*|bool_\w+|cardinality|cast|ceil(ing)?|changes|char\w*|chr|coalesce
    |connection_id|concat\w*|convert|count|cube|cume_dist|curdate|current_\w+|currval|curtime|database|date\w*|day\w*
    |dec(imal)?|decode|dense_rank|div|encode|every|exists|exp|extract|field|filter|find_in_set|first_value|float|floor
    |format|found_rows
    |from_unixtime|gen_random_uuid|generate_\w+|get_lock|greatest|group_concat|grouping|hex|hour|if|ifnull|iif|in|inet\w*
    |initcap|instr|int\w*|is_free_lock|isnull|jsonb?\w*|julianday|justify_\w+|lag|last_\w+|lastval|lead|least|left
    |length|ln|localtime\w*|locate|log\w*|lower|lpad|ltrim|make_\w+|max|md5|min|minute|mod|month\w*|nextval|not|now
    |nth_value|ntile|nullif|num_\w+|numeric|nvl|octet_length|over|overlaps|overlay|partition|percent\w*|pg_\w+|position
    |postgis_\w+|pow(er)?|pragma_\w+|printf|quarter|quote\w*|rand(om)?|range_\w+|rank|regexp_\w+|real|release_lock|repeat
    |replace|reverse|right|rollup|round|row(_\w+)?|rpad|rtrim|schema|second|seq_\w+|session_user|set_config|setval|sha\w*
    |sign|similarity|sleep|soundex|split_part|sqlite_\w+|sqrt|st_\w+|stddev\w*|str_to_date|strftime|string_\w+|strpos
    |substr(ing)?\w*|sum|sysdate|time\w*|to_\w+|total|total_changes|translate|trim|trunc(ate)?|ts_\w+|txid_\w+
    |typeof|unaccent|unhex|unicode|unistr|unix\w*|unnest|upper|user|using|utc_\w+|uuid\w*|values|var\w*|version
    |week\w*|width_bucket|within|xml\w*|year\w*|zeroblob
    """
)
"""Functions of databases themselves, which read no table. Of any other one that is not known."""
_NO_TABLES = re.compile(r"dual|seq_\d+_to_\d+(_step_\d+)?|stdin|stdout")
"""What stands in the place of a table and holds no rows of the application's."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text reads. All names are plain ones: see `plain_name`."""

    tables: tuple[str, ...] = ()
    """Names in the place of a table."""
    mentioned: tuple[str, ...] = ()
    """Other names in its queries, most of which are those of columns."""
    in_doubt: bool = False
    """Whether every table whose name is anywhere in the text counts as read."""
    unknown: tuple[str, ...] = ()
    """What reads tables that the text does not name, in words such as "the procedure 'p'"."""


def read(text: str) -> Reading:
    """Return what *text* reads. The first time costs some 5 µs for each character; results are remembered."""
    if not _MAY_READ.search(text):
        return Reading()
    if len(text) > LONGEST_PARSED:
        return Reading(in_doubt=True)
    return _read(text)


@functools.lru_cache(maxsize=1000)
def _read(text: str) -> Reading:
    found = _Found()
    in_doubt = is_doubtful(text)
    for words in statements(text):
        first = next((word.upper for word in words if word.text != "("), "")
        if first in _RUNS_SOMETHING:
            found.unknown[_named(words)] = None
            in_doubt = True
        elif first == "COPY":
            _read_copy(words, found)
        elif first not in _READS_NOTHING:
            _Statement(words, found, is_query=first not in _WRITES).read()
    found.end()
    return Reading(
        tuple(found.tables),
        tuple(name for name in found.mentioned if name not in found.tables and name not in found.parts),
        in_doubt,
        tuple(found.unknown),
    )


def _named(words: list[Word]) -> str:
    """What a statement runs, in words."""
    if words[0].upper == "DO":
        return "a block of SQL"
    name = _dotted([word for word in words[1:] if word.upper != "IMMEDIATE"])
    return f"the procedure {plain_name(name)!r}" if name and "'" not in name else "SQL in a string"


def _dotted(words: list[Word]) -> str:
    """The last part of the name that *words* begin with, such as "schema.table"; "" if they begin with none."""
    name = words[0].text if words and words[0].is_name else ""
    for dot, part in zip(words[1::2], words[2::2], strict=False):
        if dot.text != ".":
            break
        name = part.text
    return name


def _read_copy(words: list[Word], found: _Found) -> None:
    """COPY table TO … and COPY (SELECT …) TO …; COPY table FROM … writes."""
    if not any(word.upper == "TO" for word in words):
        return
    if words[1].text == "(":
        _Statement(words[1:], found, is_query=True).read()
        return
    found.tables[plain_name(_dotted(words[1:]))] = None


class _Found:
    """What the statements of a text read."""

    def __init__(self) -> None:
        self.tables: dict[str, None] = {}
        self.mentioned: dict[str, None] = {}
        self.parts: set[str] = set()
        """The parts of a WITH."""
        self.unknown: dict[str, None] = {}
        self.functions: dict[str, None] = {}
        """Called by statements, but for those of databases themselves."""

    def end(self) -> None:
        """A statement that reads no table may read some in a function of somebody's own: SELECT total_of(42)."""
        if not self.tables:
            self.unknown.update((f"the function {name!r}", None) for name in self.functions)


class _Statement:
    """
    One statement, read from left to right, a parenthesis at a time.

    Args:
        is_query: whether all names in it may be those of tables that are read; of a write one is written to.
    """

    def __init__(self, words: list[Word], found: _Found, *, is_query: bool) -> None:
        self._words = words
        self._found = found
        self._is_query = is_query
        self._at = 0

    def read(self) -> None:
        """Add what it reads to what was found."""
        self._read_level(frozenset(), is_from=False, depth=0)

    def _word(self, offset: int) -> str:
        """The word so far from the next one, in capitals; a sign as it is."""
        at = self._at + offset
        if not 0 <= at < len(self._words):
            return ""
        return self._words[at].upper or "'"

    def _read_level(self, parts: frozenset[str], *, is_from: bool, depth: int) -> None:
        """
        Read up to the closing parenthesis.

        Args:
            parts: those of a WITH that are in scope.
            is_from: the parenthesis stands in the place of a table: it holds a query, or joined tables.
        """
        expects = in_from = is_from  # a table, here; and behind a comma
        has_clauses = is_from or not depth  # and so FROM begins one; in EXTRACT(year FROM x) it does not
        while self._at < len(self._words):
            word = self._words[self._at]
            before = self._word(-1)
            self._at += 1
            after = self._word(0)
            has_clauses = has_clauses or word.upper in _VERBS
            if word.text == ")":
                return
            if word.text == "(":
                self._read_level(parts, is_from=expects, depth=depth + 1)
                expects = False
            elif word.text == ",":
                expects = in_from
            elif expects and word.upper in _BEFORE_A_TABLE and after != ".":
                continue
            elif word.upper == "WITH" and (inner := self._read_parts(parts, depth)) is not None:
                parts = inner
            elif word.upper == "FROM" and before != ".":
                if has_clauses and not (before == "DISTINCT" and self._word(-3) in ("IS", "NOT")):
                    expects = in_from = before != "DELETE" or depth > 0  # rule 3
            elif self._begins_tables(word, before, after, in_from=in_from, depth=depth):
                expects, in_from = True, word.upper in ("JOIN", "STRAIGHT_JOIN", "USING")
            elif word.upper in _CLAUSES or (word.upper == "FOR" and after in _AFTER_FOR):
                expects = in_from = False
            elif word.is_name:
                is_table, expects = expects, False
                self._read_name(word, parts, is_table=is_table, in_from=in_from)
            else:
                expects = False  # a parameter, a variable

    @staticmethod
    def _begins_tables(word: Word, before: str, after: str, *, in_from: bool, depth: int) -> bool:
        """Whether *word*, which is not FROM, is followed by the name of a table that is read."""
        match word.upper:
            case "JOIN":
                return True
            case "STRAIGHT_JOIN":
                return in_from
            case "USING":
                return after != "("
            case "TABLE":
                return before in _BEFORE_TABLE
            case "UPDATE":
                return depth > 0 and before not in _NOT_A_VERB_AFTER
            case "INTO":
                return depth > 0 and before in _BEFORE_INTO
        return False

    def _read_name(self, word: Word, parts: frozenset[str], *, is_table: bool, in_from: bool) -> None:
        """Read a name, which may have several parts: schema.table."""
        is_qualified = False
        while self._word(0) == "." and self._at + 1 < len(self._words):
            is_qualified = True
            word = self._words[self._at + 1]
            self._at += 2
        name = plain_name(word.text)
        if word.is_identifier and self._is_query:
            self._found.mentioned[name] = None
        if self._word(0) == "(" and self._word(-2) not in ("INTO", "UPDATE", "TABLE"):
            # A name in FROM that is not in the place of a table is another name for one, with its columns.
            if word.is_identifier and (is_table or not in_from) and not _BUILT_IN.fullmatch(name):
                self._read_function(name, is_table=is_table)
        elif is_table and (is_qualified or name not in parts) and not _NO_TABLES.fullmatch(name):
            self._found.tables[name] = None

    def _read_function(self, name: str, *, is_table: bool) -> None:
        if is_table:
            self._found.unknown[f"the function {name!r}"] = None
        elif self._is_query:
            self._found.functions[name] = None

    def _read_parts(self, parts: frozenset[str], depth: int) -> frozenset[str] | None:
        """Read the parts of a WITH. Returns all that are in scope after it; None if this WITH has none."""
        begin = self._at
        is_recursive = self._word(0) == "RECURSIVE"
        self._at += is_recursive
        bodies = self._find_bodies()
        if not bodies:
            self._at = begin
            return None
        end = self._at
        self._found.parts.update(name for name, _ in bodies)
        known = parts | {name for name, _ in bodies} if is_recursive else parts
        for name, at in bodies:
            self._at = at
            self._read_level(known, is_from=False, depth=depth + 1)
            known |= {name}
        self._at = end
        return known

    def _find_bodies(self) -> list[tuple[str, int]]:
        """The names of the parts, and where the body of each begins. Goes to the end of the last."""
        bodies: list[tuple[str, int]] = []
        while self._at < len(self._words):
            name = plain_name(self._words[self._at].text)
            self._at += 1
            if self._word(0) == "(":  # its columns
                self._at += 1
                self._skip_level()
            if self._word(0) != "AS":
                return bodies
            self._at += 1
            while self._word(0) in ("NOT", "MATERIALIZED"):
                self._at += 1
            if self._word(0) != "(":
                return bodies
            self._at += 1
            bodies.append((name, self._at))
            self._skip_level()
            while self._at < len(self._words) and self._word(0) not in _VERBS and self._word(0) not in ("(", ","):
                self._at += 1  # SEARCH …, CYCLE …
            if self._word(0) != ",":
                return bodies
            self._at += 1
        return bodies

    def _skip_level(self) -> None:
        depth = 1
        while self._at < len(self._words) and depth:
            text = self._words[self._at].text
            depth += (text == "(") - (text == ")")
            self._at += 1
