"""Other processes to measure with: spawned (nothing inherited), asked and answering over a pipe."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

PATIENCE_S = 30.0
"""How long we wait for an answer that comes at once, before the benchmark fails."""


class Child:
    """
    A process that runs *main* with its end of a pipe and *arguments*, until it receives None or the pipe ends.

    Its first message means that it is ready.
    """

    def __init__(self, main: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=main, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        self.answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # it is gone, and its own message has the reason
            self._pipe.send(None)
        self._process.join(PATIENCE_S)
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def ask(self, question: object = True) -> Any:
        """Send *question* and return the answer."""
        self._pipe.send(question)
        return self.answer()

    def answer(self) -> Any:
        """Return the next message. Raises TimeoutError, or EOFError if the process has ended."""
        if not self._pipe.poll(PATIENCE_S):
            raise TimeoutError(f"{self._process.name} does not answer")
        return self._pipe.recv()


def questions(pipe: Connection) -> Iterator[Any]:
    """In the child: iterate over what the parent sends, until None or its end."""
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        if question is None:
            return
        yield question
