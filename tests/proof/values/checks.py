"""
What is true, and who was served something else.

The truth is what the same question answers without any cache: on the reader's own connection, inside its transaction,
and on a connection of the observer's for everybody outside.

Rule 1: a read is compared if nothing was committed between its beginning and its end, or waits to be published, and its
process has received everything. Whatever wrong it leaves in a cache is seen by a later look.
Rule 2: nothing is learned from the code under test but whether it keeps an answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.cache import caches
from django.db import DatabaseError, connection, connections
from django.utils import translation

from django_integration.backend import settling

from . import by_hand
from .doors import bare
from .plainly import outcome_of, said_by

if TYPE_CHECKING:
    from .actors import Actor
    from .doors import Question
    from .processes import Process
    from .world import World


class Violation(Exception):
    """Somebody was served something that is not true."""


class Seen(NamedTuple):
    """What the world was like when a read began."""

    moment: int
    is_quiet: bool


class Checks:
    """
    The checks of one world.

    Attributes:
        failure: the first thing that was not true.
        tasks: what second levels still have to be told.
        reads, compared, looks: how many there were.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.failure: Violation | None = None
        self.tasks: list[Any] = []
        self.reads = self.compared = self.looks = 0
        self._moment = 0  # grows whenever what is committed may change
        self._open_commits = 0  # operations that may have committed something that is not published yet
        self._truths: dict[str, Any] = {}
        self._truths_of = -1

    def fail(self, rule: str, text: str) -> None:
        """Something was not true. The world ends."""
        if self.failure is None:
            self.failure = Violation(f"{rule}: {text}")
            self.world.note(lambda: f"!! {rule}: {text}")

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Inside, something may be committed; at the end it is published."""
        self._moment += 1
        self._open_commits += 1
        try:
            yield
        finally:
            self._moment += 1
            self._open_commits -= 1

    def begin_read(self, process: Process) -> Seen:
        """Somebody in *process* begins to read."""
        self.reads += 1
        return self._seen(process)

    def _seen(self, process: Process) -> Seen:
        return Seen(self._moment, self._open_commits == 0 and not process.is_behind)

    # What somebody was served.

    def check_answer(self, actor: Actor, question: Question, said: Any, seen: Seen) -> None:
        """Compare what *question* answered to *actor* with the truth."""
        self.check(actor, str(question), said, question.truth, seen, mixes=question.inner is not None)

    def check(
        self, actor: Actor, what: str, said: Any, truth: Callable[[], Any], seen: Seen, *, mixes: bool = False
    ) -> None:
        """
        Compare what *actor* was served with the truth. In its own turn.

        Args:
            mixes: whether it may be made of a cached part, and of one that is as old as the transaction.
        """
        if not seen.is_quiet or self._seen(actor.process) != seen:
            return
        self.compared += 1
        with self.world.calm(), bare():
            outcome = outcome_of(truth)
            own = said_by(outcome)
        if outcome[0] == "raises" and isinstance(outcome[1], DatabaseError):
            return  # a transaction that is broken has no truth
        if said == own:
            return
        # On SQLite a transaction that has not written is as old as its beginning, and any read as old as a cursor that
        # an error has left open; what is cached is newer. (PostgreSQL and MariaDB read what is committed.)
        if not actor.wrote and connection.vendor == "sqlite" and (mixes or said == self._committed(truth)):
            return
        where = "inside its transaction" if actor.in_transaction else "outside of any transaction"
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
        with self.world.calm(), bare():
            thread.start()
            thread.join()
        return result[0]

    # What is kept.

    def look(self) -> None:
        """Compare everything that is kept, and would be served now outside of a transaction, with the truth."""
        if self._open_commits:
            return
        world = self.world
        self._settle()
        for process in world.processes.all:
            if not process.is_behind:
                world.processes.switch_to(process)
                with world.calm():
                    world.observer.call(lambda process=process: self._look_in(process))

    def _settle(self) -> None:
        """Tell second levels what they have to be told, as soon as everybody knows everything."""
        if self.tasks and not self._is_anybody_behind():
            with self.world.calm():
                tasks, self.tasks[:] = list(self.tasks), []
                self.world.observer.call(lambda: [settling._do_task(task) for task in tasks])

    def _is_anybody_behind(self) -> bool:
        return any(process.is_behind for process in self.world.processes.all)

    def _look_in(self, process: Process) -> None:
        translation.activate("en")
        for question in self.world.questions:
            if outcome_of(question.is_kept) == ("returns", True):
                self.looks += 1
                said = said_by(outcome_of(question.look))
                self._compare(process, question, said, lambda question=question: said_by(outcome_of(question.truth)))
        if self.world.setup.stock:
            for pk in self.world.stock:
                if not self.is_set_by_others(pk, None):
                    self._look_at_stock(process, pk)

    def _look_at_stock(self, process: Process, pk: int) -> None:
        key = by_hand.key_of(pk)
        for alias in by_hand.ALIASES:
            cache: Any = caches[alias]
            if cache._place.near.peek(cache.key_name(key)) is not None:
                said = cache.get(key)
                self._compare(process, f"{key!r} in caches[{alias!r}]", said, lambda: by_hand.amount_of(pk))
        below: Any = caches["two"]
        said = caches["shared"].get(below.key_name(key), by_hand.MISSING)
        if said != by_hand.MISSING and not self._is_anybody_behind():
            self._compare("the second level", repr(key), said, lambda: by_hand.amount_of(pk))

    def _compare(self, who: object, what: object, said: Any, truth: Callable[[], Any]) -> None:
        if self._truths_of != self._moment:
            self._truths.clear()
            self._truths_of = self._moment
        if str(what) not in self._truths:
            with bare():
                self._truths[str(what)] = truth()
        if said != self._truths[str(what)]:
            true = self._truths[str(what)]
            self.fail("kept", f"{who} keeps for {what}\n    {said}\n  and the truth is\n    {true}")

    def is_set_by_others(self, pk: int, actor: Actor | None) -> bool:
        """Whether another transaction than that of *actor* has set the key of that row of `Stock`, and not ended."""
        return any(pk in other.sets for other in self.world.actors if other is not actor)
