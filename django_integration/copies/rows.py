"""
How a row is cloned: its columns and annotations, its state, and the related rows that its loader has loaded.

A clone has its own `__dict__` and its own `_state`, and so have the rows that are kept in them: what `select_related`
and `prefetch_related` have loaded, or what the loader has followed itself. What a reader follows later is kept by the
reader's own clone, and is a query of its own, as for any row from the database.

Rule 1: no code of a model runs for its clones: neither `__init__`, nor `__reduce__`, nor signals. A row of a migration,
whose model is in no registry, is cloned like any other.
Rule 2: what points back at its row points at the clone. A file of a `FileField` is its name again, as in a fresh row.
Rule 3: rows that fetch for each other (`FETCH_PEERS`, Django 6.1) have their fellow clones for peers.
"""

from __future__ import annotations

import functools
from typing import Any
from weakref import ref

from django.db.models import Model
from django.db.models.base import ModelState
from django.db.models.fields.files import FieldFile, FileDescriptor

from invalidator.extending import Draft, Node, add_kind, add_parts, attributes_of


def _draw_row(row: Model, draft: Draft, node: Node) -> Node:
    attributes = _without_files(row, vars(row).copy())
    if _PREFETCHED in attributes:
        attributes[_PREFETCHED] = dict(attributes[_PREFETCHED])
    draft.object(node, type(row), attributes)
    draft.slots(node, row)
    peers = getattr(row._state, "peers", ())
    if peers:
        draft.finish_together(id(peers), _make_peers, node)
    return node


_PREFETCHED = "_prefetched_objects_cache"


def _draw_state(state: ModelState, draft: Draft, node: Node) -> Node:
    attributes = vars(state).copy()
    attributes.pop("peers", None)
    if related := attributes.pop("fields_cache", None):
        attributes["fields_cache"] = dict(related)
    return draft.object(node, type(state), attributes)


def _make_peers(*rows: Model) -> None:
    peers = [ref(row) for row in rows]
    for row in rows:
        row._state.peers = peers  # Django 6.1


@functools.lru_cache(maxsize=4096)
def _file_columns(model: type[Model]) -> tuple[str, ...]:
    """The columns of which the model's own descriptors make objects that point back at their row."""
    names = [field.attname for field in model._meta.concrete_fields]
    return tuple(name for name in names if isinstance(getattr(model, name, None), FileDescriptor))


def _without_files(row: Model, attributes: dict[str, Any]) -> dict[str, Any]:
    """*attributes* of *row* with the names of its files, of which its descriptors make others for the clone."""
    for name in _file_columns(type(row)):
        file = attributes.get(name)
        if not isinstance(file, FieldFile) or file.instance is not row:
            continue
        if vars(file).get("_committed"):  # else it is not in its storage
            attributes[name] = file.name
    return attributes


def _draw_file(file: FieldFile, draft: Draft, node: Node) -> Node:
    """Elsewhere than in its row. An open file is its reader's."""
    attributes = {name: value for name, value in vars(file).items() if name not in ("file", "_file")}
    return draft.object(node, type(file), attributes)


def _parts_of_row(row: Model) -> list[tuple[str, Any]]:
    """Columns and annotations, and the related rows that are kept in it."""
    own = _without_files(row, dict(attributes_of(row)))
    own.pop("_state", None)
    prefetched = own.pop(_PREFETCHED, {})
    return [*own.items(), *row._state.fields_cache.items(), *prefetched.items()]


def _is_column(row: Model, name: str) -> bool:
    """A deferred one is loaded when it is first looked at."""
    return any(name == field.attname for field in row._meta.concrete_fields)


def install() -> None:
    """Let the library know rows."""
    add_kind(Model, _draw_row)
    add_kind(ModelState, _draw_state)
    add_kind(FieldFile, _draw_file)
    add_parts(Model, _parts_of_row, _is_column)
