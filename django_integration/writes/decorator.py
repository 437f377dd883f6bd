"""`@invalidates`: an application's own names for what depends on a row. `names/functions.py` keeps the functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.apps import apps
from django.db.models import Model

from ..names import functions
from ..names.functions import Function
from .receivers import keep_rows

F = TypeVar("F", bound=Function)


def invalidates(model: type[Model]) -> Callable[[F], F]:
    """
    Register a function that returns (or yields) the names depending on a row of *model*.

        @invalidates(Product)
        def product_pages(product):
            yield f"category:{product.category_id}"
            yield tag("prices")

    Names are keys (str), tags (`tag("prices")`), rows and models. With multi-table inheritance a parent's function
    is called for its children too. The function must be quick: it runs inside the writer's transaction, and its
    exceptions reach the writer.

    Raises:
        TypeError: *model* is not a model class with a table.
    """
    functions.check_model(model)

    def register(function: F) -> F:
        functions.add(model, function)
        if apps.models_ready:
            keep_rows()
        return function

    return register
