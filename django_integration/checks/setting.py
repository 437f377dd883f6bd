"""
System checks of the setting INVALIDATOR.

    invalidator.E001  the setting is missing, or not a dict
    invalidator.E002  a key is not known
    invalidator.E003  a key that must be there is missing
    invalidator.E004  a key has a value of the wrong kind
    invalidator.E005  the library refuses a value, such as a URL that cannot work
    invalidator.E006  KEY_CONTEXT names what cannot be imported, or is no function without arguments
    invalidator.W001  strict writes hold for so short a time that many a commit will be refused
    invalidator.W002  a pattern of MODELS matches no model
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from invalidator import InvalidatorError, InvalidSetting

from .. import conf, runtime
from ..names import closest_label, matches
from ..reads import context
from .asked import Apps, of_project

BOUNDS_PER_HOLD = 4
"""A quarter of a hold is kept for the commit; that should be a whole `MAX_STALENESS`, the pause this library reckons
with."""


@of_project
def check_setting(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """E001: there is a setting, and it is a dict."""
    return _errors("setting", "invalidator.E001")


@of_project
def check_known(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """E002: every key is known."""
    return _errors("unknown", "invalidator.E002")


@of_project
def check_missing(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """E003: the keys without a default are there."""
    return _errors("missing", "invalidator.E003")


@of_project
def check_values(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """E004: every value is of the right kind."""
    return _errors("value", "invalidator.E004")


@of_project
def check_library(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """E005: the library takes the values."""
    if conf.problems():
        return []  # reported by the checks above; the library would repeat it
    try:
        runtime.make_bus().close()
    except InvalidSetting as refusal:
        return [Error(f"{conf.SETTING}: {refusal}", hint=f"For example: {conf.EXAMPLE}", id="invalidator.E005")]
    except InvalidatorError:
        pass  # there is no sidecar: the values can work all the same, on another host or in a minute
    return []


@of_project
def check_context(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """E006: what KEY_CONTEXT names can be asked."""
    if conf.problems():
        return []
    try:
        context.asks_of(conf.conf.key_context)
    except ImproperlyConfigured as refusal:
        hint = (
            "A function of it takes no arguments and returns a string, a number, a row or a tuple of such. Known by "
            f"name are {', '.join(map(repr, conf.CONTEXTS))}."
        )
        return [Error(f"{refusal}.", hint=hint, id="invalidator.E006")]
    return []


@of_project
def check_hold(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W001: a strict write has time for its transaction."""
    if conf.problems() or conf.conf.writes != "strict":
        return []
    enough = BOUNDS_PER_HOLD * conf.conf.max_staleness
    if conf.conf.hold >= enough:
        return []
    return [
        checks.Warning(
            f"{conf.SETTING}['HOLD'] is {conf.conf.hold:g} s: a strict write that takes longer than three quarters of "
            "it is refused.",
            hint=f"Set it to {BOUNDS_PER_HOLD} times MAX_STALENESS, {enough:g}, or more; 30 is the default.",
            id="invalidator.W001",
        )
    ]


@of_project
def check_models(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W002: every pattern of MODELS means something."""
    if conf.problems():
        return []
    labels = {model._meta.label for model in apps.get_models(include_auto_created=True)}
    return [
        checks.Warning(
            f"{conf.SETTING}['MODELS'][{kind!r}]: no model is called {pattern!r}.",
            hint=_suggest_label(pattern, labels),
            id="invalidator.W002",
        )
        for kind, patterns in conf.conf.models.items()
        for pattern in patterns
        if not matches(pattern, labels)
    ]


def _suggest_label(pattern: str, labels: Iterable[str]) -> str:
    if (meant := closest_label(pattern, labels)) is not None:
        return f"Did you mean {meant!r}?"
    return 'Write it as "app_label.Model", or with wildcards as "app_label.*".'


def _errors(fault: conf.Fault, check_id: str) -> list[CheckMessage]:
    return [
        Error(problem.message, hint=problem.hint, id=check_id) for problem in conf.problems() if problem.fault == fault
    ]


ALL = (check_setting, check_known, check_missing, check_values, check_library, check_context, check_hold, check_models)
