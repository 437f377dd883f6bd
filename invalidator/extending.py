"""
For integrations: what `django_integration` needs of this library beyond what an application does.

An integration makes near caches coherent with a framework, an ORM or another cache, without a line in the application.
docs/extending.md explains the parts and shows a small integration; in short:

- The **source**: a `SourceView` knows how the calling thread or task sees the database, and learns what it reads.
- **Copies**: `keep` and `hand_out`; `add_kind` and a `Draft` for kinds of objects of the framework's own; `add_parts`,
  `add_shared_kind`, `add_unchanging` and `add_cached_property`.
- **Functions**: `CachedFunction` with a `Front`, `plain_key`, `within` and `ABOUT_TO_LOAD`, to decorate before a cache
  exists; `decorate`, `check_options` and `refuse_unknown` for a decorator's options.
- **Writes to a cache**: `WritableCache`, whose operations distinguish a fill from a `Change`.
- **Observing**: an `Observer` sees what callers of a near cache hit, miss and load.
- **Names**: `check_key`, `check_tag`, `check_tags`, `check_tags_spec` and `name_slots`.
- **Options**: `OPTIONS`, each an `Option` with its default and its `Check`; `CONFIG_OPTIONS` are those of an
  `Invalidator`.
- **Time**: `now_ns`, the clock by which entries are loaded.
- **Forks**: `FreshLock`, `FreshRLock`, `register_for_forks` and `on_fork_in_child`.

What is here is public: a change of it is in the changelog.
"""

from .config import CONFIG_OPTIONS, OPTIONS, Check, Option
from .copying import (
    COPIES,
    Copy,
    Draft,
    Kept,
    Node,
    add_cached_property,
    add_kind,
    add_parts,
    add_shared_kind,
    add_unchanging,
    as_it_is,
    attributes_of,
    clone_watchers,
    hand_out,
    keep,
    may_do_io,
    parts_of,
)
from .decorator import ABOUT_TO_LOAD, Front, check_options, check_tags_spec, decorate, refuse_unknown
from .forks import ForkOwner, FreshLock, FreshRLock, on_fork_in_child, register_for_forks
from .keys import Describe, KeySpec, TagsSpec, plain_key
from .ledger import now_ns
from .loaded import DEFAULT, Ttl, check_ttl
from .lru import LruContext
from .names import check_key, check_tag, check_tags, name_slots
from .observer import AsyncLoader, Loader, Observer
from .requirements import LEAST_HIREDIS, version_numbers
from .source import SourceView
from .variants import name_of, within
from .weak_list import WeakList
from .writable_cache import Change, WritableCache

__all__ = [
    "ABOUT_TO_LOAD",
    "CONFIG_OPTIONS",
    "COPIES",
    "DEFAULT",
    "LEAST_HIREDIS",
    "OPTIONS",
    "AsyncLoader",
    "Change",
    "Check",
    "Copy",
    "Describe",
    "Draft",
    "ForkOwner",
    "FreshLock",
    "FreshRLock",
    "Front",
    "Kept",
    "KeySpec",
    "Loader",
    "LruContext",
    "Node",
    "Observer",
    "Option",
    "SourceView",
    "TagsSpec",
    "Ttl",
    "WeakList",
    "WritableCache",
    "add_cached_property",
    "add_kind",
    "add_parts",
    "add_shared_kind",
    "add_unchanging",
    "as_it_is",
    "attributes_of",
    "check_key",
    "check_options",
    "check_tag",
    "check_tags",
    "check_tags_spec",
    "check_ttl",
    "clone_watchers",
    "decorate",
    "hand_out",
    "keep",
    "may_do_io",
    "name_of",
    "name_slots",
    "now_ns",
    "on_fork_in_child",
    "parts_of",
    "plain_key",
    "refuse_unknown",
    "register_for_forks",
    "version_numbers",
    "within",
]
