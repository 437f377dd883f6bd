"""The shop's pages, and the same as JSON."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from . import api, asynchronous, pages, rest

router = SimpleRouter()
router.register("products", rest.ProductViewSet)

urlpatterns = [
    path("", pages.server),
    path("products/<int:pk>", pages.save_price),
    path("flags/<slug:name>", pages.switch_flag),
    path("fleet", pages.fleet),
    path("api/copies", api.copies),
    path("api/products", api.products),
    path("api/products/<int:pk>", api.product),
    path("api/products/<int:pk>/labels", api.labels),
    path("api/products/<int:pk>/rollback", api.rollback),
    path("api/categories/<int:pk>", api.category),
    path("api/prices", api.prices),
    path("api/flags/<slug:name>", api.flag),
    path("api/status", api.status),
    path("api/invalidate", api.invalidate_names),
    path("api/server", api.server),
    path("api/fleet", api.fleet),
    path("api/fleet/save", api.fleet_save),
    path("rest/", include(router.urls)),
    path("async/products/<int:pk>", asynchronous.product),
]
