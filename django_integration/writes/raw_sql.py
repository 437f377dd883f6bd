"""
Writes in the application's own SQL: `cursor.execute("UPDATE …")` invalidates the tables that it writes to.

Statements of the ORM are published elsewhere (`statements.py`), and only their rows are counted here. For all other SQL
a regular expression first finds out whether the text can write at all; if so, sqlparse takes it apart, and the tables
that it writes to are looked up as models.

Rule 1: when in doubt, every model is invalidated whose table the text mentions: if the text is too long, or if one
database reads a part of it as a comment or string and another does not. A name too many costs a miss, a missing one a
stale value.
Rule 2: a table that belongs to no model is ignored. Statements that define tables or grant rights write no rows.
Rule 3: a statement that failed is published only if it may have written all the same: one of several in a text, one of
several rows, or one whose connection was lost.
Rule 4: which rows were written is not known, so a model whose rows an `@invalidates` function wants to see invalidates
everything.

Not seen: what a procedure, trigger or view writes to other tables, prepared statements, and methods of the driver's own
cursors (`executescript`, `copy`). `writes_to` is for these.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from django.apps import apps
from django.core.signals import setting_changed
from django.db import DatabaseError, InternalError, OperationalError, router
from django.db.backends.utils import CursorWrapper
from django.db.models import Model
from django.db.models.signals import class_prepared

from ..conf import SETTING
from ..names import Names, concrete_of, fence, is_model, is_watched, plan_of
from ..patching import Patches
from ..sql.words import LONGEST_PARSED, Word, is_doubtful, plain_name, statements, text_of
from ..transactions import in_sql
from ..transactions.in_sql import Step
from ..transactions.outgoing import announce, collect, own_transaction
from ..transactions.schemas import schemas
from ..transactions.sending import send
from .statements import compiled_statement
from .transaction_sql import MAY_COMMIT, steps_of

_MAY_WRITE = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE|MERGE|TRUNCATE|COPY|LOAD|DO)\b", re.IGNORECASE)
_DEFINES = frozenset({"ALTER", "COMMENT", "CREATE", "DROP", "GRANT", "REVOKE", "SET", "SHOW", "VACUUM"})
"""First words of statements that change no row of a table that is there afterwards."""
_CONTAINS = frozenset({"CASE", "DO", "EXECUTE", "FOR", "IF", "LOOP", "REPEAT", "WHILE"})
"""First words of statements that contain others, as blocks do: the whole text names the tables that these write to."""
_MODIFIERS = frozenset(
    {
        *("ABORT", "DELAYED", "FAIL", "FROM", "HIGH_PRIORITY", "IGNORE", "INTO", "LOW_PRIORITY", "ONLY", "OR"),
        *("OVERWRITE", "QUICK", "REPLACE", "ROLLBACK", "TABLE"),
    }
)
"""Words that may stand between the verb and its table."""
_NOT_A_VERB_AFTER = frozenset({"DO", "FOR", "KEY", "ON", "THEN"})
"""
Words after which a verb begins no statement: FOR UPDATE, FOR NO KEY UPDATE, DO UPDATE SET, ON DUPLICATE KEY UPDATE,
ON DELETE, WHEN MATCHED THEN DELETE.
"""


@dataclass(frozen=True, slots=True)
class Written:
    """A table that a text writes to; *table* is the last part of its name, in lower case."""

    table: str
    deletes: bool = False
    """Whether rows may be deleted; the database may then delete or change rows of other tables with them."""
    cascades: bool = False
    """TRUNCATE … CASCADE: the tables with foreign keys to this one are emptied, too."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of parsing a text."""

    written: tuple[Written, ...] = ()
    in_doubt: bool = False
    """Whether every table that the text mentions counts as written (rule 1)."""
    several: bool = False
    """Whether the text has more than one statement."""
    is_counted: bool = False
    """Whether the row count that the database reports is that of all it writes, so that zero means no write."""


def read(text: str) -> Reading:
    """Return what *text* writes to. The first time costs some 5 µs for each character; results are remembered."""
    if not _MAY_WRITE.search(text):
        return Reading()
    if len(text) > LONGEST_PARSED:
        return Reading(in_doubt=True, several=True)
    return _read(text)


@functools.lru_cache(maxsize=1000)
def _read(text: str) -> Reading:
    several = ";" in text.rstrip().rstrip(";")
    if is_doubtful(text):
        return Reading(in_doubt=True, several=several)
    written: dict[Written, None] = {}
    in_doubt = False
    every = list(statements(text))
    for words in every:
        in_doubt |= words[0].upper in _CONTAINS or _contains_write(words)
        if words[0].upper in _DEFINES:
            continue
        written.update(dict.fromkeys(_written_by(words)))
    is_counted = len(every) == 1 and every[0][0].upper in ("INSERT", "UPDATE", "DELETE", "REPLACE")
    return Reading(tuple(written), in_doubt, several, is_counted)


def _contains_write(words: list[Word]) -> bool:
    """
    Whether a statement that defines something writes as well.

    MariaDB has `SET STATEMENT max_statement_time=1 FOR UPDATE …`, and `ALTER TABLE … TRUNCATE PARTITION …`.
    """
    match words[0].upper:
        case "SET":
            return len(words) > 1 and words[1].upper == "STATEMENT"
        case "ALTER":
            return any(word.upper == "TRUNCATE" for word in words)
    return False


def _written_by(words: list[Word]) -> Iterator[Written]:
    for index, word in enumerate(words):
        before = words[index - 1].upper if index else ""
        after = words[index + 1].upper if index + 1 < len(words) else ""
        if before in _NOT_A_VERB_AFTER or before == "." or after in ("(", "."):
            continue  # not a verb; REPLACE(…), for one, is a function
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
                # Where several tables are joined, MySQL may name those to delete from by their aliases.
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


def _until(words: list[Word], ends: set[str]) -> list[Word]:
    """*words* up to the first of *ends*, or up to the closing parenthesis of the one that they began in."""
    depth = 0
    for index, word in enumerate(words):
        depth += (word.text == "(") - (word.text == ")")
        if depth < 0 or word.upper in ends:
            return words[:index]
    return words


def _tables(words: list[Word], *, every: bool = False) -> list[str]:
    """
    The names in a list "a, b.c AS d, e": "a", "c", "e".

    Args:
        every: whether to return every word that can be the name of a table: too many, but none is missing.
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
                break  # before the first name only PostgreSQL has a parenthesis: ONLY (a)
        elif word.is_name and (every or (expected and word.upper not in _MODIFIERS)):
            name = word.text
            while index + 1 < len(words) and words[index].text == "." and words[index + 1].is_name:
                name = words[index + 1].text
                index += 2
            tables.append(plain_name(name))
            expected = False
    return tables


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
        # No function has seen the rows (rule 4).
        names.everything |= plan.has_functions or plan.links_wanted()


def _pointing_at(model: type[Model]) -> Iterable[type[Model]]:
    """The watched models with a foreign key to *model*, or to another one of these."""
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
    """The watched models by the names of their tables, with those that Django makes for many-to-many relations."""
    tables: dict[str, list[type[Model]]] = {}
    for model in apps.get_models(include_auto_created=True, include_swapped=True):
        if not model._meta.proxy and is_watched(model):
            tables.setdefault(plain_name(model._meta.db_table), []).append(model)
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
        # First the most frequent kind. Written out, since every query of the application passes here.
        if type(sql) is str and sql.startswith("SELECT") and ";" not in sql and "set_config" not in sql:
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
    names, text = Names(), ""
    with fence(names, None):
        text = text_of(sql, cursor.cursor)
    if not schemas.may_choose(cursor.db, text):
        return _execute_text(cursor, text, names, original, many=many)
    schemas.chosen(cursor.db)
    try:
        return _execute_text(cursor, text, names, original, many=many)
    finally:
        schemas.chosen(cursor.db)


def _execute_text(cursor: CursorWrapper, text: str, names: Names, original: Callable[[], Any], *, many: bool) -> Any:
    """Execute *text*; *names* are stale after it, besides those that it shows."""
    reading = Reading(in_doubt=True, several=True)
    steps: Sequence[Step] = MAY_COMMIT
    with fence(names, None):
        reading = read(text)
        if reading.written or reading.in_doubt:
            _add_names(names, reading, text)
        steps = steps_of(text, defining_commits=not cursor.db.features.can_rollback_ddl)
    if steps:
        return _execute_steps(cursor, steps, names, original)
    using = cursor.db.alias
    if not names:
        return original()
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


def _execute_steps(cursor: CursorWrapper, steps: Sequence[Step], names: Names, original: Callable[[], Any]) -> Any:
    """
    The text begins or ends a transaction. If it writes as well, it is not known in which, so what it writes belongs to
    the one before, to the one after, and to none.
    """
    using = cursor.db.alias

    def execute() -> Any:
        try:
            return original()
        finally:
            schemas.ended(cursor.db)
            if names:
                send(names)
                collect(names, using)

    try:
        return in_sql.run(cursor.db, steps, execute)
    finally:
        collect(names, using)


def _may_have_worked(error: BaseException) -> bool:
    return not isinstance(error, DatabaseError) or isinstance(error, OperationalError | InternalError)


@contextlib.contextmanager
def writes_to(*models: type[Model], using: str | None = None) -> Iterator[None]:
    """
    Invalidate the tables of *models* after this block, which writes to them where Django does not see it.

        with writes_to(Product):
            cursor.callproc("raise_prices")

    They are part of the transaction's one message. They are published if the block raises, too, since it may have
    committed by itself. With `WRITES="strict"` they are held from the beginning of the block, in a transaction of its
    own if none is open.

    Args:
        using: the alias of the database that is written to. None takes, for each model, the one its writes go to.

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
            blocks.enter_context(_collecting(names, alias))
        yield


@contextlib.contextmanager
def _collecting(names: Names, alias: str) -> Iterator[None]:
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
            # They were rolled back with our own transaction, and the block may have committed by itself.
            send(names)
        raise
