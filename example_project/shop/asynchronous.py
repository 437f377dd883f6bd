"""Async views: coroutines read through the same near cache, and never hold up their event loop for a hit or a load."""

from __future__ import annotations

import asyncio
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET

from django_integration import cache, cached

from .models import Flag, Product
from .worker import identity


@cached(ttl=300)
async def product_card(pk: int) -> dict[str, Any]:
    """What a card of a product shows. Raises Product.DoesNotExist."""
    row = await Product.objects.select_related("category").aget(pk=pk)
    return {
        "id": row.pk,
        "name": row.name,
        "price": float(row.price),
        "category": row.category.name,
        "labels": [label.name async for label in row.labels.all()],
    }


@cached(ttl=300)
async def flags_on() -> list[str]:
    """The names of the flags that are on."""
    return [flag.name async for flag in Flag.objects.filter(enabled=True)]


@require_GET
async def product(request: HttpRequest, pk: int) -> JsonResponse:
    """A card of a product and the flags, both read at once."""
    source = "cache" if product_card.key(pk) in cache and flags_on.key() in cache else "database"
    try:
        card, flags = await asyncio.gather(product_card(pk), flags_on())
    except Product.DoesNotExist as error:
        return JsonResponse({"error": str(error), **identity()}, status=404)
    return JsonResponse({**card, "flags": flags, **identity(), "from": source})
