"""
The shop by Django REST framework: what its serializers make is cached, and its writes are ordinary saves.

No line in here names a key or a tag: a cached function depends on what it reads (docs/dependencies.md), and the view
set saves models as it always does.
"""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework import serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from django_integration import cache, cached

from .models import Category, Label, Product
from .worker import identity

Data = dict[str, Any]


class ProductSerializer(serializers.ModelSerializer):
    """A product, with its category and labels by their names."""

    category = serializers.SlugRelatedField(slug_field="name", queryset=Category.objects.all())
    labels = serializers.SlugRelatedField(slug_field="name", queryset=Label.objects.all(), many=True, required=False)

    class Meta:
        model = Product
        fields = ("id", "name", "price", "category", "labels")


def _rows() -> Any:
    return Product.objects.select_related("category").prefetch_related("labels")


@cached(ttl=300)
def product_data(pk: int) -> Data:
    """A product as its serializer shows it. Raises Product.DoesNotExist."""
    return dict(ProductSerializer(_rows().get(pk=pk)).data)


@cached(ttl=300)
def products_of(category: str) -> list[Data]:
    """The products of a category."""
    return [dict(shown) for shown in ProductSerializer(_rows().filter(category__name=category), many=True).data]


@cached(ttl=300)
def all_products() -> list[Data]:
    """All of them."""
    return [dict(shown) for shown in ProductSerializer(_rows(), many=True).data]


class ProductViewSet(viewsets.ModelViewSet):
    """Reads come from this worker's near cache; create, update and destroy are those of the framework."""

    queryset = Product.objects.all()
    serializer_class = ProductSerializer

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """All products, or with `?category=Office` those of a category."""
        category = request.query_params.get("category")
        read, arguments = (products_of, (category,)) if category else (all_products, ())
        return Response(_about(read, *arguments) | {"products": read(*arguments)})

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One product."""
        pk = int(kwargs["pk"])
        about = _about(product_data, pk)
        try:
            return Response(about | product_data(pk))
        except Product.DoesNotExist:
            raise Http404 from None


def _about(read: Any, *arguments: Any) -> Data:
    """The worker that answers, and where the value came from."""
    return {**identity(), "from": "cache" if read.key(*arguments) in cache else "database"}
