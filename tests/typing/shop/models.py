"""What is sold."""

from django.db import models


class Product(models.Model):
    """A thing with a price."""

    name = models.CharField(max_length=80)
    price = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.name
