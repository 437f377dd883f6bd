"""
Writes in SQL of the application's own: `cursor.execute("UPDATE …")` is told by the tables it names.

What the ORM sends is told elsewhere (`compilers.py`) and only counted here. Of everything else a cheap look says
whether it may write at all; then sqlparse takes it apart, and the tables it writes to become models.

Rule 1: when in doubt, every model is told whose table the text names at all: text that is too long, or that one
database reads as a comment or string and another does not. A name too many is a miss, a name too few is stale.
Rule 2: a table that belongs to no model is nobody's, and nothing is told. Statements that define or grant are no
writes of rows.
Rule 3: a statement that failed is told only if it may have worked all the same: several in one text, several rows,
or a lost connection.
Rule 4: rows are not known, so for a model whose rows an `@invalidates` function wants to see, it is everything.

Out of sight: what a procedure, trigger or view writes to other tables, prepared statements, and the driver's own
cursors (`executescript`, `copy`). `writes_to` tells these.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from django.apps import apps
from django.core.signals import setting_changed
from django.db import DatabaseError, InternalError, OperationalError, router
from django.db.backends.utils import CursorWrapper
from django.db.models import Model
from django.db.models.signals import class_prepared
from sqlparse import lexer
from sqlparse import tokens as kinds

from ..conf import SETTING
from ..names import Names, concrete_of, is_model, is_watched, plan_of
from ..patching import Patches
from ..transactions.batches import send
from ..transactions.outgoing import announce, collect, own_transaction
from .statements import compiled_statement

LONGEST_PARSED = 20_000
"""Characters that are taken apart; sqlparse reads some 200 of them in a millisecond."""

_MAY_WRITE = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE|MERGE|TRUNCATE|COPY|LOAD|DO)\b", re.IGNORECASE)
_DOUBT = re.compile(
    r"""\\['"]"""  # the end of a string, or not
    r"|/\*M?!"  # a comment that MySQL runs
    r"|/\*(?:(?!\*/).)*/\*"  # a comment in a comment, or the end of the first
    r"|\#"  # where a comment begins, or an operator
    r"|--\S",  # a comment, or two minus signs
    re.DOTALL,
)
_DEFINES = frozenset({"ALTER", "COMMENT", "CREATE", "DROP", "GRANT", "REVOKE", "SET", "SHOW", "VACUUM"})
"""First words of statements that change no row of a table that stays."""
_CONTAINS = frozenset({"CASE", "DO", "EXECUTE", "FOR", "IF", "LOOP", "REPEAT", "WHILE"})
"""First words of blocks, and of statements in a string, in which others are: their text names what these write to."""
_MODIFIERS = frozenset(
    {
        *("ABORT", "DELAYED", "FAIL", "FROM", "HIGH_PRIORITY", "IGNORE", "INTO", "LOW_PRIORITY", "ONLY", "OR"),
        *("OVERWRITE", "QUICK", "REPLACE", "ROLLBACK", "TABLE"),
    }
)
"""What may stand between the verb and its table."""
_NOT_A_VERB_AFTER = frozenset({"DO", "FOR", "KEY", "ON", "THEN"})
"""FOR UPDATE, FOR NO KEY UPDATE, DO UPDATE SET, ON DUPLICATE KEY UPDATE, ON DELETE, WHEN MATCHED THEN DELETE."""


@dataclass(frozen=True, slots=True)
class Written:
    """A table that a text writes to, by the last part of its name, in lower case."""

    table: str
    deletes: bool = False
    """Whether rows may go: then the database may take others with them."""
    cascades: bool = False
    """TRUNCATE … CASCADE: whatever points there is emptied, too."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was understood of a text."""

    written: tuple[Written, ...] = ()
    in_doubt: bool = False
    """Whether every table that the text names is to be taken for written, see rule 1."""
    several: bool = False
    """Whether it is more than one statement."""
    is_counted: bool = False
    """Whether the number of rows that the database gives for it is that of all it writes."""


def read(text: str) -> Reading:
    """Return what *text* writes to. Costs some 5 µs for each of its characters the first time, and little later."""
    if not _MAY_WRITE.search(text):
        return Reading()
    if len(text) > LONGEST_PARSED:
        return Reading(in_doubt=True, several=True)
    return _read(text)


@functools.lru_cache(maxsize=1000)
def _read(text: str) -> Reading:
    several = ";" in text.rstrip().rstrip(";")
    if _DOUBT.search(text):
        return Reading(in_doubt=True, several=several)
    written: dict[Written, None] = {}
    in_doubt = False
    statements = list(_statements(text))
    for words in statements:
        in_doubt |= words[0].upper in _CONTAINS or _is_in_another(words)
        if words[0].upper in _DEFINES:
            continue
        written.update(dict.fromkeys(_written_by(words)))
    is_counted = len(statements) == 1 and statements[0][0].upper in ("INSERT", "UPDATE", "DELETE", "REPLACE")
    return Reading(tuple(written), in_doubt, several, is_counted)


def _is_in_another(words: list[_Word]) -> bool:
    """MariaDB's `SET STATEMENT max_statement_time=1 FOR UPDATE …`, and `ALTER TABLE … TRUNCATE PARTITION …`."""
    match words[0].upper:
        case "SET":
            return len(words) > 1 and words[1].upper == "STATEMENT"
        case "ALTER":
            return any(word.upper == "TRUNCATE" for word in words)
    return False


class _Word:
    """A word or sign of a statement."""

    __slots__ = ("is_name", "text", "upper")

    def __init__(self, kind: Any, text: str) -> None:
        self.text = text
        # SQLite takes a name in single quotes, too.
        self.is_name = kind in kinds.Name or kind in kinds.Keyword or kind in kinds.Literal.String
        self.upper = "" if kind in kinds.Literal.String else text.upper()


_END = _Word(kinds.Punctuation, ";")


def _statements(text: str) -> Iterator[list[_Word]]:
    words: list[_Word] = []
    for kind, value in lexer.tokenize(text):  # type: ignore[no-untyped-call]
        if kind in kinds.Whitespace or kind in kinds.Comment:
            continue
        if kind in kinds.Punctuation and value == ";":
            if words:
                yield words
            words = []
            continue
        # What sqlparse takes for one keyword is several words: "ORDER BY", "ON CONFLICT".
        parts = value.split() if kind in kinds.Keyword else [value]
        words += [_Word(kind, part) for part in parts]
    if words:
        yield words


def _written_by(words: list[_Word]) -> Iterator[Written]:
    for index, word in enumerate(words):
        before = words[index - 1].upper if index else ""
        after = words[index + 1].upper if index + 1 < len(words) else ""
        if before in _NOT_A_VERB_AFTER or before == "." or after in ("(", "."):
            continue  # REPLACE(…) is a function, too
        rest = words[index + 1 :]
        match word.upper:
            case "INSERT" | "REPLACE" | "MERGE" if before != "OR":
                replaces = word.upper != "INSERT" or any(other.upper == "REPLACE" for other in rest[:2])
                yield from (Written(table, deletes=replaces) for table in _tables(rest)[:1])
            case "UPDATE":
                replaces = any(other.upper == "REPLACE" for other in rest[:2])
                yield from (Written(table, deletes=replaces) for table in _tables(_until(rest, {"SET"}), every=True))
            case "DELETE":
                end = _until(rest, {"WHERE", "RETURNING"})
                # Of several tables, MySQL may name those to delete from by alias.
                joined = any(
                    other.upper in ("USING", "JOIN") or (i and other.upper == "FROM") for i, other in enumerate(end)
                )
                yield from (Written(table, deletes=True) for table in _tables(end, every=joined))
            case "TRUNCATE":
                cascades = any(other.upper == "CASCADE" for other in rest)
                yield from (Written(table, deletes=True, cascades=cascades) for table in _tables(rest))
            case "COPY" if any(other.upper == "FROM" for other in rest):
                yield from (Written(table) for table in _tables(rest)[:1])
            case "LOAD" if after in ("DATA", "XML"):
                into = next((i for i, other in enumerate(rest) if other.upper == "TABLE"), len(rest))
                yield from (Written(table) for table in _tables(rest[into:])[:1])
            case _:
                pass


def _until(words: list[_Word], ends: set[str]) -> list[_Word]:
    """*words* up to one of *ends*, or to the end of the parentheses that they begin in."""
    depth = 0
    for index, word in enumerate(words):
        depth += (word.text == "(") - (word.text == ")")
        if depth < 0 or word.upper in ends:
            return words[:index]
    return words


def _tables(words: list[_Word], *, every: bool = False) -> list[str]:
    """
    The names in a list "a, b.c AS d, e": "a", "c", "e".

    Args:
        every: all words that can be a table's name, wherever they stand; too many, and none too little.
    """
    tables: list[str] = []
    expected = True
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if word.text == ",":
            expected = True
        elif word.text in ("(", ")") and not every:
            if tables or word.text == ")":
                break  # before a name there is none but PostgreSQL's ONLY (a)
        elif word.is_name and (every or (expected and word.upper not in _MODIFIERS)):
            name = word.text
            while index + 1 < len(words) and words[index].text == "." and words[index + 1].is_name:
                name = words[index + 1].text
                index += 2
            tables.append(_plain(name))
            expected = False
    return tables


def _plain(name: str) -> str:
    """*name* as tables are looked up: without schema and quotes, in one case."""
    return name.rpartition(".")[2].strip("\"'`[]").casefold()


# From tables to models.


def _add_names(names: Names, reading: Reading, text: str) -> None:
    tables = _models_by_table()
    for written in reading.written:
        for model in tables.get(written.table, ()):
            _add_table(names, model, written)
    if reading.in_doubt:
        folded = text.casefold()
        for table, models in tables.items():
            if table in folded:
                for model in models:
                    _add_table(names, model, Written(table, deletes=True, cascades="cascade" in folded))


def _add_table(names: Names, model: type[Model], written: Written) -> None:
    affected = [model, *(_pointing_at(model) if written.cascades else ())]
    for each in affected:
        plan = plan_of(each, None)
        plan.add_table(names)
        if written.deletes:
            plan.add_dependents(names)
        # No function has seen the rows.
        names.everything |= plan.has_functions or plan.links_wanted()


def _pointing_at(model: type[Model]) -> Iterable[type[Model]]:
    """The models with a foreign key to *model*, or to one of these."""
    found: dict[type[Model], None] = {}
    targets = [model]
    while targets:
        for relation in targets.pop()._meta.get_fields(include_hidden=True):
            if relation.auto_created and not relation.concrete and (relation.one_to_many or relation.one_to_one):
                pointing = concrete_of(cast("type[Model]", relation.related_model))
                if pointing not in found:
                    found[pointing] = None
                    targets.append(pointing)
    return [pointing for pointing in found if is_watched(pointing)]


@functools.cache
def _models_by_table() -> dict[str, list[type[Model]]]:
    """The watched models by their tables, those that Django makes for many-to-many relations among them."""
    tables: dict[str, list[type[Model]]] = {}
    for model in apps.get_models(include_auto_created=True, include_swapped=True):
        if not model._meta.proxy and is_watched(model):
            tables.setdefault(_plain(model._meta.db_table), []).append(model)
    return tables


def _forget_tables(*, setting: str = "INSTALLED_APPS", **_: object) -> None:
    if setting in (SETTING, "INSTALLED_APPS"):
        _models_by_table.cache_clear()


class_prepared.connect(_forget_tables, dispatch_uid="invalidator.sql")
setting_changed.connect(_forget_tables, dispatch_uid="invalidator.sql")


# Where Django sends SQL.


patches = Patches("SQL of the application's own")


@patches.around(CursorWrapper, "execute", "self, sql, params=None", why="SQL of the application's own sends no signal")
def _cursor_execute(original: Any) -> Any:
    def execute(self: CursorWrapper, sql: Any, params: Any = None) -> Any:
        # First what nearly all are. Written out, because every query comes by here.
        if type(sql) is str and sql.startswith("SELECT") and ";" not in sql:
            return original(self, sql, params)
        if (statement := compiled_statement(self.db)) is not None:
            result = original(self, sql, params)
            statement.has_run(self)
            return result
        return _execute(self, sql, lambda: original(self, sql, params), many=False)

    return execute


@patches.around(CursorWrapper, "executemany", "self, sql, param_list", why="the same, for many rows at once")
def _cursor_executemany(original: Any) -> Any:
    def executemany(self: CursorWrapper, sql: Any, param_list: Any) -> Any:
        if (statement := compiled_statement(self.db)) is not None:
            result = original(self, sql, param_list)
            statement.has_run(self)
            return result
        return _execute(self, sql, lambda: original(self, sql, param_list), many=True)

    return executemany


def _execute(cursor: CursorWrapper, sql: Any, original: Callable[[], Any], *, many: bool) -> Any:
    text = sql if isinstance(sql, str) else _text_of(sql)
    reading = read(text)
    names = Names()
    if reading.written or reading.in_doubt:
        _add_names(names, reading, text)
    if not names:
        return original()
    using = cursor.db.alias
    with own_transaction(using):
        try:
            result = original()
        except BaseException as error:
            if many or reading.several or _may_have_worked(error):
                collect(names, using)
            raise
        if many or not reading.is_counted or cursor.description or cursor.rowcount != 0:
            collect(names, using)
        return result


def _may_have_worked(error: BaseException) -> bool:
    return not isinstance(error, DatabaseError) or isinstance(error, OperationalError | InternalError)


def _text_of(sql: Any) -> str:
    """What can be read of SQL that is no text: bytes, or what a driver composes of parts."""
    if isinstance(sql, bytes | bytearray):
        return bytes(sql).decode(errors="replace")
    # Its parts, among them the names of tables, as Python shows them; the quotes put it in doubt.
    return f"{sql!r}\\'"


@contextlib.contextmanager
def writes_to(*models: type[Model], using: str | None = None) -> Iterator[None]:
    """
    Invalidate the tables of *models* after this block, which writes to them where Django does not see it.

        with writes_to(Product):
            cursor.callproc("raise_prices")

    They are told in the transaction's one message, and also when the block raises, since it may have committed by
    itself. With `WRITES="strict"` they are held from its beginning, in a transaction of its own if there is none.

    Args:
        using: the database alias that is written to. None takes, for each model, the one its writes go to.

    Raises:
        TypeError: one of these is not a model class with a table.
        PublishError, HoldEnded: with strict writes, as `invalidate` does.
    """
    if not models or not all(map(is_model, models)):
        raise TypeError(f"writes_to takes model classes, such as writes_to(Product), not {models!r}")
    by_alias: dict[str, Names] = {}
    for model in models:
        names = by_alias.setdefault(using or router.db_for_write(model), Names())
        _add_table(names, concrete_of(model), Written("", deletes=True))
    with contextlib.ExitStack() as blocks:
        for alias, names in by_alias.items():
            blocks.enter_context(_telling(names, alias))
        yield


@contextlib.contextmanager
def _telling(names: Names, alias: str) -> Iterator[None]:
    own = own_transaction(alias)
    begun = False
    try:
        with own:
            announce(names, alias)
            begun = True
            try:
                yield
            finally:
                collect(names, alias)
    except BaseException:
        if begun and not isinstance(own, contextlib.nullcontext):
            send(names)  # they went with the transaction, and the block may have committed something all the same
        raise
