"""
How a query set is cloned: with its rows, if it has been evaluated, and with a query of its own.

Rule 1: a query set that was not evaluated is each reader's to evaluate. Only a cache that keeps a query set as Django's
caches do, by evaluating it, evaluates it before (`Draft.fetch`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db.models import Prefetch, QuerySet
from django.db.models.query import RawQuerySet
from django.db.models.sql import Query, RawQuery

from invalidator.extending import Draft, Node, add_kind, add_parts, as_it_is


def _draw_query_set(rows: Any, draft: Draft, node: Node) -> Node:
    if draft.fetch:
        rows._fetch_all()  # noqa: SLF001 - as Django does when it pickles one
    draft.object(node, type(rows), vars(rows).copy())
    draft.slots(node, rows)
    return node


def _draw_query(query: Query, draft: Draft, node: Node) -> Node:
    # Django changes a query in place while it is compiled, and by a filter that was put off (`_deferred_filter`).
    return draft.build(node, query.chain().chain)


def _draw_raw_query(query: RawQuery, draft: Draft, node: Node) -> Node:
    # Without its cursor.
    return draft.build(node, partial(type(query), query.sql, query.using, query.params))


def _parts_of_query_set(rows: Any) -> list[tuple[str, Any]]:
    """Its rows, if it has any."""
    return [] if rows._result_cache is None else [("_result_cache", rows._result_cache)]  # noqa: SLF001


def install() -> None:
    """Let the library know query sets."""
    for kind in (QuerySet, RawQuerySet):
        add_kind(kind, _draw_query_set)
        add_parts(kind, _parts_of_query_set)
    add_kind(Query, _draw_query)
    add_kind(RawQuery, _draw_raw_query)
    add_kind(Prefetch, as_it_is)
