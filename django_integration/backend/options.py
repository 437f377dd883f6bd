"""
The OPTIONS of an alias: which there are, and which cannot work.

Django reads two of them itself, MAX_ENTRIES and CULL_FREQUENCY. What a second level needs is checked where it is made
(`SecondLevel.of`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from invalidator import InvalidName
from invalidator.extending import COPIES, check_tags

_KNOWN = frozenset(
    {"MAX_ENTRIES", "CULL_FREQUENCY", "COPY", "DEPENDENCIES", "L2", "NEAR_TIMEOUT", "TAGS", "TRANSACTIONS"}
)
_YES_OR_NO = ("DEPENDENCIES", "TRANSACTIONS")
_NOT_WITH_L2 = {"TAGS": "which knows no tags", "DEPENDENCIES": "whose values no change of a model would reach"}

Options = Mapping[str, Any]


def check_options(options: Options) -> None:
    """Raise ImproperlyConfigured if one of *options* is not known, or cannot work."""
    if unknown := sorted(options.keys() - _KNOWN):
        raise ImproperlyConfigured(
            f"OPTIONS {', '.join(unknown)} of NearCacheBackend are not known; known are: {', '.join(sorted(_KNOWN))}"
        )
    copying = options.get("COPY", "clone")
    if copying not in COPIES:
        raise _refusal("COPY", f"must be one of {', '.join(COPIES)}, not {copying!r}")
    for name in _YES_OR_NO:
        if not isinstance(options.get(name, False), bool):
            raise _refusal(name, f"must be True or False, not {options[name]!r}")
    tags_in(options)
    for name, why in _NOT_WITH_L2.items():
        if options.get(name) and options.get("L2"):
            raise _refusal(name, f"cannot go with L2, {why}")


def tags_in(options: Options) -> tuple[str, ...]:
    """Return the tags that every entry carries. Raises ImproperlyConfigured if one cannot be a tag."""
    try:
        return check_tags(options.get("TAGS", ()))
    except InvalidName as refusal:
        raise _refusal("TAGS", str(refusal)) from None


def _refusal(name: str, why: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"OPTIONS[{name!r}] of NearCacheBackend: {why}")
