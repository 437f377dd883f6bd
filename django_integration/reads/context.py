"""
The context of a read: what its answer depends on besides its arguments, such as the tenant or the language.

    INVALIDATOR = {..., "KEY_CONTEXT": ["language", "shop.tenants.current_tenant"]}

Rule 1: a value that was loaded in one context is served in that one only. The context is asked for at each read, and is
a part of what the value is stored under, not of its key: a key, a tag and a row void the values of all contexts.
Rule 2: while there is no context, reads pay nothing for that there could be one.
Rule 3: nothing is guessed. A context that cannot be told (its function raises, or returns what has no text of its own)
is an error of the read, not a value of somebody else's.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.utils import timezone, translation

from invalidator import InvalidName
from invalidator.extending import LruContext, plain_key, within

from .. import runtime
from ..conf import CONTEXTS, conf
from ..transactions.progress import known
from ..transactions.schemas import is_in_a_coroutine, nothing_known, schemas
from . import arguments

MOST_TEXTS = 1_000
"""Of contexts, which are remembered; with one more, all are forgotten."""

_asking: ContextVar[bool] = ContextVar("invalidator_asking_for_context", default=False)

_KEPT = frozenset({str, int, bool, type(None)})
"""Types of which equal values have one text."""

Ask = Callable[[], Any]
"""Returns a part of the context of the calling thread or task."""


class Context(LruContext):
    """
    The context in force.

    Attributes:
        part: returns the text of the calling thread's or task's context; None while there is no context.
    """

    def begin(self) -> None:
        """Do as the settings say. When they cannot work, each read raises ImproperlyConfigured."""
        try:
            asks = asks_of(conf.key_context)
        except ImproperlyConfigured as error:
            self.part = _refusing(error)
        else:
            if schema not in asks and _is_of_tenants():
                asks.append(schema)
            if schemas.are_chosen:
                asks.append(schemas.here if _KNOWN_TO_NO_TENANT.issuperset(asks) else schemas.here_in_threads)
            self.part = _text_of(asks) if asks else None

    def end(self) -> None:
        """The settings have changed."""
        self.part = None


context = Context()


def in_context(key: str) -> str:
    """Return *key* in the context of the calling thread or task: a variant of it, if there is a context."""
    part = context.part
    return key if part is None else within(key, part())


def asks_of(setting: object) -> list[Ask]:
    """Return what *setting*, a value of KEY_CONTEXT, asks for. Raises ImproperlyConfigured when it cannot work."""
    each = setting if isinstance(setting, list | tuple) else () if setting is None else (setting,)
    return [_ask(one) for one in each]


def _refusing(error: ImproperlyConfigured) -> Callable[[], str]:
    def part() -> str:
        raise ImproperlyConfigured(str(error))

    return part


def _ask(one: Any) -> Ask:
    if isinstance(one, str):
        if one in CONTEXTS:
            return _KNOWN[one]
        try:
            found = pkgutil.resolve_name(one)
        except (ImportError, AttributeError, ValueError) as error:
            raise ImproperlyConfigured(f"INVALIDATOR['KEY_CONTEXT'] names {one!r}: {error}") from None
    else:
        found = one
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise ImproperlyConfigured(f"INVALIDATOR['KEY_CONTEXT'] names {one!r}, which is no function without arguments")
    return found  # type: ignore[no-any-return]


def _text_of(asks: Sequence[Ask]) -> Callable[[], str]:
    """Return what spells the context: it is called at each read."""
    texts: dict[tuple[tuple[Any, ...], tuple[type, ...]], str] = {}

    def part() -> str:
        if _asking.get():  # a function that finds the tenant may be cached itself
            return "asking"
        token = _asking.set(True)
        try:
            values = tuple([ask() for ask in asks])
        finally:
            _asking.reset(token)
        kinds = tuple(map(type, values))  # 1 and True are equal, and have two texts
        try:
            return texts[values, kinds]
        except (KeyError, TypeError):  # not known yet, or not hashable
            text = _spell(values)
            if _KEPT.issuperset(kinds):
                if len(texts) >= MOST_TEXTS:
                    texts.clear()
                texts[values, kinds] = text
            return text

    return part


def _spell(values: tuple[Any, ...]) -> str:
    try:
        return plain_key("", {"": values}, describe=arguments.describe)
    except InvalidName:
        kinds = ", ".join(type(value).__name__ for value in values)
        raise InvalidName(
            "a function of INVALIDATOR['KEY_CONTEXT'] has to return a string, a number, a row or a tuple of such; they "
            f"have returned {kinds}"
        ) from None


# What can be asked for by name.


def language() -> str:
    """The language in force; "" if translation is turned off."""
    return translation.get_language() or ""


def current_timezone() -> str:
    """The time zone in force."""
    return timezone.get_current_timezone_name()


def schema() -> str:
    """
    The schemas that a package for tenants has chosen on the connections of this thread; in a coroutine, which may use
    any connection, a text like no other unless all of one database are at one.
    """
    if not is_in_a_coroutine():
        return "".join(map(_schema_of, connections.all(initialized_only=True)))
    names = {connection.alias: _schema_of(connection) for connection in list(known)}
    is_sure = all(_schema_of(connection) == names[connection.alias] for connection in list(known))
    return "".join(sorted(names.values())) if is_sure else nothing_known()


def _schema_of(connection: Any) -> str:
    name = getattr(connection, "schema_name", None)  # of django-tenants and its relatives
    return f"{connection.alias}={name!r} " if isinstance(name, str) else ""


def _is_of_tenants() -> bool:
    """Whether such a package makes the connections."""
    return any(hasattr(connections[alias], "schema_name") for alias in connections)


def database() -> str:
    """The databases from which routers let each model be read: asks them for every model."""
    return " ".join(router.db_for_read(model) for model in apps.get_models(include_auto_created=True))


_KNOWN_TO_NO_TENANT = frozenset({language, current_timezone, schema, database})
"""Any other function is trusted to tell tenants in coroutines, where nobody knows which connection will be used."""

_KNOWN: Mapping[str, Ask] = {
    "language": language,
    "timezone": current_timezone,
    "schema": schema,
    "database": database,
}


def _begin_if_used() -> None:
    if runtime.made_bus() is not None:
        context.begin()


runtime.on_made(lambda bus: context.begin())
schemas.on_first.append(_begin_if_used)
runtime.on_reset(context.end)
