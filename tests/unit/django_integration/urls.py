"""The admin, and the status page once more under a path of the project's own."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("caches/", include("django_integration.urls")), path("admin/", admin.site.urls)]
