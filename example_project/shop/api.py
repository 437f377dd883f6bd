"""
The shop as JSON, for curl, tests and the fleet page.

No write in here knows of the cache: all are plain ORM saves, deletes and m2m changes. (`/api/invalidate` is the
one view that invalidates, because that is its subject.)

Exempt from CSRF protection, because it has no users and listens on the loopback interface only. What stands in its
place: bodies must be declared as JSON, which a form on a foreign page cannot do, and a script only if asked for.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from typing import Any, TypeAlias

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from django_integration import invalidate, tag

from . import fleet as servers
from . import reads
from .models import Category, Flag, Label, Product
from .worker import identity
from .worker import status as worker_status

Body: TypeAlias = dict[str, Any]
View: TypeAlias = Callable[..., object]


class BadRequest(Exception):
    """The request cannot be carried out; the message has what would be right."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


def endpoint(*methods: str) -> Callable[[View], Callable[..., HttpResponse]]:
    """Make a view of a function that returns something for JSON. Whatever goes wrong is answered as JSON, too."""

    def decorate(view: View) -> Callable[..., HttpResponse]:
        @csrf_exempt
        @functools.wraps(view)
        def call(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method not in methods:
                return _error(
                    f"{request.method} is not possible here, only {', '.join(methods)}", HTTPStatus.METHOD_NOT_ALLOWED
                )
            try:
                result = view(request, *args, **kwargs)
            except BadRequest as error:
                return _error(str(error), error.status)
            except (Product.DoesNotExist, Category.DoesNotExist, Flag.DoesNotExist) as error:
                return _error(str(error), HTTPStatus.NOT_FOUND)
            except ValidationError as error:
                return _error("; ".join(error.messages), HTTPStatus.BAD_REQUEST)
            return JsonResponse(result, safe=False)

        return call

    return decorate


def _error(message: str, status: HTTPStatus) -> HttpResponse:
    return JsonResponse({"error": message, **identity()}, status=status)


# ------------------------------------------------------------------------------------------------ products


@endpoint("GET", "POST")
def products(request: HttpRequest) -> object:
    """All products as this worker serves them; or a new one, `{"name": …, "price": …, "category": …}`."""
    if request.method == "GET":
        return [read.as_dict() for read in reads.products()]
    body = _body(request, {"name", "price", "category"}, required={"name", "price", "category"})
    row = Product()
    _apply(row, body)
    return reads.product(row.pk).as_dict()


@endpoint("GET", "POST", "DELETE")
def product(request: HttpRequest, pk: int) -> object:
    """One product as this worker serves it; or changed, by any of `name`, `price`, `category`; or deleted."""
    if request.method == "GET":
        return reads.product(pk).as_dict()
    row = Product.objects.get(pk=pk)
    if request.method == "DELETE":
        row.delete()
        return {"id": pk, "deleted": True, **identity()}
    _apply(row, _body(request, {"name", "price", "category"}))
    return reads.product(pk).as_dict()


@endpoint("POST")
def labels(request: HttpRequest, pk: int) -> object:
    """Put labels on a product and take labels off: `{"add": ["new"], "remove": ["sale"]}`."""
    body = _body(request, {"add", "remove"})
    row = Product.objects.get(pk=pk)
    with transaction.atomic():
        row.labels.add(*[Label.objects.get_or_create(name=name)[0] for name in _texts(body, "add")])
        row.labels.remove(*Label.objects.filter(name__in=_texts(body, "remove")))
    return reads.product(pk).as_dict()


@endpoint("POST")
def rollback(request: HttpRequest, pk: int) -> object:
    """Change a product in a transaction that is rolled back: no copy may be lost for it."""
    row = Product.objects.get(pk=pk)
    body = _body(request, {"name", "price", "category"})
    with transaction.atomic():
        _apply(row, body)
        transaction.set_rollback(True)
    return {**reads.product(pk).as_dict(), "rolled_back": True}


@endpoint("GET")
def category(request: HttpRequest, pk: int) -> object:
    """A category and the names of its products."""
    return reads.category(pk).as_dict()


@endpoint("GET")
def prices(request: HttpRequest) -> object:
    """The sum of all prices, an entry with the tag "prices"."""
    return reads.price_list().as_dict()


# --------------------------------------------------------------------------------------------------- flags


@endpoint("GET", "POST")
def flag(request: HttpRequest, name: str) -> object:
    """A feature flag as this worker serves it; or set, `{"enabled": true}`, or flipped, `{}`."""
    if request.method == "POST":
        row = Flag.objects.get(pk=name)
        row.enabled = _body(request, {"enabled"}, empty=True).get("enabled", not row.enabled)
        if not isinstance(row.enabled, bool):
            raise BadRequest('"enabled" must be true or false')
        row.save()
    return reads.flag(name).as_dict()


# ------------------------------------------------------------------- this worker, this server and the fleet


@endpoint("GET")
def copies(request: HttpRequest) -> object:
    """Everything this worker serves, and its status."""
    return servers.copies()


@endpoint("GET")
def status(request: HttpRequest) -> object:
    """This worker's bus (state, lease, listener) and the counters of its near cache."""
    return worker_status()


@endpoint("POST")
def invalidate_names(request: HttpRequest) -> object:
    """Call `invalidate()`: `{"keys": ["product:1"], "tags": ["prices"], "products": [1], "models": ["product"]}`."""
    body = _body(request, {"keys", "tags", "products", "models"})
    targets: list[Any] = [*_texts(body, "keys"), *(tag(name) for name in _texts(body, "tags"))]
    targets += Product.objects.filter(pk__in=body.get("products", ()))
    for name in _texts(body, "models"):
        try:
            targets.append(apps.get_model("shop", name))
        except LookupError as error:
            raise BadRequest(str(error)) from None
    receipt = invalidate(*targets)
    assert receipt is not None  # there is no transaction here
    return {"accepted": receipt.accepted, "id": receipt.id, **identity()}


@endpoint("GET")
def fleet(request: HttpRequest) -> object:
    """What every worker of every server serves, asked by this one."""
    return {**identity(), "workers": servers.ask_all()}


@endpoint("GET")
def server(request: HttpRequest) -> object:
    """What every worker of this server serves."""
    return {**identity(), "workers": servers.ask_here()}


@endpoint("POST")
def fleet_save(request: HttpRequest) -> object:
    """Save on one server, time all: `{"server": "app2", "path": "/api/products/1", "change": {"price": 5}}`."""
    body = _body(request, {"server", "path", "change"}, required={"server", "path", "change"})
    if body["server"] not in settings.FLEET:
        raise BadRequest(f"there is no server {body['server']!r}, only {', '.join(settings.FLEET)}")
    if not (isinstance(body["path"], str) and body["path"].startswith(("/api/products/", "/api/flags/"))):
        raise BadRequest('"path" must be that of a product or a flag, such as "/api/products/1"')
    if not isinstance(body["change"], dict):
        raise BadRequest('"change" must be an object, such as {"price": 5}')
    try:
        return servers.save_and_time(body["server"], body["path"], body["change"])
    except servers.Refused as refusal:
        raise BadRequest(str(refusal)) from None


# ------------------------------------------------------------------------------------------------- bad input


def _body(request: HttpRequest, known: set[str], *, required: set[str] = frozenset(), empty: bool = False) -> Body:  # type: ignore[assignment]
    """The request's JSON object, with nothing in it but *known* keys. Raises BadRequest."""
    if request.content_type != "application/json":
        raise BadRequest("send JSON, with the header Content-Type: application/json", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    try:
        body = json.loads(request.body or "{}")
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest(f"the body must be a JSON object with {_listed(known)}")
    if unknown := body.keys() - known:
        raise BadRequest(f"{_listed(unknown)} cannot be set here, only {_listed(known)}")
    if missing := required - body.keys():
        raise BadRequest(f"{_listed(missing)} is missing")
    if not body and not empty:
        raise BadRequest(f"the body is empty; set {_listed(known)}")
    return body


def _listed(names: set[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names))


def _texts(body: Body, name: str) -> list[str]:
    value = body.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise BadRequest(f'"{name}" must be a list of texts')
    return value


def _apply(row: Product, body: Body) -> None:
    if "name" in body:
        row.name = body["name"]
    if "price" in body:
        row.price = _price(body["price"])
    if "category" in body:
        row.category = Category.objects.get(name=body["category"])
    row.full_clean()
    row.save()


def _price(value: object) -> Decimal:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(InvalidOperation):
            price = Decimal(str(value))
            if price.is_finite():
                return price
    raise BadRequest(f'"price" must be a number such as 9.90, not {json.dumps(value)}')
