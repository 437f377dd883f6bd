"""
An actor is a thread of the application: it begins and ends transactions, reads, writes, and does something with what it
was handed. One operation at a time, which may be left in the middle.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils import translation

from . import by_hand, callers, tenants
from .doors import Question
from .kinds import happens
from .plainly import outcome_of, plainly, said_by
from .processes import Process
from .turns import Thread
from .writes import Writer

if TYPE_CHECKING:
    from .world import World

DEEPEST = 3
MOST_HELD = 4


class TimeLimitError(BaseException):
    """Strikes anywhere, as those of web servers and task queues do, and no `except Exception` sees it."""


@dataclass(eq=False)
class Held:
    """Something that an actor was handed and keeps: what it said then."""

    question: Question
    value: Any
    said: Any


class Actor:
    """One thread, with a connection of its own."""

    def __init__(self, world: World, name: str, process: Process) -> None:
        self.world = world
        self.name = name
        self.process = process
        self.choices = world.choices
        self.thread = Thread(world.turns, name)
        self.blocks: list[transaction.Atomic] = []
        self.wrote = False
        """Whether its transaction has written anything."""
        self.owes = False
        """Whether it deletes a key of its own only after its commit."""
        self.sets: set[int] = set()
        """Rows of which its transaction has set the key."""
        self.held: list[Held] = []
        self.thread.call(self._connect)

    # The connection.

    def _connect(self) -> None:
        connection.ensure_connection()
        connection.execute_wrappers.append(self._statement)
        commit = connection._commit
        connection._commit = lambda: self._commit(commit)

    def _statement(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        world = self.world
        if world.is_calm:
            return execute(sql, params, many, context)
        world.may_be_left("before a statement")
        if self.choices.one_in(world.setup.fail_one_in):
            self._fail_at(sql, lambda: execute(sql, params, many, context))
        result = execute(sql, params, many, context)
        world.may_be_left("after a statement")
        return result

    def _fail_at(self, sql: str, execute: Callable[[], object]) -> None:
        """Let a statement fail: before it was executed or after it, by an error or by a time limit."""
        is_done, is_limit = self.choices.draw(2), self.choices.draw(3) == 2
        is_done = is_done and (happens("limits") or not is_limit)
        # Django itself would not know of a transaction or savepoint that was begun or ended so.
        is_done = is_done and not sql.startswith(("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK"))
        what = "a time limit strikes" if is_limit else "the statement fails"
        self.world.note(lambda: f"  {self.name}: {what} {'after' if is_done else 'before'} {sql[:70]}")
        if is_done:
            execute()
        raise TimeLimitError if is_limit else OperationalError("the world says so")

    def _commit(self, commit: Callable[[], object]) -> None:
        world = self.world
        if world.is_calm:
            commit()
            return
        world.may_be_left("before the commit")
        fails = self.choices.one_in(world.setup.commit_fails_one_in)
        if fails and self.choices.draw(2):
            world.note(lambda: f"  {self.name}: the commit fails, and nothing is committed")
            raise OperationalError("the world says so: not committed")
        commit()
        if fails:
            is_limit = self.choices.draw(3) == 2
            world.note(lambda: f"  {self.name}: the commit {'is struck' if is_limit else 'fails'}, though it was done")
            raise TimeLimitError if is_limit else OperationalError("the world says so: committed")
        world.may_be_left("after the commit")

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is in progress. In its own turn."""
        return connection.in_atomic_block or not connection.autocommit

    # Operations.

    def operate(self) -> None:
        """Do something."""
        kind = self.choices.weigh(self.world.setup.weights)
        with self.world.calm():
            operation = getattr(self, kind.replace(" ", "_"))
        try:
            operation()
        except (DatabaseError, TimeLimitError) as error:
            self._fail(error)
        if not self.in_transaction:
            self._forget_transaction()

    def _forget_transaction(self) -> None:
        self.wrote = self.owes = False
        self.sets.clear()

    def _fail(self, error: BaseException) -> None:
        """An operation has failed: leave the innermost block by its error, or roll back."""
        name = type(error).__name__
        self.say(lambda: f"raises {name}: {str(error)[:70]}")
        if isinstance(error, TimeLimitError) and self.choices.draw(2):
            self.say(lambda: "# which the application catches")
        elif self.blocks:
            self._leave(error)
        elif not connection.autocommit:
            self.roll_back_by_hand()

    def say(self, text: Callable[[], str]) -> None:
        """Add a line to the trace."""
        self.world.note(lambda: f"{self.name} {'    ' * len(self.blocks)}{text()}")

    def read(self) -> None:
        """Ask a question, and see whether the answer is right."""
        question = self.choices.pick(self.world.questions)
        if self.wrote and not happens("tx"):
            return
        is_changed = bool(self.choices.draw(2)) and question.argument is not None
        self.say(lambda: f"{question}{', changed in memory' if is_changed else ''}")
        seen = self.world.checks.begin_read(self.process)
        outcome = outcome_of(lambda: question.ask(is_changed))
        self._raise_database_error(outcome)
        said = said_by(outcome)
        self.world.checks.check_answer(self, question, said, seen)
        if outcome[0] == "returns" and not question.shares:
            self.held = [*self.held, Held(question, outcome[1], said[1])][-MOST_HELD:]

    def _raise_database_error(self, outcome: tuple[str, Any]) -> None:
        if outcome[0] == "raises" and isinstance(outcome[1], DatabaseError):
            raise outcome[1]

    def write(self) -> None:
        """Write something."""
        with self.world.calm():
            text, write = Writer(self.choices).draw()
        self.say(lambda: text)
        self._write(write)

    def _write(self, write: Callable[[], object]) -> None:
        if self.in_transaction:
            before, self.wrote = self.wrote, True
            outcome = outcome_of(write)
            if outcome[0] == "raises" and isinstance(outcome[1], DatabaseError):
                self.wrote = before  # what it has written is about to be rolled back
        else:
            with self.world.checks.committing():
                outcome = outcome_of(write)
        self._raise_database_error(outcome)
        if outcome[0] == "raises":
            self.say(lambda: f"raises {type(outcome[1]).__name__}")

    # Transactions.

    def begin(self) -> None:
        """Enter a block."""
        if len(self.blocks) >= DEEPEST:
            return
        savepoint = bool(self.choices.draw(4)) or not self.blocks
        self.say(lambda: f"with atomic({'' if savepoint else 'savepoint=False'}):")
        block = transaction.atomic(savepoint=savepoint)
        block.__enter__()
        self.blocks.append(block)

    def commit(self) -> None:
        """Leave a block, or commit."""
        if self.blocks:
            self._leave(None)
        elif not connection.autocommit:
            self.say(lambda: "commit()")
            with self.world.checks.committing():
                transaction.commit()
            self._forget_transaction()
            self._end_by_hand()

    def roll_back(self) -> None:
        """Leave a block by an error, or roll back."""
        if self.blocks:
            self._leave(ZeroDivisionError("the application's own"))
        elif not connection.autocommit:
            self.roll_back_by_hand()

    def roll_back_by_hand(self) -> None:
        """Roll back without a block."""
        self.say(lambda: "rollback()")
        connection.in_atomic_block = False  # Django forgets that if a block cannot be entered
        transaction.rollback()
        self._forget_transaction()
        self._end_by_hand()

    def _end_by_hand(self) -> None:
        if self.choices.draw(2):
            self.say(lambda: "set_autocommit(True)")
            transaction.set_autocommit(True)

    def autocommit(self) -> None:
        """Commit by hand from now on; not on SQLite, where Django forbids `atomic` then, and uses it itself."""
        if not self.in_transaction and connection.vendor != "sqlite":
            self.say(lambda: "set_autocommit(False)")
            transaction.set_autocommit(False)

    def _leave(self, error: BaseException | None) -> None:
        block = self.blocks.pop()
        self.say(lambda: "# the block ends" if error is None else f"# the block ends by {type(error).__name__}")
        is_last = not self.blocks
        with self.world.checks.committing() if is_last and error is None else nullcontext():
            try:
                outcome = outcome_of(lambda: block.__exit__(*_details(error)))
            except TimeLimitError as limit:
                outcome = "raises", limit
        if outcome[0] == "raises":
            self.say(lambda: f"raises {type(outcome[1]).__name__}: {str(outcome[1])[:70]}")
            if self.blocks:
                self._leave(outcome[1])

    def lose(self) -> None:
        """The connection is lost, in a transaction."""
        if self.blocks and connection.connection is not None:
            self.say(lambda: "# the connection is lost")
            connection.close()

    # By hand.

    def read_stock(self) -> None:
        """Read a key of the application's own."""
        world = self.world
        alias, pk = self.choices.pick(by_hand.ALIASES), self.choices.pick(world.stock)
        text, read, adds = by_hand.draw_reading(self.choices, alias, pk, wrote=self.wrote)
        self.say(lambda: text)
        if adds and self.wrote:
            self.sets.add(pk)
        seen = world.checks.begin_read(self.process)
        outcome = outcome_of(read)
        self._raise_database_error(outcome)
        if outcome == ("returns", by_hand.MISSING) or self.owes or world.checks.is_set_by_others(pk, self):
            return
        world.checks.check(self, text, said_by(outcome), lambda: by_hand.amount_of(pk), seen)

    def write_stock(self) -> None:
        """Write a row, and delete or set its key."""
        pk = self.choices.pick(self.world.stock)
        in_transaction = self.in_transaction
        if in_transaction and not self.blocks:
            return  # on_commit() refuses
        writing = by_hand.draw_writing(self.choices, pk, in_transaction=in_transaction)
        self.say(lambda: writing.text)
        self.owes = self.owes or writing.owes
        if writing.sets:
            self.sets.add(pk)
        self._write(writing.do)

    # What it was handed.

    def misuse(self) -> None:
        """Change something that it was handed."""
        if not self.held:
            return
        held = self.choices.pick(self.held)
        with self.world.calm():
            misuse = callers.draw_misuse(self.choices, held.value)
            if misuse is not None:
                self.say(lambda: f"changes the answer of {held.question}: {misuse[0]}")
                misuse[1]()
        self.held.remove(held)

    def follow(self) -> None:
        """Follow a relation of a row that it was handed."""
        if not self.held:
            return
        held = self.choices.pick(self.held)
        with self.world.calm():
            following = callers.draw_following(self.choices, held.value)
        if following is None:
            return
        text, follow, truth = following
        self.held.remove(held)  # from now on it has more in it
        self.say(lambda: f"follows {text} of the answer of {held.question}")
        seen = self.world.checks.begin_read(self.process)
        outcome = outcome_of(follow)
        self._raise_database_error(outcome)
        self.world.checks.check(self, text, said_by(outcome), truth, seen)

    def look_again(self) -> None:
        """Look at something that it was handed a while ago: nobody else may have changed it."""
        if not self.held:
            return
        held = self.choices.pick(self.held)
        with self.world.calm():
            said = plainly(held.value)
        if said != held.said:
            self.world.checks.fail("handed out", f"{held.question} said\n    {held.said}\n  and says now\n    {said}")

    def speak(self) -> None:
        """Speak another language from now on, or be another tenant."""
        if self.choices.draw(2):
            tenant = self.choices.pick(tenants.TENANTS[::-1])
            self.say(lambda: f"# the tenant is {tenant!r}")
            tenants.switch_to(tenant)
        else:
            language = self.choices.pick(("nl", "en"))
            self.say(lambda: f"translation.activate({language!r})")
            translation.activate(language)

    def finish(self) -> None:
        """Leave all blocks."""
        while self.blocks:
            self._leave(None if self.choices.draw(2) else ZeroDivisionError("the application's own"))
        if not connection.autocommit:
            self.roll_back_by_hand()
            if not connection.autocommit:
                transaction.set_autocommit(True)

    def close(self) -> None:
        """End the thread."""
        self.thread.close()


def _details(error: BaseException | None) -> tuple[Any, Any, Any]:
    return (type(error), error, None) if error is not None else (None, None, None)
