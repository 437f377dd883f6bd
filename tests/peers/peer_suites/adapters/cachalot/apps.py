"""The app `cachalot`."""

from pathlib import Path

from django.apps import AppConfig

import cachalot.management  # type: ignore[import-not-found]

from . import queries


class CachalotConfig(AppConfig):
    """Its models, migrations and commands are cachalot's."""

    name = "cachalot"
    path = str(Path(cachalot.management.__path__[0]).parent)

    def ready(self) -> None:
        """Wrap what reads, outside of what this project wraps."""
        queries.read_through_cache()
