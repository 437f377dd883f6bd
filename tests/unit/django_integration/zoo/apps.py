"""The app of the tests."""

from django.apps import AppConfig


class ZooConfig(AppConfig):
    """Label `zoo`."""

    name = "tests.unit.django_integration.zoo"
    label = "zoo"
