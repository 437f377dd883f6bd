"""The shop as a Django app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The app `shop`."""

    name = "example_project.shop"
    label = "shop"
