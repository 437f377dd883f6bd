"""
The status page under a path of the project's own, for staff:

    path("admin/caches/", include("django_integration.urls")),  # before the admin's own line

The admin has it anyway, see `admin.py`. Needs `django.contrib.admin`, whose look and login it takes.
"""

from __future__ import annotations

from django.urls import path

from .views import status

app_name = "invalidator"
urlpatterns = [path("", status, name="status")]
