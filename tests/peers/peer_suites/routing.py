"""Where cachalot's tables are made."""

from __future__ import annotations

from typing import Any

from django.db import connections


class OnlyOnPostgreSQL:
    """Keeps what PostgreSQL alone knows from other databases; cachalot's own router takes one for granted."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        """See Django."""
        is_special = model_name == "postgresmodel" or "extension" in hints
        return False if is_special and connections[db].vendor != "postgresql" else None
