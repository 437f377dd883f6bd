"""The cache of `ContentType.objects`: by database, by id and by natural key, void when a content type changes."""

from __future__ import annotations

from typing import Any

from django.apps import apps

from ..patching import Patches
from .adapters import DoesNotFit, tag_of
from .mapping import CoherentDict, Reading

_MODELS = "django.contrib.contenttypes.models"

_reading = Reading()
patches = Patches("Local cache of django.contrib.contenttypes")
patches.value(
    f"{_MODELS}.ContentType.objects", "_cache", why="a dictionary that every server empties when a content type changes"
)


class ByDatabase(dict[str, CoherentDict]):
    """A dictionary for each database alias, made when it is first used."""

    def __init__(self, reading: Reading, tag: str) -> None:
        super().__init__()
        self._reading = reading
        self._tag = tag

    def __missing__(self, using: str) -> CoherentDict:
        return super().setdefault(using, CoherentDict(self._reading, self._tag))

    def setdefault(self, using: str, default: object = None) -> CoherentDict:
        """Return the dictionary of *using*, and never *default*."""
        return self[using]

    def clear(self) -> None:
        """Evict every item, in this process only."""
        for cache in self.values():
            cache.clear()


def install() -> None:
    """Give all managers of content types one cache. Those of migrations keep their own, which lasts for one command."""
    module: Any = apps.get_app_config("contenttypes").models_module
    cache = ByDatabase(_reading, tag_of(module.ContentType))
    managers = [
        manager
        for model in apps.get_models()
        if issubclass(model, module.ContentType)
        # The second are copies of the first, and the ones that applications use.
        for manager in (*model._meta.local_managers, *model._meta.managers)
        if isinstance(manager, module.ContentTypeManager)
    ]
    if not managers or not all(isinstance(manager.__dict__.get("_cache"), dict) for manager in managers):
        raise DoesNotFit("ContentType.objects has no dictionary _cache")
    patches.install()
    for manager in managers:
        manager._cache = cache  # noqa: SLF001 - there is no other way


for _name, _parameters in {
    "get_for_model": "self, model, for_concrete_model=True",
    "get_for_models": "self, *models, for_concrete_models=True",
    "get_for_id": "self, id",
    "get_by_natural_key": "self, app_label, model",
}.items():
    patches.around(f"{_MODELS}.ContentTypeManager", _name, _parameters, why="it uses `_cache`")(_reading.around)
