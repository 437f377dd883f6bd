"""
`coherent_lru_cache` on this process' bus: a drop-in for `functools.lru_cache` whose `cache_clear` reaches every server.

    from django_integration import coherent_lru_cache  # instead of: from functools import lru_cache

Rule 1: `cache_clear` empties the cache of this process at once, and those of the others after the commit, like every
invalidation of this app.
Rule 2: a transaction that has written leaves nothing in it, unless all *tags* are those of tables and rows, so that
they say what a result is made of, and it has written something else (`transactions/view.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

import invalidator
from invalidator import CoherentLRU, Entry, Receipt, tag
from invalidator.extending import DEFAULT, TagsSpec, Ttl

from .. import runtime
from ..transactions.outgoing import invalidate
from ..transactions.view import TransactionView, is_declared
from .context import context

F = TypeVar("F", bound=Callable[..., Any])


@overload
def coherent_lru_cache(maxsize: F, typed: bool = ...) -> CoherentLRU[F]: ...
@overload
def coherent_lru_cache(
    maxsize: int | None = ...,
    typed: bool = ...,
    *,
    tags: TagsSpec = ...,
    ttl: Ttl = ...,
    name: str | None = ...,
) -> Callable[[F], CoherentLRU[F]]: ...
def coherent_lru_cache(
    maxsize: Any = 128,
    typed: bool = False,
    *,
    tags: TagsSpec = (),
    ttl: Ttl = DEFAULT,
    name: str | None = None,
    **unknown: Any,
) -> Any:
    """
    Decorate a function, sync or async, as `functools.lru_cache` does; options as for `invalidator.coherent_lru_cache`.

    Decorating starts nothing, so it is safe at import. Tags may be those of models: with `tags=[model_tag(Product)]`
    a saved product empties it everywhere.
    """
    return invalidator.coherent_lru_cache(
        maxsize,
        typed,
        bus=runtime.bus,
        tags=tags,
        ttl=ttl,
        name=name,
        invalidate=_publish_after_commit,
        source=_FunctionView(),
        context=context,
        **unknown,  # refused there
    )


class _FunctionView(TransactionView):
    """For results of a function whose reads are not recorded."""

    def knows_sources(self, entry: Entry[Any]) -> bool:
        """By the tags that it was given; the first two are those of the function and of the call."""
        return is_declared(entry.tags[2:])


def _publish_after_commit(*tags: str) -> Receipt | None:
    return invalidate(*map(tag, tags))
