"""
What is asked: functions that read the shop, with every kind of argument and every kind of result.

A `Body` is a plain function. `doors.py` puts it behind a cache; called as it is, it tells the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Count, Exists, F, Max, OuterRef, Prefetch, Q, Sum
from django.db.models.expressions import RawSQL
from django.utils.translation import get_language

from . import tenants
from .kinds import happens
from .models import Book, Cheap, Detail, Item, Label, Maker, Note, Shelf, Supply

NAMES = ("a", "b", "c")
PRICES = (1, 0, 2, 3)


@dataclass(frozen=True)
class Body:
    """
    A function that reads.

    Args:
        takes: the kind of its argument, see `arguments.py`; "" for none.
        is_plain: whether its result is text, numbers, or made of such.
        kind: of wrong values, see `kinds.py`.
    """

    name: str
    function: Callable[..., Any]
    takes: str = ""
    is_plain: bool = False
    kind: str = ""

    def __str__(self) -> str:
        return self.name


@dataclass
class Box:
    """Something of the application's own, with rows in it."""

    rows: Any
    title: str = "items"


def _items() -> Any:
    return Item.objects.order_by("pk")


def _shelves() -> Any:
    return Shelf.objects.order_by("pk")


def _pk(item: Any) -> Any:
    return getattr(item, "pk", item)


def _by_cursor() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM values_item ORDER BY id")
        return [name for (name,) in cursor.fetchall()]


def _tree(shelf: Shelf | None) -> list[str]:
    names = []
    while shelf is not None and len(names) < 3:
        names.append(shelf.name)
        shelf = shelf.parent
    return names


def _of_item(item: Any) -> Q:
    return Q(content_type=ContentType.objects.get_for_model(Item), object_id=_pk(item))


def _with_labels(**named: Any) -> Any:
    return _items().prefetch_related(Prefetch("labels", Label.objects.order_by("name", "pk"), **named))


CONTEXT: dict[str, Any] = {"is_plain": True, "kind": "context"}

NO_ARGUMENT = (
    Body("list(Item)", lambda: list(_items())),
    Body("Item, maker and shelf joined", lambda: list(_items().select_related("maker", "shelf__parent"))),
    Body("Item with labels prefetched", lambda: list(_with_labels())),
    Body("Item with labels prefetched into a list", lambda: list(_with_labels(to_attr="shown"))),
    Body("Shelf with its items prefetched", lambda: list(Shelf.objects.order_by("pk").prefetch_related("item_set"))),
    Body("a query set of Item", _items),
    Body(
        "Item by shelf, a dict of lists", lambda: {s.pk: list(s.item_set.order_by("pk")) for s in Shelf.objects.all()}
    ),
    Body("names of Item", lambda: [item.name for item in _items()], is_plain=True),
    Body("names of the shelves of Item", lambda: tuple(i.shelf and i.shelf.name for i in _items()), is_plain=True),
    Body("Cheap", lambda: list(Cheap.objects.order_by("pk"))),
    Body("Cheap.count()", Cheap.objects.count, is_plain=True),
    Body("Book", lambda: list(Book.objects.order_by("pk"))),
    Body("pages of Book", lambda: sum(Book.objects.values_list("pages", flat=True)), is_plain=True),
    Body("Item and its book", lambda: [(i.name, i.book.pages) for i in _items().filter(book__isnull=False)]),
    Body("Item.values()", lambda: list(_items().values("name", "price", "shelf__name"))),
    Body("Item.sizes", lambda: {item.pk: item.sizes for item in _items()}),
    Body("Sum(price)", lambda: Item.objects.aggregate(Sum("price"), Max("pk")), is_plain=True),
    Body("items by shelf, counted", lambda: dict(Shelf.objects.annotate(n=Count("item")).values_list("name", "n"))),
    Body(
        "Shelf that is not empty", lambda: list(Shelf.objects.filter(Exists(Item.objects.filter(shelf=OuterRef("pk")))))
    ),
    Body("notes and what they are about", lambda: [(n.text, str(n.about)) for n in Note.objects.order_by("pk")]),
    Body("Note with what they are about", lambda: list(Note.objects.order_by("pk").prefetch_related("about"))),
    Body("Detail with its item", lambda: list(Detail.objects.order_by("pk").select_related("item__shelf"))),
    Body("details of items", lambda: [getattr(i, "detail", None) for i in _items().select_related("detail")]),
    Body("names up the tree", lambda: [_tree(shelf) for shelf in Shelf.objects.order_by("pk")]),
    Body("suppliers", lambda: {i.name: {m.code for m in i.suppliers.all()} for i in _items()}),
    Body("Supply of some amount", lambda: list(Supply.objects.filter(amount__gt=0).order_by("pk"))),
    Body("the dearest item", lambda: Item.objects.order_by("-price", "pk").first()),
    Body("two cheapest, sliced", lambda: list(Item.objects.order_by("price", "pk")[:2])),
    Body("Item.exists() without a shelf", lambda: Item.objects.filter(shelf=None).exists(), is_plain=True),
    Body("Label.in_bulk()", Label.objects.in_bulk),
    Body("Item.only(name)", lambda: list(_items().only("name"))),
    Body("Item, priced twice", lambda: list(_items().annotate(twice=F("price") * 2))),
    Body("Item | Item", lambda: list(_items().filter(price=1) | _items().filter(name="a"))),
    Body("union of names", lambda: sorted(Shelf.objects.values_list("name").union(Maker.objects.values_list("name")))),
    Body("names in the language in force", lambda: [f"{get_language()}: {i.name}" for i in _items()], **CONTEXT),
    Body("items of the tenant in force", lambda: list(_items().filter(maker__code=tenants.code())), kind="context"),
    Body("a page of Item", lambda: Paginator(_items(), 2).page(1), kind="recorder"),
    Body("a box of unread items", lambda: Box(_items()), kind="recorder"),
    Body("a row with unread items", lambda: _with_unread(Shelf.objects.order_by("pk").first()), kind="recorder"),
    Body("a tuple of an unread query set", lambda: ("items", _items()), kind="recorder"),
    Body("SELECT by a cursor", _by_cursor, kind="recorder"),
    Body("raw()", lambda: list(Item.objects.raw("SELECT * FROM values_item ORDER BY id")), kind="recorder"),
    Body("RawSQL", lambda: list(_items().annotate(n=RawSQL("SELECT COUNT(*) FROM values_label", ()))), kind="recorder"),
)


def _with_unread(shelf: Any) -> Any:
    if shelf is not None:
        shelf.things = _items().filter(shelf=shelf)
    return shelf


SHELF = (
    Body("names on", lambda shelf: [i.name for i in _items().filter(shelf=shelf)], "shelf", is_plain=True),
    Body("items on", lambda shelf: list(_items().filter(shelf=shelf)), "shelf"),
    Body("count on", lambda shelf: Item.objects.filter(shelf=shelf).count(), "shelf", is_plain=True),
    Body("children of", lambda shelf: list(Shelf.objects.filter(parent=shelf).order_by("pk")), "shelf"),
    Body("makers on", lambda shelf: {maker.code for maker in Maker.objects.filter(item__shelf=shelf)}, "shelf"),
    Body("empty?", lambda shelf: not Item.objects.filter(shelf=shelf).exists(), "shelf", is_plain=True),
)
ITEM = (
    Body("get", lambda item: Item.objects.get(pk=_pk(item)), "item"),
    Body("get, joined", lambda item: _items().select_related("maker", "shelf").get(pk=_pk(item)), "item"),
    Body("filter().first()", lambda item: Item.objects.filter(pk=_pk(item)).first(), "item"),
    Body("labels of", lambda item: {label.name for label in Label.objects.filter(item=item)}, "item"),
    Body("detail of", lambda item: Detail.objects.filter(item=item).first(), "item"),
    Body("notes about", lambda item: [n.text for n in Note.objects.filter(_of_item(item)).order_by("pk")], "item"),
    Body("suppliers of", lambda item: list(Maker.objects.filter(supplied=item).order_by("pk")), "item"),
    Body(
        "name of",
        lambda item: Item.objects.get(pk=_pk(item)).name,
        "item",
        is_plain=True,
    ),
)
ROW = (
    Body("what it shows", lambda row: f"{row}: {row.name}", "row", is_plain=True),
    Body("the row itself", lambda row: row, "row"),
    Body("items of the row", lambda row: list(row.item_set.order_by("pk")), "shelf row"),
    Body("names by the row", lambda row: [(i.name, i.shelf.name) for i in row.item_set.order_by("pk")], "shelf row"),
)
PLAIN = (
    Body("priced", lambda price: [i.name for i in _items().filter(price=price)], "price", is_plain=True),
    Body("rows priced", lambda price: list(_items().filter(price=price)), "price"),
    Body("dearer", lambda price: _items().filter(price__gt=price).count(), "price", is_plain=True),
    Body("any priced?", lambda price: Item.objects.filter(price=price).exists(), "price", is_plain=True),
    Body("named", lambda name: list(_items().filter(name=name).values_list("price", flat=True)), "name"),
    Body("on shelves named", lambda name: list(_items().filter(shelf__name=name)), "name"),
    Body("labelled", lambda name: list(_items().filter(labels__name=name).distinct()), "name"),
    Body("Maker by code", lambda code: Maker.objects.get(code=code), "code"),
    Body("not named", lambda name: list(_items().exclude(name=name)), "name"),
)
ROWS = (
    Body("list(rows)", list, "rows"),
    Body("len(rows)", len, "rows", is_plain=True),
    Body("rows, ordered", lambda rows: [i.name for i in rows.order_by("-price", "pk")], "rows", is_plain=True),
    Body("labels of rows", lambda rows: [f"{i.shelf and i.shelf.name}/{i.name}" for i in rows], "rows", is_plain=True),
    Body("in the language of rows", lambda rows: [f"{rows.language}:{i.name}" for i in rows], "rows", is_plain=True),
)
MODEL = (
    Body("count of", lambda model: model.objects.count(), "model", is_plain=True),
    Body("all of", lambda model: list(model.objects.order_by("pk")), "model"),
)
BODIES: Sequence[Body] = [
    body for body in (*SHELF, *ITEM, *NO_ARGUMENT, *ROW, *PLAIN, *ROWS, *MODEL) if not body.kind or happens(body.kind)
]
