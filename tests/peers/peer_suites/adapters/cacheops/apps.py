"""The app `cacheops`."""

from django.apps import AppConfig

from .query import install


class CacheopsConfig(AppConfig):
    """Query sets and managers can be cached."""

    name = "cacheops"

    def ready(self) -> None:
        """Give them the methods."""
        install()
