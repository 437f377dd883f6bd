"""
The world of one seed: a shop, some processes with some threads, some questions, and what happens next.

A step lets one actor go on: with an operation that it has left, or with a new one. After each operation everything that
is kept anywhere, and would be served now, is compared with the truth.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, NamedTuple
from unittest.mock import patch

from django.contrib.contenttypes.models import ContentType
from django.core.cache import caches
from django.db import DatabaseError, connection, connections
from django.utils import translation

from django_integration.backend import settling
from invalidator import loads
from invalidator.link.memory import MemoryServer, close_server, open_server
from tests.proof.simulation.choices import Choices

from . import by_hand
from .actors import Actor
from .arguments import draw_argument, pks_of_models
from .doors import DOORS, Lru, Question, bare, fits
from .kinds import happens
from .models import Book, Detail, Item, Label, Maker, Note, Shelf, Stock, Supply
from .plainly import outcome_of, said_by
from .processes import Process, Processes
from .questions import BODIES
from .setup import Setup, draw_setup
from .turns import Thread, Turns
from .writes import fill

URL = "memory://values"
TABLES = (Note, Supply, Detail, Item.labels.through, Book, Item, Label, Shelf, Maker, Stock)


class Violation(Exception):
    """Somebody was served something that is not true."""


class Seen(NamedTuple):
    """What the world was like when a read began."""

    moment: int
    is_quiet: bool


class World:
    """
    Everything there is.

    Args:
        choices: what is left to chance.
        traced: whether to keep a trace.
    """

    def __init__(self, choices: Choices, *, traced: bool = False) -> None:
        choices.begin_step()
        self.choices = choices
        self.setup: Setup = draw_setup(choices)
        self.trace: list[str] = []
        self.traced = traced
        self.failure: Violation | None = None
        self.turns = Turns()
        self.moment = 0
        """Grows whenever what is committed may change."""
        self.open_commits = 0
        """How many operations may have committed something that is not published yet."""
        self.reads = self.checked = self.looks = self.operations = 0
        self.has_ended = False
        """Whether what went wrong did so after the last step."""
        self._calm = 0
        self._tasks: list[Any] = []
        self._truths: dict[tuple[str, str], Any] = {}
        self._truths_of = -1
        self.actors: list[Actor] = []
        self.server = open_server("values", MemoryServer())
        self.observer = Thread(self.turns, "observer")
        with self.calm():
            self.observer.call(self._populate)
        names = [f"p{i + 1}" for i in range(self.setup.processes)]
        lrus = [question.function for question in self.questions if isinstance(question, Lru)]
        with self.calm():
            self.processes = Processes(names, URL, self.may_be_left, lrus=lrus, prompt=self.setup.prompt)
            for number in range(self.setup.threads + self.setup.processes - 1):
                process = self.processes.all[max(0, number - self.setup.threads + 1)]
                self.processes.switch_to(process)
                self.actors.append(Actor(self, f"t{number + 1}/{process.name}", process))

    def _populate(self) -> None:
        clear_tables()
        fill()
        pks = pks_of_models()
        self.stock = list(Stock.objects.order_by("pk").values_list("pk", flat=True))
        self.questions: list[Question] = []
        for number in range(1, self.setup.questions + 1):
            question = self._draw_question(number, pks)
            self.questions.append(question)
            if question.takes_twins and question.argument is not None and self.choices.draw(2):
                argument = draw_argument(self.choices, question.body, pks)
                if fits(type(question), question.body, argument):
                    self.questions.append(
                        type(question)(100 + number, question.body, argument, question.inner, question)
                    )

    def _draw_question(self, number: int, pks: Any, *, is_inner: bool = False) -> Question:
        choices = self.choices
        body = choices.pick(BODIES)
        argument = draw_argument(choices, body, pks)
        doors = [
            door for door in DOORS if fits(door, body, argument) and not (is_inner and (door.is_async or door.shares))
        ]
        door = choices.pick(doors)
        inner = None
        if not is_inner and choices.draw(5) == 4:
            inner = self._draw_question(10 * number, pks, is_inner=True)
            if not door.has_context and inner.body.kind == "context":
                inner = None
        return door(number, body, argument, inner)

    # Turns.

    @contextmanager
    def calm(self) -> Iterator[None]:
        """Nobody is left in the middle of anything, and nothing fails."""
        self._calm += 1
        try:
            yield
        finally:
            self._calm -= 1

    @property
    def is_calm(self) -> bool:
        """Whether whoever has the turn is one of the world's own, or about to draw something."""
        return self._calm > 0 or bool(bare)

    def may_be_left(self, where: str) -> None:
        """Whoever has the turn may be left here."""
        if not self.is_calm and self.turns.current is not None and self.choices.one_in(self.setup.leave_one_in):
            name = self.turns.current.name
            self.note(lambda: f"  {name} is left {where}")
            self.turns.give_back()

    def note(self, text: Callable[[], str]) -> None:
        """Add a line to the trace."""
        if self.traced:
            self.trace.append(text())

    # What is committed.

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Inside, something may be committed; at the end it is published."""
        self.moment += 1
        self.open_commits += 1
        try:
            yield
        finally:
            self.moment += 1
            self.open_commits -= 1

    @contextmanager
    def rolling_back(self) -> Iterator[None]:
        """Inside, something is rolled back."""
        yield

    @contextmanager
    def watched(self, actor: Actor) -> Iterator[Seen]:
        """Inside, *actor* reads."""
        self.reads += 1
        yield self._seen(actor.process)

    def _seen(self, process: Process) -> Seen:
        return Seen(self.moment, self.open_commits == 0 and not process.is_behind)

    def is_set_by_others(self, pk: int, actor: Actor | None) -> bool:
        """Whether another transaction than that of *actor* has set the key of that row, and not ended."""
        return any(pk in other.sets for other in self.actors if other is not actor)

    # Checks.

    def may_read(self, actor: Actor, question: Question) -> bool:
        """Whether this world's kinds allow that read."""
        return happens("tx") or not actor.wrote

    def check_answer(self, actor: Actor, question: Question, said: Any, seen: Seen) -> None:
        """Compare what *question* answered to *actor* with the truth."""
        self.check(actor, str(question), said, question.truth, seen, mixes=question.inner is not None)

    def check(
        self,
        actor: Actor,
        what: str,
        said: Any,
        truth: Callable[[], Any],
        seen: Seen,
        *,
        mixes: bool = False,
        is_query: bool = False,
    ) -> None:
        """
        Compare what *actor* was served with the truth. In its own turn.

        Args:
            mixes: whether it may be made of a cached part, and of one that is as old as the transaction.
            is_query: whether it was a query of its own, which may be as old as its transaction.
        """
        if not seen.is_quiet or self._seen(actor.process) != seen:
            return
        self.checked += 1
        in_transaction = actor.in_transaction
        with self.calm(), bare():
            outcome = outcome_of(truth)
            own = said_by(outcome)
        if outcome[0] == "raises" and isinstance(outcome[1], DatabaseError):
            return  # a transaction that is broken has no truth
        if said == own:
            return
        if not actor.wrote and connection.vendor == "sqlite":
            # As old as its transaction, or as a cursor that an error has left open; or as new as the cache.
            # (PostgreSQL and MariaDB read what is committed.)
            if mixes:
                return
            if said == self._committed(truth):
                return
        where = "inside its transaction" if in_transaction else "outside of any transaction"
        self.fail("served", f"{actor.name}, {where}, was served by {what}\n    {said}\n  and the truth is\n    {own}")

    def _committed(self, truth: Callable[[], Any]) -> Any:
        """The truth for whoever is in no transaction."""
        result: list[Any] = []
        context, language = copy_context(), translation.get_language()

        def ask() -> None:
            translation.activate(language)
            result.append(said_by(outcome_of(truth)))
            connections.close_all()

        thread = threading.Thread(target=lambda: context.run(ask))
        with self.calm(), bare():
            thread.start()
            thread.join()
        return result[0]

    def fail(self, rule: str, text: str) -> None:
        """Somebody was served something wrong. The world ends."""
        if self.failure is None:
            self.failure = Violation(f"{rule}: {text}")
            self.note(lambda: f"!! {rule}: {text}")

    def look(self) -> None:
        """Compare everything that is kept, and would be served now outside of a transaction, with the truth."""
        if self.open_commits:
            return
        self._settle()
        for process in self.processes.all:
            if not process.is_behind:
                self.processes.switch_to(process)
                with self.calm():
                    self.observer.call(lambda process=process: self._look_in(process))

    def _settle(self) -> None:
        """What the second level still has to be told, as soon as everybody knows everything."""
        if self._tasks and not any(process.is_behind for process in self.processes.all):
            with self.calm():
                tasks, self._tasks[:] = list(self._tasks), []
                self.observer.call(lambda: [settling._do_task(task) for task in tasks])

    def _look_in(self, process: Process) -> None:
        translation.activate("en")
        for question in self.questions:
            if outcome_of(question.is_kept) != ("returns", True):
                continue
            self.looks += 1
            said = said_by(outcome_of(lambda question=question: question.look()))
            truth = self._truth(str(question), lambda question=question: said_by(outcome_of(question.truth)))
            if said != truth:
                self.fail("kept", f"{process.name} keeps for {question}\n    {said}\n  and the truth is\n    {truth}")
        if self.setup.stock:
            self._look_at_stock(process)

    def _look_at_stock(self, process: Process) -> None:
        for pk in self.stock:
            if self.is_set_by_others(pk, None):
                continue
            truth = self._truth(f"stock {pk}", lambda pk=pk: by_hand.amount_of(pk))
            key = by_hand.key_of(pk)
            for alias in by_hand.ALIASES:
                cache: Any = caches[alias]
                entry = cache._place.near.peek(cache.key_name(key))
                if entry is not None and (said := cache.get(key)) != truth:
                    self.fail(
                        "kept", f"{process.name} keeps {key!r} in caches[{alias!r}]: {said}; the truth is {truth}"
                    )
            if not any(other.is_behind for other in self.processes.all):
                said = caches["shared"].get(caches["two"].key_name(key), truth)  # type: ignore[attr-defined]
                if said != truth:
                    self.fail("second level", f"it has {key!r}: {said}; the truth is {truth}")

    def _truth(self, key: str, ask: Callable[[], Any]) -> Any:
        if self._truths_of != self.moment:
            self._truths.clear()
            self._truths_of = self.moment
        if (key, "en") not in self._truths:
            with bare():
                self._truths[key, "en"] = ask()
        return self._truths[key, "en"]

    # Life.

    def run(self, steps: int) -> None:
        """Let *steps* steps pass, or as many as the plan has, and then an end. Raises Violation."""
        with self._patched():
            try:
                for _ in range(steps):
                    if self.choices.over:
                        break
                    self.choices.begin_step()
                    self._step()
                self._finish()
            finally:
                self._close()

    def _step(self) -> None:
        behind = [process for process in self.processes.all if process.is_behind]
        able = [actor for actor in self.actors if actor.thread.can_go_on()]
        who = self.choices.pick([*able, *behind])
        if isinstance(who, Process):
            self.note(lambda: f"{who.name} receives")
            with self.calm():
                self.processes.switch_to(who)
                who.receive()
        else:
            self._let_go_on(who)
        self._raise_failure()

    def _let_go_on(self, actor: Actor, operation: Callable[[], object] | None = None) -> None:
        self.processes.switch_to(actor.process)
        if actor.thread.busy:
            self.note(lambda: f"  {actor.name} goes on")
            actor.thread.go_on()
        else:
            actor.thread.begin(operation or actor.operate)
        if not actor.thread.busy:
            self.operations += 1
            self._raise_failure()
            self.look()

    def _finish(self) -> None:
        self.has_ended = True
        self.choices.begin_step()
        with self.calm():
            while busy := [actor for actor in self.actors if actor.thread.busy]:
                able = [actor for actor in busy if actor.thread.can_go_on()]
                if not able:
                    raise Violation(f"deadlock: {', '.join(actor.name for actor in busy)} wait for each other")
                self._let_go_on(able[0])
            for actor in self.actors:
                self._let_go_on(actor, actor.finish)
            for process in self.processes.all:
                self.processes.switch_to(process)
                process.receive()
            self.look()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    @contextmanager
    def _patched(self) -> Iterator[None]:
        """Whoever waits for another's load gives its turn back."""
        wait, wait_async = loads.Load.wait, loads.Load.wait_async

        def wait_in_turns(load: loads.Load, *given: Any) -> Any:
            self.turns.wait_until(load._result.done)
            return wait(load, *given)

        async def wait_async_in_turns(load: loads.Load, *given: Any) -> Any:
            self.turns.wait_until(load._result.done)  # this loop has nothing else to do
            return await wait_async(load, *given)

        with (
            patch.object(loads.Load, "wait", wait_in_turns),
            patch.object(loads.Load, "wait_async", wait_async_in_turns),
            patch.object(settling.settler, "add", self._tasks.append),
        ):
            yield

    def _close(self) -> None:
        self._calm += 1
        for actor in self.actors:
            self.processes.switch_to(actor.process)
            actor.close()
        self.observer.call(connections.close_all)
        self.observer.close()
        self.processes.close()
        caches["shared"].clear()
        close_server("values")


def clear_tables() -> None:
    """Delete all rows."""
    ContentType.objects.clear_cache()
    with connection.cursor() as cursor, connection.constraint_checks_disabled():
        for model in TABLES:
            cursor.execute(f"DELETE FROM {model._meta.db_table}")
        if connection.vendor == "sqlite":
            cursor.execute("DELETE FROM sqlite_sequence")
