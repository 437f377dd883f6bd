"""Connects the app to Django at start. Starts nothing: `ready()` runs before preloading servers fork."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules

from . import checks, first_request
from .backend import second_level
from .dependencies import hooks as reading
from .local_caches import adapters
from .monitoring import verifier
from .transactions import hooks as committing
from .transactions import in_tests
from .writes import raw_sql, receivers, saves, statements


class InvalidatorConfig(AppConfig):
    """The app `django_integration`, label `invalidator`."""

    name = "django_integration"
    label = "invalidator"
    verbose_name = "Invalidator"

    def ready(self) -> None:
        """Watch writes, register the checks, and import `invalidation.py` of every app that has one."""
        checks.register_all()
        committing.patches.install()
        in_tests.patches.install()
        second_level.install()
        receivers.connect()
        saves.patches.install()
        statements.patches.install()
        raw_sql.patches.install()
        adapters.install()
        verifier.install()
        reading.patches.install()
        first_request.install()
        autodiscover_modules("invalidation")
        receivers.keep_rows()
