"""
How a row is cloned: its columns and annotations, its state, and the related rows that its loader has loaded.

A clone has its own `__dict__` and its own `_state`, and so have the rows that are kept in them: what `select_related`
and `prefetch_related` have loaded, or what the loader has followed itself. What a reader follows later is kept by the
reader's own clone, and is a query of its own, as for any row from the database.

Rule 1: no code of a model runs for its clones: neither `__init__`, nor `__reduce__`, nor signals. A row of a migration,
whose model is in no registry, is cloned like any other.
Rule 2: what points back at its row, such as a file, points at the clone.
Rule 3: rows that fetch for each other (`FETCH_PEERS`, Django 6.1) have their fellow clones for peers.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

from django.db.models import Model
from django.db.models.base import ModelState
from django.db.models.fields.files import FieldFile

from invalidator.extending import Draft, Node, add_kind, add_parts, attributes_of


def _draw_row(row: Model, draft: Draft, node: Node) -> Node:
    draft.object(node, type(row), vars(row).copy())
    draft.slots(node, row)
    peers = getattr(row._state, "peers", ())
    if peers:
        draft.finish_together(id(peers), _make_peers, node)
    return node


_PREFETCHED = "_prefetched_objects_cache"


def _draw_state(state: ModelState, draft: Draft, node: Node) -> Node:
    attributes = vars(state).copy()
    attributes.pop("peers", None)
    if not attributes.get("fields_cache"):
        attributes.pop("fields_cache", None)  # Django makes one when it needs one
    return draft.object(node, type(state), attributes)


def _make_peers(*rows: Model) -> None:
    peers = [ref(row) for row in rows]
    for row in rows:
        row._state.peers = peers  # Django 6.1


def _draw_file(file: FieldFile, draft: Draft, node: Node) -> Node:
    """Without what was opened: an open file is its reader's."""
    attributes = {name: value for name, value in vars(file).items() if name not in ("file", "_file")}
    return draft.object(node, type(file), attributes)


def _parts_of_row(row: Model) -> list[tuple[str, Any]]:
    """Columns and annotations, and the related rows that are kept in it."""
    own = dict(attributes_of(row))
    own.pop("_state", None)
    prefetched = own.pop(_PREFETCHED, {})
    # The name of a file becomes an object when somebody looks at it.
    columns = [(name, value.name if issubclass(type(value), FieldFile) else value) for name, value in own.items()]
    return [*columns, *row._state.fields_cache.items(), *prefetched.items()]


def _is_column(row: Model, name: str) -> bool:
    """A deferred one is loaded when it is first looked at."""
    return any(name == field.attname for field in row._meta.concrete_fields)


def install() -> None:
    """Let the library know rows."""
    add_kind(Model, _draw_row)
    add_kind(ModelState, _draw_state)
    add_kind(FieldFile, _draw_file)
    add_parts(Model, _parts_of_row, _is_column)
