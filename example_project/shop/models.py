"""Ordinary models. Nothing in here knows of a cache."""

from django.core.validators import MinValueValidator
from django.db import models


class Category(models.Model):
    """Where a product is found."""

    name = models.CharField(max_length=80, unique=True)

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class Label(models.Model):
    """A word on a product, such as "new"."""

    name = models.CharField(max_length=40, unique=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    """What is sold."""

    name = models.CharField(max_length=80)
    price = models.DecimalField(max_digits=8, decimal_places=2, validators=[MinValueValidator(0)])
    category = models.ForeignKey(Category, on_delete=models.CASCADE, related_name="products")
    labels = models.ManyToManyField(Label, blank=True, related_name="products")

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return self.name


class Flag(models.Model):
    """A feature flag, known by its name."""

    name = models.SlugField(primary_key=True)
    enabled = models.BooleanField(default=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return f"{self.name}: {'on' if self.enabled else 'off'}"
