"""The shop, the admin, and the files that the admin shows: a real project has a server, or whitenoise, for those."""

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path

urlpatterns = [
    path("", include("example_project.shop.urls")),
    path("admin/", admin.site.urls),
    path("static/<path:path>", serve, {"insecure": True}),
]
