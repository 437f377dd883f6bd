"""`manage.py seed`: fill the shop's shelves."""

from typing import Any

from django.core.management.base import BaseCommand

from example_project.shop.seed import seed


class Command(BaseCommand):
    """See `seed.py`."""

    help = "Create the example's products and flags, where they are not there yet."

    def handle(self, *args: Any, **options: Any) -> None:
        """Seed."""
        seed()
