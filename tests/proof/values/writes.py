"""
What is written: each write draws its rows and values, says in pseudo-code what it is going to do, and does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import F, Model

from django_integration import invalidate
from tests.proof.simulation.choices import Choices

from .models import Book, Cheap, Detail, Item, Label, Maker, Note, Shelf, Stock, Supply
from .questions import NAMES, PRICES

Write = tuple[str, Callable[[], object]]
NAMED: tuple[type[Model], ...] = (Item, Shelf, Label, Maker)


def fill() -> None:
    """The rows with which a world begins."""
    makers = [Maker.objects.create(code=f"m{i}", name=NAMES[i - 1]) for i in (1, 2)]
    shelves = [Shelf.objects.create(name=name) for name in ("a", "b")]
    shelves.append(Shelf.objects.create(name="c", parent=shelves[0]))
    labels = [Label.objects.create(name=name) for name in ("a", "b")]
    items = [
        Item.objects.create(name="a", price=1, maker=makers[0], shelf=shelves[0], sizes=[1, 2]),
        Item.objects.create(name="b", price=0, maker=makers[1], shelf=shelves[0], picture="pictures/b.png"),
        Book.objects.create(name="c", price=2, maker=makers[0], shelf=shelves[1], pages=7),
    ]
    items[0].labels.add(*labels)
    Detail.objects.create(item=items[0], text="a")
    Supply.objects.create(item=items[0], maker=makers[1], amount=1)
    Note.objects.create(text="a", about=items[0])
    Note.objects.create(text="b", about=shelves[0])
    for _ in range(2):
        Stock.objects.create()


class Writer:
    """Draws writes."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices

    def draw(self) -> Write:
        """A write. The rows that it may be about are looked up now."""
        return self.choices.pick(WRITES)(self)

    def pk(self, model: type[Model], condition: dict[str, Any] | None = None) -> int:
        """The key of a row, or of none."""
        pks = list(model._base_manager.filter(**condition or {}).order_by("pk").values_list("pk", flat=True))
        return self.choices.pick(pks) if pks else 0

    def pks(self, model: type[Model]) -> list[int]:
        return [self.pk(model) for _ in range(1 + self.choices.draw(2))]

    @property
    def name(self) -> str:
        return self.choices.pick(("b", "c", "a"))

    @property
    def price(self) -> int:
        return self.choices.pick(PRICES[1:] + PRICES[:1])

    # Rows of one table.

    def save(self) -> Write:
        model, name = self.choices.pick(NAMED), self.name
        pk = self.pk(model)

        def write() -> None:
            row = model._default_manager.get(pk=pk)
            row.name = name
            row.save()

        return f"{model.__name__}({pk}).name = {name!r}; save()", write

    def reprice(self) -> Write:
        pk, price = self.pk(Item), self.price

        def write() -> None:
            row = Item.objects.get(pk=pk)
            row.price = price
            row.save(update_fields=["price"])

        return f"Item({pk}).price = {price}; save(update_fields)", write

    def move(self) -> Write:
        pk, shelf = self.pk(Item), self.pk(Shelf) if self.choices.draw(3) else None

        def write() -> None:
            row = Item.objects.get(pk=pk)
            row.shelf_id = shelf
            row.save()

        return f"Item({pk}).shelf = {shelf}; save()", write

    def create(self) -> Write:
        name, price, shelf, maker = self.name, self.price, self.pk(Shelf), self.pk(Maker)
        return f"Item.create(name={name!r}, price={price}, shelf={shelf})", lambda: Item.objects.create(
            name=name, price=price, shelf_id=shelf or None, maker_id=maker
        )

    def create_named(self) -> Write:
        model, name = self.choices.pick((Shelf, Label)), self.name
        return f"{model.__name__}.create(name={name!r})", lambda: model._default_manager.create(name=name)

    def delete(self) -> Write:
        model = self.choices.pick((Item, Shelf, Label, Note, Detail, Supply, Maker, Book))
        pk = self.pk(model)
        return f"{model.__name__}({pk}).delete()", lambda: model._default_manager.get(pk=pk).delete()

    def delete_many(self) -> Write:
        model, name = self.choices.pick((Item, Shelf, Label)), self.name
        return f"{model.__name__}.filter(name={name!r}).delete()", lambda: model._default_manager.filter(
            name=name
        ).delete()

    def update(self) -> Write:
        name, price = self.name, self.price
        return f"Item.filter(name={name!r}).update(price={price})", lambda: Item.objects.filter(name=name).update(
            price=price
        )

    def update_one(self) -> Write:
        model, name = self.choices.pick(NAMED), self.name
        pk = self.pk(model)
        return f"{model.__name__}.filter(pk={pk}).update(name={name!r})", lambda: model._default_manager.filter(
            pk=pk
        ).update(name=name)

    def update_all(self) -> Write:
        shelf = self.pk(Shelf) or None
        return f"Item.update(shelf={shelf})", lambda: Item.objects.update(shelf_id=shelf)

    def add_up(self) -> Write:
        pk = self.pk(Item)
        return f"Item.filter(pk={pk}).update(price=F(price) + 1)", lambda: Item.objects.filter(pk=pk).update(
            price=F("price") + 1
        )

    def add_up_and_save(self) -> Write:
        pk = self.pk(Item)

        def write() -> None:
            row = Item.objects.get(pk=pk)
            row.price = F("price") + 1
            row.save()

        return f"Item({pk}).price = F(price) + 1; save()", write

    def get_or_create(self) -> Write:
        code, name = self.choices.pick(("m3", "m1", "m2")), self.name
        return f"Maker.get_or_create(code={code!r})", lambda: Maker.objects.get_or_create(
            code=code, defaults={"name": name}
        )

    def update_or_create(self) -> Write:
        code, name = self.choices.pick(("m1", "m2", "m3")), self.name
        return f"Maker.update_or_create(code={code!r}, name={name!r})", lambda: Maker.objects.update_or_create(
            code=code, defaults={"name": name}
        )

    def recode(self) -> Write:
        pk, code = self.pk(Maker), self.choices.pick(("m3", "m1"))

        def write() -> None:
            row = Maker.objects.get(pk=pk)
            row.code = code
            row.save()  # which may be refused

        return f"Maker({pk}).code = {code!r}; save()", write

    def bulk_create(self) -> Write:
        name, price, maker = self.name, self.price, self.pk(Maker)
        rows = [Item(name=name, price=price + i, maker_id=maker) for i in range(2)]
        return f"Item.bulk_create(2 × name={name!r})", lambda: Item.objects.bulk_create(rows)

    def upsert(self) -> Write:
        code, name = self.choices.pick(("m1", "m3")), self.name
        row = Maker(code=code, name=name)
        unique = None if connection.vendor == "mysql" else ["code"]
        return f"Maker.bulk_create(code={code!r}, name={name!r}, update_conflicts)", lambda: Maker.objects.bulk_create(
            [row], update_conflicts=True, unique_fields=unique, update_fields=["name"]
        )

    def bulk_update(self) -> Write:
        pks, price = self.pks(Item), self.price

        def write() -> None:
            rows = list(Item.objects.filter(pk__in=pks))
            for row in rows:
                row.price = price
            Item.objects.bulk_update(rows, ["price"])

        return f"Item.bulk_update({pks}, price={price})", write

    def lock(self) -> Write:
        pk, name = self.pk(Item), self.name

        def write() -> None:
            row = Item.objects.select_for_update().get(pk=pk)
            row.name = name
            row.save()

        return f"Item.select_for_update({pk}).name = {name!r}; save()", write

    def resize(self) -> Write:
        pk, size = self.pk(Item), self.price

        def write() -> None:
            row = Item.objects.get(pk=pk)
            row.sizes.append(size)
            row.picture = f"pictures/{size}.png"
            row.save()

        return f"Item({pk}).sizes.append({size}); save()", write

    def raw(self) -> Write:
        pk, name = self.pk(Item), self.name

        def write() -> None:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE values_item SET name = %s WHERE id = %s", [name, pk])

        return f"UPDATE values_item SET name = {name!r} WHERE id = {pk}", write

    def raw_delete(self) -> Write:
        pk = self.pk(Note)

        def write() -> None:
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM values_note WHERE id = %s", [pk])

        return f"DELETE FROM values_note WHERE id = {pk}", write

    # Inheritance.

    def save_parent(self) -> Write:
        pk, name = self.pk(Book), self.name

        def write() -> None:
            row = Item.objects.get(pk=pk)
            row.name = name
            row.save()

        return f"Item({pk}), a book's, .name = {name!r}; save()", write

    def save_book(self) -> Write:
        pk, pages, name = self.pk(Book), self.price, self.name

        def write() -> None:
            row = Book.objects.get(pk=pk)
            row.pages, row.name = pages, name
            row.save()

        return f"Book({pk}).pages = {pages}, .name = {name!r}; save()", write

    def create_book(self) -> Write:
        name, maker = self.name, self.pk(Maker)
        return f"Book.create(name={name!r})", lambda: Book.objects.create(name=name, maker_id=maker, pages=1)

    def update_books(self) -> Write:
        pages, name = self.price, self.name
        return f"Book.update(pages={pages}, name={name!r})", lambda: Book.objects.update(pages=pages, name=name)

    def save_cheap(self) -> Write:
        pk, price = self.pk(Item, {"price__lt": 2}), self.price

        def write() -> None:
            row = Cheap.objects.get(pk=pk)
            row.price = price
            row.save()

        return f"Cheap({pk}).price = {price}; save()", write

    # Relations.

    def many_to_many(self) -> Write:
        pk, labels = self.pk(Item), self.pks(Label)
        what = self.choices.pick(("add", "remove", "set", "clear"))

        def write() -> None:
            manager = Item.objects.get(pk=pk).labels
            arguments: list[Any] = {"clear": [], "set": [labels]}.get(what, labels)
            getattr(manager, what)(*arguments)

        return f"Item({pk}).labels.{what}({labels})", write

    def many_to_many_back(self) -> Write:
        pk, items = self.pk(Label), self.pks(Item)
        what = self.choices.pick(("add", "remove", "set", "clear"))

        def write() -> None:
            manager = Label.objects.get(pk=pk).item_set
            arguments: list[Any] = {"clear": [], "set": [items]}.get(what, items)
            getattr(manager, what)(*arguments)

        return f"Label({pk}).item_set.{what}({items})", write

    def through(self) -> Write:
        pk, maker, amount = self.pk(Item), self.pk(Maker), self.price
        what = self.choices.pick(("add", "remove", "clear"))

        def write() -> None:
            manager = Item.objects.get(pk=pk).suppliers
            if what == "add":
                manager.add(maker, through_defaults={"amount": amount})
            else:
                getattr(manager, what)(*([maker] if what == "remove" else []))

        return f"Item({pk}).suppliers.{what}({maker})", write

    def save_supply(self) -> Write:
        pk, amount = self.pk(Supply), self.price
        return f"Supply.filter(pk={pk}).update(amount={amount})", lambda: Supply.objects.filter(pk=pk).update(
            amount=amount
        )

    def reverse(self) -> Write:
        shelf, items = self.pk(Shelf), self.pks(Item)
        what = self.choices.pick(("add", "remove", "set", "clear"))

        def write() -> None:
            manager = Shelf.objects.get(pk=shelf).item_set
            rows = list(Item.objects.filter(pk__in=items))
            arguments: list[Any] = {"clear": [], "set": [rows]}.get(what, rows)
            getattr(manager, what)(*arguments)  # a row that is not there cannot be removed

        return f"Shelf({shelf}).item_set.{what}({items})", write

    def hang_up(self) -> Write:
        pk, parent = self.pk(Shelf), self.pk(Shelf)
        return f"Shelf.filter(pk={pk}).update(parent={parent})", lambda: Shelf.objects.filter(pk=pk).update(
            parent=parent
        )

    def detail(self) -> Write:
        pk, text = self.pk(Item), self.name
        return f"Detail.update_or_create(item={pk}, text={text!r})", lambda: Detail.objects.update_or_create(
            item_id=pk, defaults={"text": text}
        )

    def note(self) -> Write:
        model = self.choices.pick((Item, Shelf))
        pk, text = self.pk(model), self.name
        return f"Note.create({text!r}, about={model.__name__}({pk}))", lambda: Note.objects.create(
            text=text, content_type=ContentType.objects.get_for_model(model), object_id=pk
        )

    def note_by_relation(self) -> Write:
        pk, text = self.pk(Item), self.name
        return f"Item({pk}).notes.create({text!r})", lambda: Item.objects.get(pk=pk).notes.create(text=text)

    # By hand.

    def by_hand(self) -> Write:
        model = self.choices.pick(NAMED)
        return f"invalidate({model.__name__})", lambda: invalidate(model)


WRITES: tuple[Callable[[Writer], Write], ...] = (
    Writer.save,
    Writer.reprice,
    Writer.move,
    Writer.delete,
    Writer.create,
    Writer.update,
    Writer.update_one,
    Writer.many_to_many,
    Writer.add_up,
    Writer.get_or_create,
    Writer.update_or_create,
    Writer.recode,
    Writer.create_named,
    Writer.delete_many,
    Writer.update_all,
    Writer.add_up_and_save,
    Writer.bulk_create,
    Writer.upsert,
    Writer.bulk_update,
    Writer.lock,
    Writer.resize,
    Writer.raw,
    Writer.raw_delete,
    Writer.save_parent,
    Writer.save_book,
    Writer.create_book,
    Writer.update_books,
    Writer.save_cheap,
    Writer.many_to_many_back,
    Writer.through,
    Writer.save_supply,
    Writer.reverse,
    Writer.hang_up,
    Writer.detail,
    Writer.note,
    Writer.note_by_relation,
    Writer.by_hand,
)
