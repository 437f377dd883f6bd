"""The app `cachalot`."""

from pathlib import Path

from django.apps import AppConfig

import cachalot.management  # type: ignore[import-not-found]

from . import queries


class CachalotConfig(AppConfig):
    """The app, with cachalot's models, migrations and commands."""

    name = "cachalot"
    path = str(Path(cachalot.management.__path__[0]).parent)

    def ready(self) -> None:
        """Wrap the methods that read, around the wrappers of this project."""
        queries.read_through_cache()
