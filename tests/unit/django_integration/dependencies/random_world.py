"""
Random queries, random writes: is everything that became stale invalidated, and how much that did not?

A world has a few rows of every kind of model, and a number of cached queries drawn from a grammar. After each write
every query is asked again, past the cache: a cached result that is served and differs is stale, which must never be.
One that was invalidated and does not differ was needless; they are counted, beside those of a cache that knows tables
only.

`python -m tests.proof.torture --deps` plays worlds without end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import Count, Exists, F, Max, Model, OuterRef, Prefetch, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Upper

from django_integration import cache, runtime
from django_integration.dependencies import recorder as recorders
from django_integration.reads.default_cache import default_cache

from ..zoo.models import (
    Animal,
    Aquarium,
    Building,
    Cage,
    Chip,
    Duty,
    Food,
    Keeper,
    Note,
    Pet,
    Photo,
    Ticket,
)

NAMES = ("", "a", "b", "c", "B", "é")
NUMBERS = (0, 1, 2, 3)
QUERIES = 24
WRITES = 40

Query = Callable[[], Any]


@dataclass
class Tally:
    """What was seen."""

    writes: int = 0
    looked_at: int = 0
    changed: int = 0
    stale: list[str] = field(default_factory=list)
    voided: int = 0
    needless: int = 0
    needless_by_table: int = 0
    voided_by_table: int = 0

    def add(self, other: Tally) -> None:
        for name in ("writes", "looked_at", "changed", "voided", "needless", "needless_by_table", "voided_by_table"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.stale += other.stale

    def __str__(self) -> str:
        return (
            f"{self.writes} writes, {self.looked_at} looks at cached results: {self.changed} had changed, "
            f"{len(self.stale)} stale; {self.voided} invalidated, {self.needless} of them needlessly "
            f"({_percent(self.needless, self.voided)}); by table {self.voided_by_table}, "
            f"{self.needless_by_table} needlessly ({_percent(self.needless_by_table, self.voided_by_table)})"
        )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


# Queries. Each draws what it needs once, and then always asks the same.


class Grammar:
    """Draws queries."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def name(self) -> str:
        return self.random.choice(NAMES)

    def number(self) -> int:
        return self.random.choice(NUMBERS)

    def pk(self, model: type[Model]) -> Any:
        pks = list(model._base_manager.order_by("pk").values_list("pk", flat=True))
        return self.random.choice([*pks, max(pks) + 1 if pks and isinstance(pks[-1], int) else pks[-1]]) if pks else 1

    def pks(self, model: type[Model]) -> list[Any]:
        return [self.pk(model) for _ in range(self.random.randint(0, 3))]

    def condition(self, model: type[Model]) -> Q:
        """One condition on rows of *model*."""
        generic = [lambda: Q(pk=self.pk(model)), lambda: Q(pk__in=self.pks(model)), lambda: Q(pk__gt=0)]
        if model is Chip:
            generic.pop()
        return self.random.choice([*generic, *self.conditions(model)])()

    def conditions(self, model: type[Model]) -> list[Callable[[], Q]]:
        by_name = [
            lambda: Q(name=self.name()),
            lambda: Q(name=self.name()),
            lambda: Q(name__in=[self.name(), self.name()]),
            lambda: Q(name__iexact=self.name()),
            lambda: Q(name__gt=self.name()),
        ]
        in_cage = [
            lambda: Q(cage=self.pk(Cage)),
            lambda: Q(cage_id=self.pk(Cage)),
            lambda: Q(cage__in=self.pks(Cage)),
            lambda: Q(cage=None),
            lambda: Q(cage__isnull=False),
            lambda: Q(cage__name=self.name()),
            lambda: Q(cage__keeper__name=self.name()),
            lambda: Q(cage__in=Cage.objects.filter(name=self.name())),
        ]
        animal = [
            lambda: Q(weight=self.number()),
            lambda: Q(weight=self.number()),
            lambda: Q(weight__in=[self.number(), self.number()]),
            lambda: Q(weight__gte=self.number()),
            lambda: Q(weight=F("cage_id")),
            lambda: Q(foods=self.pk(Food)),
            lambda: Q(foods__name=self.name()),
            lambda: Q(Exists(Note.objects.filter(cage=OuterRef("cage"), text=self.name()))),
            lambda: Q(cage__note__text=self.name()),
        ]
        table: dict[type[Model], list[Callable[[], Q]]] = {
            Animal: by_name + in_cage + animal,
            Pet: by_name + in_cage + animal,
            Cage: [
                *by_name,
                lambda: Q(animal__weight=self.number()),
                lambda: Q(note__text=self.name()),
                lambda: Q(pk__in=Animal.objects.filter(weight=self.number()).values("cage")),
                lambda: Q(keeper=self.pk(Keeper)),
            ],
            Food: [*by_name, lambda: Q(animal__name=self.name()), lambda: Q(animal__cage=self.pk(Cage))],
            Note: [lambda: Q(text=self.name()), lambda: Q(text__startswith=self.name()), *in_cage],
            Photo: by_name + in_cage,
            Building: [*by_name, lambda: Q(aquarium__litres=self.number())],
            Aquarium: [*by_name, lambda: Q(litres=self.number()), lambda: Q(litres__lt=self.number())],
            Keeper: [*by_name, lambda: Q(cages=self.pk(Cage)), lambda: Q(duty__day=self.number())],
            Duty: [
                lambda: Q(day=self.number()),
                lambda: Q(keeper=self.pk(Keeper)),
                lambda: Q(cage=self.pk(Cage), day=self.number()),
                lambda: Q(keeper__name=self.name()),
            ],
            Ticket: [
                lambda: Q(day=self.number()),
                lambda: Q(price=self.number()),
                lambda: Q(day=self.number(), price__gt=self.number()),
                lambda: Q(photo__name=self.name()),
                lambda: Q(photo=None),
            ],
        }
        return table.get(model, [])

    def rows(self, model: type[Model]) -> QuerySet[Any, Any]:
        """A query set of rows, filtered in some way."""
        rows: QuerySet[Any, Any] = model._default_manager.all()
        for _ in range(self.one(0, 1, 1, 1, 2, 2, 3)):
            kind = self.random.random()
            if kind < 0.7:
                rows = rows.filter(self.condition(model))
            elif kind < 0.85:
                rows = rows.exclude(self.condition(model))
            else:
                rows = rows.filter(self.condition(model) | self.condition(model))
        return rows

    def ordered(self, rows: QuerySet[Any, Any]) -> QuerySet[Any, Any]:
        model = rows.model
        names = [field.name for field in model._meta.concrete_fields if not field.is_relation]
        names += [f"{field.name}__name" for field in model._meta.concrete_fields if field.name in ("cage", "photo")]
        name = self.one("pk", *names)
        return rows.order_by(self.one("", "-") + name, "pk")

    def query(self) -> tuple[str, Query]:
        """A query, and what to call it in a report."""
        model = self.one(
            Animal, Animal, Animal, Pet, Cage, Food, Note, Photo, Building, Aquarium, Keeper, Duty, Ticket, Chip
        )
        rows = self.rows(model)
        shapes = [
            self.list,
            self.list,
            self.list,
            self.sliced,
            self.sliced,
            self.values,
            self.count,
            self.exists,
            self.first,
            self.iterated,
            self.aggregated,
            self.annotated,
            self.distinct,
            self.only,
            self.union,
            self.in_bulk,
        ]
        if model in (Animal, Pet, Note, Photo, Duty):
            shapes += [self.related, self.related, self.lazy, self.related_sliced]
        if model in (Animal, Pet):
            shapes += [self.many, self.prefetched]
        if model is Cage:
            shapes += [self.reverse, self.prefetched_back, self.subquery]
        shape = self.random.choice(shapes)
        query = shape(rows)
        return f"{shape.__name__} of {model.__name__}: {sql_of(rows)}", query

    # Shapes.

    def list(self, rows: QuerySet[Any, Any]) -> Query:
        rows = self.ordered(rows)
        return lambda: [plain(row) for row in rows.all()]

    def sliced(self, rows: QuerySet[Any, Any]) -> Query:
        rows, start, size = self.ordered(rows), self.one(0, 0, 1), self.one(1, 2)
        return lambda: [plain(row) for row in rows.all()[start : start + size]]

    def values(self, rows: QuerySet[Any, Any]) -> Query:
        return lambda: sorted(map(str, rows.all().values()))

    def count(self, rows: QuerySet[Any, Any]) -> Query:
        return lambda: rows.all().count()

    def exists(self, rows: QuerySet[Any, Any]) -> Query:
        return lambda: rows.all().exists()

    def first(self, rows: QuerySet[Any, Any]) -> Query:
        rows = self.ordered(rows)
        return lambda: plain(rows.all().first())

    def iterated(self, rows: QuerySet[Any, Any]) -> Query:
        rows, size = self.ordered(rows), self.one(1, 2, 5)
        return lambda: [plain(row) for row in itertools.islice(rows.all().iterator(chunk_size=2), size)]

    def aggregated(self, rows: QuerySet[Any, Any]) -> Query:
        what = self.one(Count("pk"), Max("pk"))
        return lambda: rows.all().aggregate(of=what)

    def annotated(self, rows: QuerySet[Any, Any]) -> Query:
        model = rows.model
        choices = [Count("pk")]
        if any(field.name == "name" for field in model._meta.fields):
            choices.append(Upper("name"))
        if any(field.name == "cage" for field in model._meta.fields):
            choices += [
                F("cage__name"),
                Count("cage__note"),
                Subquery(Cage.objects.filter(pk=OuterRef("cage")).values("name")[:1]),
            ]
        if model is Cage:
            choices += [Count("animal"), Sum("animal__weight")]
        extra = self.random.choice(choices)
        rows = self.ordered(rows.annotate(extra_=extra))
        if self.one(True, False):
            rows = rows.filter(extra_=self.number() if isinstance(extra, Count | Sum) else self.one("A", "a"))
        return lambda: [(plain(row), row.extra_) for row in rows.all()]

    def distinct(self, rows: QuerySet[Any, Any]) -> Query:
        rows, size = self.ordered(rows.distinct()), self.one(2, 10)
        return lambda: [plain(row) for row in rows.all()[:size]]

    def only(self, rows: QuerySet[Any, Any]) -> Query:
        rows = self.ordered(rows.only("pk"))
        return lambda: [plain(row) for row in rows.all()]

    def union(self, rows: QuerySet[Any, Any]) -> Query:
        other = self.rows(rows.model)
        return lambda: sorted(str(plain(row)) for row in rows.all().union(other.all()))

    def in_bulk(self, rows: QuerySet[Any, Any]) -> Query:
        pks = self.pks(rows.model)
        return lambda: {pk: plain(row) for pk, row in rows.model._default_manager.in_bulk(pks).items()}

    def related(self, rows: QuerySet[Any, Any]) -> Query:
        names = ("keeper", "cage") if rows.model is Duty else ("cage",)
        rows = self.ordered(rows.select_related(*names))
        return lambda: [(plain(row), *[plain(getattr(row, name)) for name in names]) for row in rows.all()]

    def related_sliced(self, rows: QuerySet[Any, Any]) -> Query:
        rows, size = self.ordered(rows.select_related("cage")), self.one(1, 2)
        return lambda: [(plain(row), plain(row.cage)) for row in rows.all()[:size]]

    def lazy(self, rows: QuerySet[Any, Any]) -> Query:
        rows = self.ordered(rows)
        return lambda: [(plain(row), plain(row.cage)) for row in rows.all()]

    def many(self, rows: QuerySet[Any, Any]) -> Query:
        rows = self.ordered(rows)
        return lambda: [(plain(row), [plain(food) for food in row.foods.order_by("pk")]) for row in rows.all()]

    def prefetched(self, rows: QuerySet[Any, Any]) -> Query:
        foods = Prefetch("foods", self.ordered(self.rows(Food)))
        rows = self.ordered(rows.prefetch_related(self.one("foods", foods), "cage"))
        return lambda: [(plain(r), sorted(str(plain(f)) for f in r.foods.all()), plain(r.cage)) for r in rows.all()]

    def reverse(self, rows: QuerySet[Any, Any]) -> Query:
        rows = self.ordered(rows)
        return lambda: [(plain(row), [plain(note) for note in row.note_set.order_by("pk")]) for row in rows.all()]

    def prefetched_back(self, rows: QuerySet[Any, Any]) -> Query:
        notes = Prefetch("note_set", self.ordered(self.rows(Note)), to_attr="some")
        rows = self.ordered(rows.prefetch_related(notes, "animal_set"))
        return lambda: [
            (plain(row), [plain(note) for note in row.some], sorted(str(plain(a)) for a in row.animal_set.all()))
            for row in rows.all()
        ]

    def subquery(self, rows: QuerySet[Any, Any]) -> Query:
        newest = Animal.objects.filter(cage=OuterRef("pk"), weight__gte=self.number()).order_by("-pk")
        rows = self.ordered(rows.annotate(newest=Subquery(newest.values("name")[:1])))
        return lambda: [(plain(row), row.newest) for row in rows.all()]


def sql_of(rows: QuerySet[Any, Any]) -> str:
    try:
        return str(rows.query)
    except EmptyResultSet:
        return "nothing"


def plain(row: Any) -> Any:
    """What of *row* can differ."""
    if row is None:
        return None
    return type(row).__name__, *[(f.attname, str(row.__dict__.get(f.attname))) for f in row._meta.concrete_fields]


# Writes.


class Writer:
    """Draws writes, and carries them out."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.grammar = Grammar(random)

    def fill(self) -> None:
        """A few rows of everything."""
        for model in (Cage, Food, Keeper, Photo, Animal, Note, Building, Aquarium, Duty, Ticket, Chip):
            for _ in range(4):
                self.create(model)
        for animal in Animal.objects.all():
            animal.foods.set(self.some(Food))

    def some(self, model: type[Model]) -> list[Any]:
        return [row for row in model._default_manager.all() if self.random.random() < 0.4]

    def any(self, model: type[Model]) -> Any:
        rows = list(model._default_manager.order_by("pk"))
        return self.random.choice(rows) if rows else self.create(model)

    def values(self, model: type[Model]) -> dict[str, Any]:
        """New values of all columns."""
        values: dict[str, Any] = {}
        for column in model._meta.concrete_fields:
            if column.name in ("name", "text"):
                values[column.name] = self.grammar.name()
            elif column.name in ("weight", "litres", "day", "price"):
                values[column.name] = self.grammar.number()
            elif column.name == "cage":
                values["cage"] = self.any(Cage) if model is Duty or self.random.random() < 0.8 else None
            elif column.name == "keeper":
                values["keeper"] = self.any(Keeper)
            elif column.name == "photo":
                values["photo"] = self.random.choice([None, self.any(Photo)])
        return values

    def create(self, model: type[Model]) -> Any:
        return model._default_manager.create(**self.values(model))

    def write(self) -> str:
        """Carry out one write. Returns what to call it in a report."""
        model = self.grammar.one(
            Animal, Animal, Animal, Pet, Cage, Food, Note, Photo, Building, Aquarium, Keeper, Duty, Ticket
        )
        kinds = [self.insert, self.save, self.save, self.save, self.partial, self.partial, self.deferred, self.delete,
                 self.rolled_back, self.expression, self.get_or_create, self.update_or_create]  # fmt: skip
        kinds += [self.update, self.update, self.update_one, self.bulk_create, self.bulk_update]
        kinds += [self.delete_many, self.raw_sql]
        if model in (Animal, Pet):
            kinds += [self.many_to_many] * 4
        if model is Keeper:
            kinds += [self.through] * 3
        if model is Building:
            kinds += [self.save_parent] * 2
        kind = self.random.choice(kinds)
        kind(model)
        return f"{kind.__name__} of {model.__name__}"

    def insert(self, model: type[Model]) -> None:
        self.create(model)

    def save(self, model: type[Model]) -> None:
        row = self.any(model)
        for name, value in self.values(model).items():
            if self.random.random() < 0.5:
                setattr(row, name, value)
        row.save()

    def partial(self, model: type[Model]) -> None:
        row = self.any(model)
        values = self.values(model)
        names = [name for name in values if self.random.random() < 0.6] or list(values)[:1]
        for name, value in values.items():  # also those that are not saved
            setattr(row, name, value)
        row.save(update_fields=names)

    def deferred(self, model: type[Model]) -> None:
        values = self.values(model)
        name = self.random.choice(list(values))
        row = model._default_manager.only("pk", name).order_by("?").first()
        if row is not None:
            setattr(row, name, values[name])
            row.save()

    def expression(self, model: type[Model]) -> None:
        row = self.any(model)
        name = next((name for name in self.values(model) if name in ("weight", "litres", "day", "price")), None)
        if name is not None:
            setattr(row, name, F(name) + 1)
        row.save()

    def delete(self, model: type[Model]) -> None:
        if model._default_manager.count() > 2:
            self.any(model).delete()

    def delete_many(self, model: type[Model]) -> None:
        if model._default_manager.count() > 4:
            model._default_manager.filter(self.grammar.condition(model)).delete()
        else:
            self.create(model)

    def rolled_back(self, model: type[Model]) -> None:
        with transaction.atomic():
            self.save(model)
            with transaction.atomic():
                self.save(model)
                transaction.set_rollback(True)
            self.insert(model)

    def get_or_create(self, model: type[Model]) -> None:
        values = self.values(model)
        if not model._default_manager.filter(**values).exists():
            model._default_manager.get_or_create(**values)

    def update_or_create(self, model: type[Model]) -> None:
        model._default_manager.update_or_create(pk=self.grammar.pk(model), defaults=self.values(model))

    def update(self, model: type[Model]) -> None:
        values = self.values(model)
        name = self.random.choice(list(values))
        model._default_manager.filter(self.grammar.condition(model)).update(**{name: values[name]})

    def update_one(self, model: type[Model]) -> None:
        values = self.values(model)
        name = self.random.choice(list(values))
        model._default_manager.filter(pk=self.grammar.pk(model)).update(**{name: values[name]})

    def bulk_create(self, model: type[Model]) -> None:
        if len(model._meta.parents) - model._meta.proxy:
            self.create(model)
        else:
            model._default_manager.bulk_create([model(**self.values(model)) for _ in range(2)])

    def bulk_update(self, model: type[Model]) -> None:
        rows = self.some(model)
        values = self.values(model)
        name = self.random.choice(list(values))
        for row in rows:
            setattr(row, name, values[name])
        if rows:
            model._default_manager.bulk_update(rows, [name])

    def raw_sql(self, model: type[Model]) -> None:
        name, value = self.random.choice(list(self.values(model).items()))
        column: Any = model._meta.get_field(name)
        table, key = column.model._meta.db_table, column.model._meta.pk.column
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {table} SET {column.column} = %s WHERE {key} > %s", [getattr(value, "pk", value), 2]
            )

    def save_parent(self, model: type[Model]) -> None:
        child = Aquarium.objects.order_by("?").first()
        if child is not None:
            parent = Building.objects.get(pk=child.pk)
            parent.name = self.grammar.name()
            parent.save()

    def many_to_many(self, model: type[Model]) -> None:
        animal = self.any(Animal)
        kind = self.grammar.one("add", "remove", "set", "clear", "back")
        if kind == "back":
            self.any(Food).animal_set.add(animal)
        elif kind == "set":
            animal.foods.set(self.some(Food))
        elif kind == "clear":
            animal.foods.clear()
        else:
            getattr(animal.foods, kind)(*self.some(Food))

    def through(self, model: type[Model]) -> None:
        keeper = self.any(Keeper)
        kind = self.grammar.one("add", "remove", "clear")
        if kind == "clear":
            keeper.cages.clear()
        elif kind == "add":
            keeper.cages.add(self.any(Cage), through_defaults={"day": self.grammar.number()})
        else:
            keeper.cages.remove(*self.some(Cage))


# Worlds.


class World:
    """Some rows, some cached queries, and what happens to them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.tally = Tally()
        self.published: set[str] = set()

    def play(self, writes: int = WRITES, queries: int = QUERIES) -> Tally:
        """Play it. The tables are to be empty."""
        writer, grammar = Writer(self.random), Grammar(self.random)
        writer.fill()
        cached: dict[str, tuple[str, Query]] = {}
        for number in range(queries):
            cached[f"world:{self.seed}:{number}"] = grammar.query()
        results = {key: cache.get_or_set(key, query) for key, (_, query) in cached.items()}
        tables = {key: self._tables(query) for key, (_, query) in cached.items()}
        with self._listening():
            for _ in range(writes):
                self.published.clear()
                what = writer.write()
                self.tally.writes += 1
                for key, (name, query) in cached.items():
                    self._look(key, name, query, what, results, tables)
        default_cache().evict(*cached)
        return self.tally

    def _look(
        self, key: str, name: str, query: Query, what: str, results: dict[str, Any], tables: dict[str, set[str]]
    ) -> None:
        entry = default_cache().peek(key)
        fresh = query()
        changed = fresh != results[key]
        by_table = not self.published.isdisjoint({"*", *tables[key]})
        tally = self.tally
        tally.looked_at += 1
        tally.changed += changed
        tally.voided += entry is None
        tally.needless += entry is None and not changed
        tally.voided_by_table += by_table
        tally.needless_by_table += by_table and not changed
        if changed and entry is not None:
            tally.stale.append(
                f"seed {self.seed}, {what} sent {sorted(self.published)}\n  {name}\n  carries {sorted(entry.tags)}\n"
                f"  was {results[key]}\n  is  {fresh}"
            )
            default_cache().evict(key)
        if entry is None or changed:
            results[key] = cache.get_or_set(key, query)

    @staticmethod
    def _tables(query: Query) -> set[str]:
        recorder = recorders.Recorder()
        with recorders.recording(recorder):
            query()
        return {model._meta.label_lower for model in recorder._names}

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def listen(keys: tuple[str, ...], tags: tuple[str, ...], everything: bool) -> None:
            self.published.update(tags)
            self.published |= {"*"} if everything else set()

        runtime.publish_observers.append(listen)
        try:
            yield
        finally:
            runtime.publish_observers.remove(listen)
