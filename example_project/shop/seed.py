"""What the shop sells when it opens. Running it again changes nothing."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction

from .models import Category, Flag, Label, Product

PRODUCTS = (
    ("Espresso cups", "24.00", "Kitchen", ("new",)),
    ("Kettle", "49.90", "Kitchen", ()),
    ("Bread knife", "32.50", "Kitchen", ("sale",)),
    ("Desk lamp", "79.00", "Office", ("new", "sale")),
    ("Notebook", "6.40", "Office", ()),
)
STAFF = "staff"
"""Name and password of the user of the admin."""
FLAGS = ("free-shipping", "new-checkout")


@transaction.atomic
def seed() -> None:
    """Create the products, their categories and labels, the flags, and the admin's user, if they are not there yet."""
    if not User.objects.filter(username=STAFF).exists():
        User.objects.create_superuser(STAFF, password=STAFF)
    for name, price, category, labels in PRODUCTS:
        row, created = Product.objects.get_or_create(
            name=name, defaults={"price": price, "category": Category.objects.get_or_create(name=category)[0]}
        )
        if created:
            row.labels.set([Label.objects.get_or_create(name=label)[0] for label in labels])
    for flag in FLAGS:
        Flag.objects.get_or_create(name=flag)
