"""Every kind of relation, once."""

import uuid

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models

COLLATION = {"sqlite": "nocase", "postgresql": "C", "mysql": "utf8mb4_general_ci"}[connection.vendor]


class Cage(models.Model):
    """A plain model that others point at."""

    name = models.CharField(max_length=80, blank=True)

    def __str__(self) -> str:
        return self.name


class Food(models.Model):
    """The other side of a many-to-many relation."""

    name = models.CharField(max_length=80, blank=True)

    def __str__(self) -> str:
        return self.name


class Animal(models.Model):
    """Has a many-to-many relation; goes with its cage."""

    name = models.CharField(max_length=80, blank=True)
    weight = models.IntegerField(default=0)
    cage = models.ForeignKey(Cage, models.CASCADE, null=True)
    foods = models.ManyToManyField(Food)

    def __str__(self) -> str:
        return self.name


class Pet(Animal):
    """A proxy: another class, the same rows."""

    class Meta:
        proxy = True


class Note(models.Model):
    """Django deletes these without looking at them: nothing points here."""

    text = models.CharField(max_length=80, blank=True)
    cage = models.ForeignKey(Cage, models.CASCADE, null=True)

    def __str__(self) -> str:
        return self.text


class Photo(models.Model):
    """Stays when its cage goes, with no cage."""

    name = models.CharField(max_length=80, blank=True)
    cage = models.ForeignKey(Cage, models.SET_NULL, null=True)

    def __str__(self) -> str:
        return self.name


class Building(models.Model):
    """A parent by multi-table inheritance."""

    name = models.CharField(max_length=80, blank=True)

    def __str__(self) -> str:
        return self.name


class Aquarium(Building):
    """A child: its row is a row of Building, too."""

    litres = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.litres} l"


class Keeper(models.Model):
    """Linked to cages by rows of a model of their own."""

    name = models.CharField(max_length=80, blank=True)
    badge = models.IntegerField(null=True, unique=True)
    cages = models.ManyToManyField(Cage, through="Duty")

    def __str__(self) -> str:
        return self.name


class Duty(models.Model):
    """A through model with a column of its own."""

    keeper = models.ForeignKey(Keeper, models.CASCADE)
    cage = models.ForeignKey(Cage, models.CASCADE)
    day = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.keeper} {self.day}"


class Chip(models.Model):
    """A primary key that Python and the database write differently."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)

    def __str__(self) -> str:
        return f"{self.pk}"


class Word(models.Model):
    """A primary key that may be any text: as long as MariaDB can index, and longer than a name may be."""

    text = models.CharField(primary_key=True, max_length=700)
    day = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.text


class Seat(models.Model):
    """A primary key of two columns."""

    pk = models.CompositePrimaryKey("row", "number")
    row = models.IntegerField()
    number = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.row}-{self.number}"


class Ticket(models.Model):
    """Has an `@invalidates` function, see invalidation.py."""

    day = models.IntegerField(default=0)
    price = models.IntegerField(default=0)
    photo = models.ForeignKey(Photo, models.SET_NULL, null=True)

    def __str__(self) -> str:
        return f"day {self.day}"


class Exhibit(models.Model):
    """A parent with an `@invalidates` function."""

    hall = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"hall {self.hall}"


class Skeleton(Exhibit):
    """A child with one of its own."""

    bones = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.bones} bones"


class EvenField(models.IntegerField):
    """Stores something else than what Python sees."""

    def get_prep_value(self, value: int | None) -> int | None:
        return None if value is None else 2 * value


class Specimen(models.Model):
    """One column of every kind."""

    number = models.IntegerField(default=0)
    small = models.PositiveSmallIntegerField(default=0)
    alive = models.BooleanField(default=True)
    code = models.UUIDField(default=uuid.uuid4)
    found = models.DateField(null=True)
    changed = models.DateField(auto_now=True)
    name = models.CharField(max_length=80, blank=True)
    slug = models.SlugField(blank=True)
    cage = models.ForeignKey(Cage, models.CASCADE, null=True)
    word = models.ForeignKey(Word, models.CASCADE, null=True)
    tank = models.ForeignKey(Aquarium, models.CASCADE, null=True)
    rank = models.IntegerField(db_default=7)
    # What cannot be compared:
    long = models.CharField(max_length=300, blank=True)
    collated = models.CharField(max_length=80, blank=True, db_collation=COLLATION)
    text = models.TextField(blank=True)
    even = EvenField(default=0)
    weight = models.FloatField(default=0)
    price = models.DecimalField(max_digits=9, decimal_places=2, default=0)
    seen = models.DateTimeField(null=True)
    double = models.GeneratedField(
        expression=models.F("number") * 2, output_field=models.IntegerField(), db_persist=True
    )

    def __str__(self) -> str:
        return self.name


class Label(models.Model):
    """Sticks to a row of any model."""

    text = models.CharField(max_length=80, blank=True)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    labelled = GenericForeignKey()

    def __str__(self) -> str:
        return self.text


class Crate(models.Model):
    """Knows its labels, and takes them along."""

    labels = GenericRelation(Label, related_query_name="crate")

    def __str__(self) -> str:
        return f"crate {self.pk}"


if hasattr(models, "DB_CASCADE"):  # Django 6.1: the database itself follows a delete

    class Herd(models.Model):
        """Goes, and its members change, without Django's looking at them."""

        name = models.CharField(max_length=80, blank=True)

        def __str__(self) -> str:
            return self.name

    class Calf(models.Model):
        """Is deleted by the database when its herd is."""

        herd = models.ForeignKey(Herd, models.DB_CASCADE)

        def __str__(self) -> str:
            return f"calf {self.pk}"

    class Bell(models.Model):
        """Is deleted after its calf, and stays without a herd."""

        calf = models.ForeignKey(Calf, models.DB_CASCADE, null=True, related_name="+")
        herd = models.ForeignKey(Herd, models.DB_SET_NULL, null=True)

        def __str__(self) -> str:
            return f"bell {self.pk}"

    class Sound(models.Model):
        """Points at a bell, and changes with nobody."""

        bell = models.ForeignKey(Bell, models.DB_SET_NULL, null=True)

        def __str__(self) -> str:
            return f"sound {self.pk}"
