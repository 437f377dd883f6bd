"""Connects the app to Django at start. Starts nothing: `ready()` runs before preloading servers fork."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class InvalidatorConfig(AppConfig):
    """The app `django_integration`, label `invalidator`."""

    name = "django_integration"
    label = "invalidator"
    verbose_name = "Invalidator"

    def ready(self) -> None:
        """Watch writes, register the checks, and import `invalidation.py` of every app that has one."""
        from . import checks, compilers, l2, local_caches, signals, sql, transactions, verifier, writes
        from .tracking import hooks

        checks.register_all()
        transactions.install()
        l2.install()
        signals.connect()
        writes.install()
        compilers.install()
        sql.install()
        local_caches.install()
        verifier.install()
        hooks.install()
        autodiscover_modules("invalidation")
        signals.keep_rows()
