"""Where cachalot's tables are made."""

from __future__ import annotations

from typing import Any

from django.db import connections


class OnlyOnPostgreSQL:
    """Keeps PostgreSQL's own types off other databases; cachalot's own router requires PostgreSQL."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        """See Django's documentation of routers."""
        is_special = model_name == "postgresmodel" or "extension" in hints
        return False if is_special and connections[db].vendor != "postgresql" else None
