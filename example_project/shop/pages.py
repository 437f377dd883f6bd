"""
The pages: the copies of one server's workers, and of all servers side by side.

The forms save models, and that is all they do.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from . import fleet as servers
from .models import Flag, Product
from .worker import identity


@require_GET
def server(request: HttpRequest) -> HttpResponse:
    """What each worker of this server serves, from where, and how old it is."""
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
    return _saved()


@require_POST
def switch_flag(request: HttpRequest, name: str) -> HttpResponse:
    """Flip a feature flag from the page's form."""
    flag = get_object_or_404(Flag, pk=name)
    flag.enabled = not flag.enabled
    flag.save()
    return _saved()


def _saved() -> HttpResponse:
    # The page that follows may be made by another worker, and must show the new value: it names the worker that saved.
    return redirect(f"/?saved_by={settings.WORKER}")


@require_GET
def fleet(request: HttpRequest) -> HttpResponse:
    """All servers side by side."""
    context = {**_about(), "here": "fleet", "width": "wide", "answers": servers.ask_all()}
    return render(request, "shop/fleet.html", context)


def _server_page(request: HttpRequest, *, problem: str = "", status: int = 200) -> HttpResponse:
    answers = servers.ask_here()
    saved_by = request.GET.get("saved_by", "")
    context = {
        **_about(),
        "answers": answers,
        "products": _rows(answers, "products", "id"),
        "flags": _rows(answers, "flags", "name"),
        "saved_by": saved_by if saved_by.isdecimal() else "",
        "problem": problem,
    }
    return render(request, "shop/server.html", context, status=status)


def _about() -> dict[str, Any]:
    return {**identity(), "fleet": settings.FLEET}


def _rows(answers: list[servers.Answer], what: str, key: str) -> list[dict[str, Any]]:
    """One row for each product or flag, with the copy of each worker; None where a worker has none."""
    found: dict[Any, dict[str, Any]] = {}
    for answer in answers:
        found |= {read[key]: read for read in answer.get(what, ())}
    by_worker = [{read[key]: read for read in answer.get(what, ())} for answer in answers]
    return [{**row, "copies": [reads.get(identifier) for reads in by_worker]} for identifier, row in found.items()]
