"""
The doors to a cache, behind each of which a question can be put.

A door answers (`ask`), and says without asking whether it would answer from a near cache (`is_kept`): so what is kept
can be looked at without storing anything.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import caches
from django.template import Context, Template

from django_integration import cache, cached, coherent_lru_cache, tag
from django_integration.backend import NearCacheBackend

from .arguments import Argument
from .kinds import happens
from .questions import Body
from .settings import MODELS

TAGS = [tag(f"values.{model}") for model in MODELS]
_MISSING = object()


class Bare:
    """Whether questions are answered without any cache: then what they say is the truth."""

    def __init__(self) -> None:
        self._depth = 0

    def __bool__(self) -> bool:
        return self._depth > 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


bare = Bare()


class Question:
    """
    A body behind a door, with an argument.

    Args:
        number: of this question, in this world.
        inner: another question, which the body asks, too.
        twin: a question of the same function, with another argument.
    """

    door = ""
    is_async = False
    shares = False
    """Whether all callers are handed one object: then nobody may change it."""
    has_context = True
    """Whether KEY_CONTEXT is part of the key."""

    takes_twins = False

    def __init__(
        self,
        number: int,
        body: Body,
        argument: Argument | None,
        inner: Question | None = None,
        twin: Question | None = None,
    ) -> None:
        self.number = number
        self.body = body
        self.argument = argument
        self.inner = inner
        self.twin = twin
        self.open()

    def __str__(self) -> str:
        about = f" {self.argument.text}" if self.argument else ""
        inside = f" + <{self.inner}>" if self.inner else ""
        return f"q{self.number}[{self.door}: {self.body}{about}{inside}]"

    def open(self) -> None:
        """Make the door."""

    def answer(self, *args: Any) -> Any:
        """The body, and the answer of the inner question."""
        value = self.body.function(*args)
        if self.inner is None:
            return value
        return {"own": value, "inner": self.inner.truth() if bare else self.inner.ask(False)}

    def truth(self) -> Any:
        """The answer without any cache, for what the database has."""
        with bare():
            return self.answer(*([self.argument.true()] if self.argument else []))

    def ask(self, is_changed: bool) -> Any:
        """Ask, with an argument that was changed in memory if *is_changed*."""
        return self.ask_with(*([self.argument.given(is_changed)] if self.argument else []))

    def ask_with(self, *args: Any) -> Any:
        """Ask through the door."""
        raise NotImplementedError

    def is_kept(self) -> bool:
        """Whether a near cache has an answer that it would give now to a caller outside of any transaction."""
        raise NotImplementedError

    def look(self) -> Any:
        """That answer."""
        return self.ask(False)

    @property
    def key(self) -> str:
        """A key of its own, for doors that take one."""
        return self.twin.key if self.twin else f"q{self.number}"


class Cached(Question):
    """`@cached`."""

    door = "cached"
    takes_twins = True
    options: ClassVar[dict[str, Any]] = {"ttl": 300}

    def open(self) -> None:
        if isinstance(self.twin, Cached):
            self.function = self.twin.function
            return
        function = self._function()
        if not happens("keys"):  # else all share a name
            function.__qualname__ = f"question_{self.number}"
        self.function = cached(**self.options)(function)

    def _function(self) -> Any:
        def without() -> Any:
            return self.answer()

        def with_one(argument: Any) -> Any:
            return self.answer(argument)

        return with_one if self.argument else without

    def ask_with(self, *args: Any) -> Any:
        return self.function(*args)

    def is_kept(self) -> bool:
        args = (self.argument.given(False),) if self.argument else ()
        return cache.peek(self.function._key(args, {})) is not None


class Templated(Cached):
    """`@cached` with a template, the same for all functions."""

    door = "cached(key=…)"
    options: ClassVar[dict[str, Any]] = {"key": "page:{argument}"}


class AsyncCached(Cached):
    """`@cached` on a coroutine function."""

    door = "async cached"
    is_async = True

    def _function(self) -> Any:
        async def function(*args: Any) -> Any:
            return await sync_to_async(self.answer)(*args)

        async def without() -> Any:
            return await function()

        async def with_one(argument: Any) -> Any:
            return await function(argument)

        return with_one if self.argument else without

    def ask_with(self, *args: Any) -> Any:
        return async_to_sync(self.function)(*args)


class GetOrSet(Question):
    """`cache.get_or_set`."""

    door = "get_or_set"

    def ask_with(self, *args: Any) -> Any:
        return cache.get_or_set(self.key, lambda: self.answer(*args))

    def is_kept(self) -> bool:
        return cache.peek(self.key) is not None


class AsyncGetOrSet(GetOrSet):
    """`await cache.aget_or_set`."""

    door = "aget_or_set"
    is_async = True

    def ask_with(self, *args: Any) -> Any:
        return async_to_sync(cache.aget_or_set)(self.key, sync_to_async(lambda: self.answer(*args)))

    def look(self) -> Any:
        return cache.get(self.key)


class GetThenSet(GetOrSet):
    """`cache.get`, and `cache.set` with the tags of all models."""

    door = "get, set"

    def ask_with(self, *args: Any) -> Any:
        value = cache.get(self.key, _MISSING)
        if value is _MISSING:
            value = self.answer(*args)
            cache.set(self.key, value, tags=TAGS)
        return value


class Backend(Question):
    """`get_or_set` of Django's cache, where each entry has the tags of all models."""

    door = "backend get_or_set"
    has_context = False

    @property
    def near(self) -> NearCacheBackend:
        found = caches["default"]
        assert isinstance(found, NearCacheBackend)
        return found

    def ask_with(self, *args: Any) -> Any:
        return self.near.get_or_set(self.key, lambda: self.answer(*args))

    def is_kept(self) -> bool:
        return self.near._place.near.peek(self.near.key_name(self.key)) is not None


class BackendGetSet(Backend):
    """`get`, then `set`."""

    door = "backend get, set"

    def ask_with(self, *args: Any) -> Any:
        value = self.near.get(self.key, _MISSING)
        if value is _MISSING:
            value = self.answer(*args)
            self.near.set(self.key, value)
        return value


class BackendGetManySetMany(Backend):
    """`get_many`, then `set_many`."""

    door = "backend get_many, set_many"

    def ask_with(self, *args: Any) -> Any:
        found = self.near.get_many([self.key, "no such key"])
        if self.key not in found:
            found[self.key] = self.answer(*args)
            self.near.set_many(found)
        return found[self.key]


class AsyncBackend(Backend):
    """`aget_or_set`."""

    door = "backend aget_or_set"
    is_async = True

    def ask_with(self, *args: Any) -> Any:
        return async_to_sync(self.near.aget_or_set)(self.key, sync_to_async(lambda: self.answer(*args)))

    def look(self) -> Any:
        return self.near.get(self.key)


class Lru(Question):
    """`coherent_lru_cache` with the tags of all models. Its results are shared, as those of functools."""

    door = "lru"
    shares = True
    has_context = False

    def open(self) -> None:
        def function(*args: Any) -> Any:
            return self.answer(*args)

        self.function = coherent_lru_cache(maxsize=8, tags=TAGS, name=f"lru{self.number}")(function)

    def ask_with(self, *args: Any) -> Any:
        return self.function(*args)

    def is_kept(self) -> bool:
        results = self.function._open()
        args = [self.argument.given(False)] if self.argument else []
        key = args[0] if args and type(args[0]) in (int, str) else _lru_key(args)
        return results.peek(key) is not None


def _lru_key(args: list[Any]) -> Any:
    return functools._make_key(tuple(args), {}, False)


class InTemplate(Question):
    """`{% cached %}`, and what is in it is text."""

    door = "{% cached %}"
    takes_twins = True

    def open(self) -> None:
        on = " argument" if self.argument else ""
        self.template = Template(
            f'{{% load invalidator %}}{{% cached "{self.key}" 300{on} %}}{{{{ said }}}}{{% endcached %}}'
        )

    def ask_with(self, *args: Any) -> Any:
        context = Context({"argument": args[0] if args else None})
        # What stands for the argument inside is the row as it was read anew.
        context["said"] = lambda: self._said(context["argument"] if args else _MISSING)
        return self.template.render(context)

    def _said(self, argument: Any) -> str:
        return repr(self.answer(*([] if argument is _MISSING else [argument])))

    def truth(self) -> Any:
        with bare():
            args = [self.argument.true()] if self.argument else []
            return Template("{{ said }}").render(Context({"said": repr(self.answer(*args))}))

    def is_kept(self) -> bool:
        return False  # its key is nobody's business; who asks, sees


DOORS: tuple[type[Question], ...] = (
    Cached,
    GetOrSet,
    Backend,
    GetThenSet,
    BackendGetSet,
    BackendGetManySetMany,
    Lru,
    InTemplate,
    Templated,
    AsyncCached,
    AsyncGetOrSet,
    AsyncBackend,
)


def fits(door: type[Question], body: Body, argument: Argument | None) -> bool:
    """Whether that question can be put behind that door."""
    if body.kind == "context" and not door.has_context:
        return False
    if issubclass(door, GetOrSet | Backend | Lru) and argument is not None and not argument.is_plain:
        return False  # what the application makes of its own row is its own affair
    if issubclass(door, Templated):
        return argument is not None and argument.is_plain
    if issubclass(door, Lru):
        return body.is_plain
    if issubclass(door, InTemplate):
        return body.is_plain and body.takes != "model"  # a template calls what can be called
    return True
