"""cacheops' settings, as far as they have a counterpart in ours."""

from typing import Any

from django.conf import settings as all_settings
from django.db.models import Model


class _Settings:
    def __getattr__(self, name: str) -> Any:
        return getattr(all_settings, name, name == "CACHEOPS_ENABLED")


settings = _Settings()


def model_profile(model: type[Model]) -> None:
    """There is no counterpart: the application decides what it caches."""
