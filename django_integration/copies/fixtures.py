"""Objects of Django's that everybody shares, and objects that stand for others."""

from __future__ import annotations

from typing import Any

from django.core.files.storage import Storage
from django.db.models import Field
from django.db.models.expressions import BaseExpression
from django.db.models.fields.reverse_related import ForeignObjectRel
from django.db.models.options import Options
from django.db.models.query_utils import DeferredAttribute, Q
from django.utils.functional import LazyObject, Promise, cached_property, empty
from django.utils.safestring import SafeString

from invalidator.extending import Draft, Node, add_cached_property, add_kind, add_unchanging, as_it_is

_SHARED: tuple[type, ...] = (BaseExpression, DeferredAttribute, Field, ForeignObjectRel, Options, Promise, Q, Storage)
"""
Parts of models and of queries, and texts in the language of the moment. Nobody changes them: Django itself shares
expressions between a query set and its clones.
"""


def _draw_lazy(value: Any, draft: Draft, node: Node) -> Node | None:
    """What it stands for, as when it is pickled."""
    if value._wrapped is empty:  # noqa: SLF001 - there is no other way to look
        value._setup()  # noqa: SLF001
    return draft.node_of(value._wrapped)  # noqa: SLF001


try:
    from django.db.models.fetch_modes import FetchMode  # Django 6.1
except ImportError:
    pass
else:
    _SHARED = (*_SHARED, FetchMode)


def install() -> None:
    """Let the library know these kinds."""
    add_unchanging(SafeString)
    add_cached_property(cached_property)
    for kind in _SHARED:
        add_kind(kind, as_it_is)
    add_kind(LazyObject, _draw_lazy)
