"""All URLs are the shop's."""

from django.urls import include, path

urlpatterns = [path("", include("example_project.shop.urls"))]
