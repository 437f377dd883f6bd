"""
What happens where this app itself fails to name what was written: the write succeeds, and more becomes stale.

Rule 1: an error of ours ends at the fence. The names become those of the whole table and of all that depends on it; if
these cannot be told either, everything is invalidated.
Rule 2: these pass, because they are the application's. Errors of `@invalidates` functions: they are called outside of
fences. A broken setting. What strikes from outside, such as a time limit. And errors of the database, where it has
ended the transaction or the connection: only the application can begin another.
Rule 3: each kind of error is logged once for each model, with its traceback, not once for each write.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, InterfaceError, OperationalError, connections

from ..interrupts import is_interruption

if TYPE_CHECKING:
    from .names import Names
    from .plan import WritePlan

log = logging.getLogger(__name__)

MOST_LOGGED = 1000
"""Kinds of errors that are remembered; then it begins anew."""

_ERRORS_END_A_TRANSACTION = frozenset({"postgresql"})
"""Databases in which nothing works after an error until the transaction is rolled back."""

_logged: dict[tuple[str, type], None] = {}


class fence:  # noqa: N801 - reads as what it does: `with fence(names, plan): …`
    """
    Run code of ours that adds to *names*; if it fails, add everything that a write by *plan* could make stale.

    Args:
        plan: of the model that is written; None if that is not known, which stands for everything.
    """

    __slots__ = ("_names", "_plan")

    def __init__(self, names: Names, plan: WritePlan | None) -> None:
        self._names = names
        self._plan = plan

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> bool:
        if error is None:
            return False
        _add_coarsely(self._names, self._plan)
        if not isinstance(error, Exception) or is_interruption(error) or _is_the_application_s(error, self._plan):
            return False
        log_once(error, self._plan)
        return True


def log_once(error: Exception, plan: WritePlan | None) -> None:
    """Log *error*, unless one of its kind was logged for this model before (rule 3)."""
    label = plan.model._meta.label if plan is not None else "unknown"
    if (label, type(error)) in _logged:
        return
    if len(_logged) >= MOST_LOGGED:
        _logged.clear()
    _logged[label, type(error)] = None
    log.error("naming_failed model=%s error=%s", label, type(error).__name__, exc_info=error)


def _is_the_application_s(error: Exception, plan: WritePlan | None) -> bool:
    if isinstance(error, ImproperlyConfigured | InterfaceError | OperationalError):
        return True
    if not isinstance(error, Error) or plan is None:
        return False
    connection = connections[plan.using]
    return connection.in_atomic_block and connection.vendor in _ERRORS_END_A_TRANSACTION


def _add_coarsely(names: Names, plan: WritePlan | None) -> None:
    try:
        if plan is None:
            names.everything = True
        else:
            plan.add_coarsely(names)
    except Exception as error:  # noqa: BLE001 - rule 1
        log_once(error, None)
        names.everything = True
