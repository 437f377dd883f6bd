"""Names that became stale, collected until they are published, and never more than so many."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.apps import apps

from invalidator import Tag
from invalidator.extending import check_key

from .tags import unknown_rows_tag

MAX_NAMES = 100_000
"""
Names kept for one transaction, some 10 MB. Beyond it rows become unknown rows; if that is not enough, it is one clear,
and little is left in any cache by then.
"""


@dataclass(slots=True)
class Names:
    """Keys and tags in the order in which they were added, each once; `everything` stands for all there are."""

    keys: dict[str, None] = field(default_factory=dict)
    tags: dict[str, None] = field(default_factory=dict)
    everything: bool = False

    def __bool__(self) -> bool:
        return bool(self.everything or self.keys or self.tags)

    def __len__(self) -> int:
        return len(self.keys) + len(self.tags)

    def add_name(self, name: str | Tag) -> None:
        """Add a key or a tag. Raises InvalidName for an impossible key."""
        if isinstance(name, Tag):
            self.tags[name.name] = None
        else:
            self.keys[check_key(name)] = None
        self.bound()

    def update(self, other: Names) -> None:
        """Add all of *other*."""
        self.everything |= other.everything
        self.keys.update(other.keys)
        self.tags.update(other.tags)
        self.bound()

    def clear(self) -> None:
        """Forget all."""
        self.everything = False
        self.keys.clear()
        self.tags.clear()

    def bound(self) -> None:
        """Keep no more than MAX_NAMES; to be called after names were added to `keys` or `tags`."""
        if len(self) > MAX_NAMES:
            self.tags = _without_rows(self.tags)
            # Half: this is not to be done again for each of the next rows.
            self.everything |= len(self) > MAX_NAMES // 2
        if self.everything:
            self.keys.clear()
            self.tags.clear()


def _without_rows(tags: Iterable[str]) -> dict[str, None]:
    """*tags*, in which all tags of rows and columns of a model have become the one of unknown rows."""
    unknown = {model._meta.label_lower: unknown_rows_tag(model) for model in apps.get_models(include_auto_created=True)}
    coarse = dict.fromkeys(tags)
    for name in tags:
        label = re.split(r"[:\[]", name, maxsplit=1)[0]
        if label in unknown and name != label:
            del coarse[name]
            coarse[unknown[label]] = None
    return coarse
