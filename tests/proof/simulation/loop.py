"""An event loop without time, whose next step somebody else chooses. Real asyncio tasks run in it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

OWNER: contextvars.ContextVar[Any] = contextvars.ContextVar("OWNER", default=None)
"""The process to which the running task belongs."""


class Handle:
    """Something that is ready to run."""

    def __init__(self, callback: Callable[..., object], args: tuple[object, ...], context: contextvars.Context) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self.owner = context.get(OWNER)
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def run(self) -> None:
        if not self.cancelled:
            self._context.run(self._callback, *self._args)


class SteppedLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as tasks and futures ask for."""

    def __init__(self) -> None:
        self.ready: list[Handle] = []

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        handle = Handle(callback, args, context or contextvars.copy_context())
        self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        """Never: nobody gives up waiting for a load here."""
        return Handle(callback, args, context or contextvars.copy_context())

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def begin(self, owner: object, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let a task of *owner* become ready."""
        context = contextvars.Context()  # of nobody's loader
        context.run(OWNER.set, owner)
        return asyncio.Task(coroutine, loop=self, context=context)

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tasks that are left behind at the end of a world are nothing to talk about."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Be the event loop of this thread."""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)

    @contextlib.contextmanager
    def another_thread(self) -> Iterator[None]:
        """The running task is left where it is, and others may go on."""
        task = asyncio.current_task(self)
        if task is None:
            yield
            return
        asyncio.tasks._leave_task(self, task)
        try:
            yield
        finally:
            asyncio.tasks._enter_task(self, task)


class Pause:
    """`await Pause()`: let others go on."""

    def __await__(self) -> Generator[None, None, None]:
        yield
