"""A shop with every kind of relation, small enough that everybody meets in the same few rows."""

from __future__ import annotations

from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Maker(models.Model):
    """Found by a unique column, too."""

    code = models.CharField(max_length=10, unique=True)
    name = models.CharField(max_length=10)

    def __str__(self) -> str:
        return self.name


class Shelf(models.Model):
    """Points at its own kind."""

    name = models.CharField(max_length=10)
    parent = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="children")

    def __str__(self) -> str:
        return self.name


class Label(models.Model):
    """The other side of a many-to-many relation."""

    name = models.CharField(max_length=10)

    def __str__(self) -> str:
        return self.name


class Translated(models.QuerySet):  # type: ignore[type-arg]
    """Has a state of its own, as packages for translations and tenants have."""

    language = "en"

    def lang(self, language: str) -> Translated:
        """In that language."""
        chosen = self._chain()
        chosen.language = language
        return chosen

    def _clone(self) -> Translated:
        clone = super()._clone()
        clone.language = self.language
        return clone


class Item(models.Model):
    """What everything turns around."""

    name = models.CharField(max_length=10)
    price = models.IntegerField(default=0)
    maker = models.ForeignKey(Maker, models.CASCADE)
    shelf = models.ForeignKey(Shelf, models.SET_NULL, null=True, blank=True)
    sizes = models.JSONField(default=list)
    picture = models.FileField(upload_to="pictures", blank=True)
    labels = models.ManyToManyField(Label)
    suppliers = models.ManyToManyField(Maker, through="Supply", related_name="supplied")
    notes = GenericRelation("Note")

    objects = models.Manager.from_queryset(Translated)()

    def __str__(self) -> str:
        return self.name


class Book(Item):
    """Its row is a row of Item, too."""

    pages = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}, {self.pages} pages"


class CheapManager(models.Manager):  # type: ignore[type-arg]
    """Leaves rows out by a column."""

    def get_queryset(self) -> models.QuerySet[Any, Any]:
        return super().get_queryset().filter(price__lt=2)


class Cheap(Item):
    """A proxy: another class, some of the same rows."""

    objects = CheapManager()

    class Meta:
        proxy = True

    def __str__(self) -> str:
        return self.name


class Detail(models.Model):
    """One for each item, at most."""

    item = models.OneToOneField(Item, models.CASCADE)
    text = models.CharField(max_length=10)

    def __str__(self) -> str:
        return self.text


class Supply(models.Model):
    """A through model with a column of its own."""

    item = models.ForeignKey(Item, models.CASCADE)
    maker = models.ForeignKey(Maker, models.CASCADE)
    amount = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.amount}"


class Note(models.Model):
    """Sticks to a row of any model."""

    text = models.CharField(max_length=10)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    about = GenericForeignKey()

    def __str__(self) -> str:
        return self.text


class Stock(models.Model):
    """What the application itself keeps in Django's cache, under a key of its own: see `by_hand.py`."""

    amount = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.amount}"
