"""What `ContentType.objects` remembers: by database, by id and by natural key, void when a content type changes."""

from __future__ import annotations

from typing import Any

from django.apps import apps

from . import DoesNotFit, tag_of
from .mapping import CoherentDict, Reading


class ByDatabase(dict[str, CoherentDict]):
    """A dictionary for each database alias, made when it is asked for."""

    def __init__(self, reading: Reading, tag: str) -> None:
        super().__init__()
        self._reading = reading
        self._tag = tag

    def __missing__(self, using: str) -> CoherentDict:
        return super().setdefault(using, CoherentDict(self._reading, self._tag))

    def setdefault(self, using: str, default: object = None) -> CoherentDict:
        """The dictionary of *using*; never *default*."""
        return self[using]

    def clear(self) -> None:
        """Forget everything, here only."""
        for cache in self.values():
            cache.clear()


def install() -> None:
    """Give every manager of content types one memory. Those of migrations keep their own, which lasts one command."""
    from django.contrib.contenttypes.models import ContentType, ContentTypeManager

    reading = Reading()
    cache = ByDatabase(reading, tag_of(ContentType))
    models = [model for model in apps.get_models() if issubclass(model, ContentType)]
    managers = [
        manager
        for model in models
        # Those that Django has handed out are copies of the first.
        for manager in (*model._meta.local_managers, *model._meta.managers)
        if isinstance(manager, ContentTypeManager)
    ]
    if not managers or not all(isinstance(manager.__dict__.get("_cache"), dict) for manager in managers):
        raise DoesNotFit("ContentType.objects has no dictionary _cache")
    reading.around_each(ContentTypeManager, "get_for_model", "get_for_models", "get_for_id", "get_by_natural_key")
    for manager in managers:
        anything: Any = manager
        anything._cache = cache  # noqa: SLF001 - there is no other way
