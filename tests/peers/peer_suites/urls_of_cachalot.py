"""The URLs that cachalot's test of the admin uses."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
