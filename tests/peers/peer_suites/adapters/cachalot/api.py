"""cachalot's functions, by ours. A model has one name in all databases and caches, so aliases are ignored."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.apps import apps
from django.conf import settings
from django.db.models import Model

from django_integration import bus
from django_integration import invalidate as invalidate_ours

__all__ = ("cachalot_disabled", "get_last_invalidation", "invalidate")

_disabled: ContextVar[bool] = ContextVar("disabled", default=False)


def is_disabled() -> bool:
    """Whether queries are sent past the cache."""
    return _disabled.get() or not getattr(settings, "CACHALOT_ENABLED", True)


def invalidate(
    *tables_or_models: str | type[Model], cache_alias: str | None = None, db_alias: str | None = None
) -> None:
    """Invalidate these models; everything, if there are none."""
    if tables_or_models:
        invalidate_ours(*[_model(target) for target in tables_or_models])
    else:
        bus().clear()


def _model(target: str | type[Model]) -> type[Model]:
    if not isinstance(target, str):
        return target
    if "." in target:
        return apps.get_model(target)
    (model,) = (model for model in apps.get_models(include_auto_created=True) if model._meta.db_table == target)
    return model


def get_last_invalidation(*args: object, **kwargs: object) -> float:
    """There is no counterpart: the times in a ledger are those of its host's clock."""
    raise NotImplementedError


@contextmanager
def cachalot_disabled(all_queries: bool = False) -> Iterator[None]:
    """Send queries past the cache."""
    token = _disabled.set(True)
    try:
        yield
    finally:
        _disabled.reset(token)
