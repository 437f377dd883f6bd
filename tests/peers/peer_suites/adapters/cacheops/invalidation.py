"""cacheops' functions, by ours."""

from contextlib import ContextDecorator

from django.db.models import Model

from django_integration import bus, invalidate


def invalidate_obj(obj: Model, using: str = "default") -> None:
    """Invalidate what depends on this row."""
    invalidate(obj)


def invalidate_model(model: type[Model], using: str = "default") -> None:
    """Invalidate what depends on this model."""
    invalidate(model)


def invalidate_all() -> None:
    """Invalidate everything."""
    bus().clear()


class _NoInvalidation(ContextDecorator):
    """There is no counterpart: a write that is not published is what our app prevents."""

    def __enter__(self) -> None:
        raise NotImplementedError

    def __exit__(self, *_: object) -> None: ...


no_invalidation = _NoInvalidation()
