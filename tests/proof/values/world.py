"""
The world of one seed: a shop, some processes with some threads, some questions, and what happens next.

A step lets one actor go on: with an operation that it has left, or with a new one. After each operation everything that
is kept anywhere, and would be served now, is compared with the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from django.contrib.contenttypes.models import ContentType
from django.core.cache import caches
from django.db import connection, connections

from django_integration.backend import settling
from invalidator import loads
from invalidator.link.memory import MemoryServer, close_server, open_server
from tests.proof.simulation.choices import Choices

from .actors import Actor
from .arguments import draw_argument, pks_of_models
from .checks import Checks, Violation
from .doors import DOORS, Lru, Question, bare, fits
from .models import Book, Detail, Item, Label, Maker, Note, Shelf, Stock, Supply
from .processes import Process, Processes
from .questions import BODIES
from .setup import Setup, draw_setup
from .turns import Thread, Turns
from .writes import fill

URL = "memory://values"
TABLES = (Note, Supply, Detail, Item.labels.through, Book, Item, Label, Shelf, Maker, Stock)


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
        self.turns = Turns()
        self.checks = Checks(self)
        self.operations = 0
        self.has_ended = False
        """Whether what went wrong did so after the last step."""
        self._calm = 0
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
            self.checks.look()

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
            self.checks.look()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self.checks.failure is not None:
            raise self.checks.failure

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
            patch.object(settling.settler, "add", self.checks.tasks.append),
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
