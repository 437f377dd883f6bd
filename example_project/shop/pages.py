"""
The pages: one server's own copies, and all servers side by side.

The forms save models, and that is all they do.
"""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from django_integration import bus, cache

from . import fleet as servers
from . import reads
from .models import Flag, Product


@require_GET
def server(request: HttpRequest) -> HttpResponse:
    """What this server serves, from where, and how old it is."""
    return _server_page(request)


@require_POST
def save_price(request: HttpRequest, pk: int) -> HttpResponse:
    """Save a new price from the page's form."""
    product = get_object_or_404(Product, pk=pk)
    product.price = request.POST.get("price", "")
    try:
        product.full_clean()
    except ValidationError as error:
        return _server_page(request, problem=f"{product.name}: {'; '.join(error.messages)}", status=400)
    product.save()
    return redirect("/")


@require_POST
def switch_flag(request: HttpRequest, name: str) -> HttpResponse:
    """Flip a feature flag from the page's form."""
    flag = get_object_or_404(Flag, pk=name)
    flag.enabled = not flag.enabled
    flag.save()
    return redirect("/")


@require_GET
def fleet(request: HttpRequest) -> HttpResponse:
    """All servers side by side."""
    return render(
        request,
        "shop/fleet.html",
        {
            "server": settings.SERVER_NAME,
            "fleet": settings.FLEET,
            "here": "fleet",
            "answers": servers.ask_all("/api/copies"),
        },
    )


def _server_page(request: HttpRequest, *, problem: str = "", status: int = 200) -> HttpResponse:
    context = {
        "server": settings.SERVER_NAME,
        "fleet": settings.FLEET,
        # "from" and "cache" are no names to Django's templates.
        "products": [_row(read) for read in reads.products()],
        "flags": [_row(read) for read in reads.flags()],
        "bus": bus().status().as_dict(),
        "stats": cache.stats().as_dict(),
        "problem": problem,
    }
    return render(request, "shop/server.html", context, status=status)


def _row(read: reads.Read) -> dict[str, object]:
    row = read.as_dict()
    return {**row, "source": row["from"]}
