"""
Arguments of questions: as a caller gives them, and as they are in the database.

A caller may hold a row that it has changed and not saved, a query set that it has read long ago, or one of a related
manager of such a row. The answer must be that for what the database has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import Model

from tests.proof.simulation.choices import Choices

from .kinds import happens
from .models import Item, Label, Maker, Note, Shelf
from .questions import NAMES, PRICES, Body

UNSAVED = "unsaved"
CODES = ("m1", "m2", "m3")


@dataclass(frozen=True)
class Argument:
    """
    One argument.

    Args:
        text: in pseudo-code.
        given: makes what a caller gives; True asks for one that was changed in memory.
        true: makes what stands for it in the truth.
        is_plain: whether it is text or a number.
    """

    text: str
    given: Callable[[bool], Any]
    true: Callable[[], Any]
    is_plain: bool = False


def draw_argument(choices: Choices, body: Body, pks: dict[type[Model], list[int]]) -> Argument | None:
    """An argument of the kind that *body* takes; *pks* are those of the first rows of each model."""
    match body.takes:
        case "":
            return None
        case "price":
            return _plain(choices.pick(PRICES))
        case "name":
            return _plain(choices.pick(NAMES))
        case "code":
            return _plain(choices.pick(CODES))
        case "model":
            return _model(choices.pick((Item, Shelf, Label, Maker)))
        case "rows":
            return _draw_rows(choices, pks)
        case "row":
            model = choices.pick((Item, Shelf, Maker))
            return _row(model, choices.pick(pks[model]))
        case "shelf row":
            return _row(Shelf, choices.pick(pks[Shelf]))
    model = {"shelf": Shelf, "item": Item}[body.takes]
    pk = choices.pick(pks[model])
    return choices.pick((_plain(pk), _row(model, pk)))


def _plain(value: object) -> Argument:
    return Argument(repr(value), lambda _: value, lambda: value, is_plain=True)


def _model(model: type[Model]) -> Argument:
    return Argument(model.__name__, lambda _: model, lambda: model)


def _read(model: type[Model], pk: int) -> Any:
    return model._default_manager.get(pk=pk)


def _row(model: type[Model], pk: int) -> Argument:
    def given(is_changed: bool) -> Any:
        row = _read(model, pk)
        if is_changed:
            row.name = UNSAVED
        return row

    return Argument(f"{model.__name__}({pk})", given, lambda: _read(model, pk))


def _draw_rows(choices: Choices, pks: dict[type[Model], list[int]]) -> Argument:
    makers: list[Callable[[Choices, dict[type[Model], list[int]]], Argument]] = [_filtered]
    if happens("keys"):
        makers += [_of_shelf, _of_label, _translated]
    return choices.pick(makers)(choices, pks)


def _filtered(choices: Choices, pks: dict[type[Model], list[int]]) -> Argument:
    price = choices.pick(PRICES)

    def rows() -> Any:
        return Item.objects.filter(price=price).order_by("pk")

    def given(is_changed: bool) -> Any:
        made = rows()
        if is_changed:
            for row in made:  # read long ago, and changed
                row.name = UNSAVED
        return made

    return Argument(f"Item.filter(price={price})", given, rows)


def _of_shelf(choices: Choices, pks: dict[type[Model], list[int]]) -> Argument:
    shelf = _row(Shelf, choices.pick(pks[Shelf]))
    return Argument(
        f"{shelf.text}.item_set",
        lambda is_changed: shelf.given(is_changed).item_set.order_by("pk"),
        lambda: Item.objects.filter(shelf=shelf.true()).order_by("pk"),  # what the rows show is read
    )


def _of_label(choices: Choices, pks: dict[type[Model], list[int]]) -> Argument:
    label = _row(Label, choices.pick(pks[Label]))
    return Argument(
        f"{label.text}.item_set",
        lambda is_changed: label.given(is_changed).item_set.order_by("pk"),
        lambda: label.true().item_set.order_by("pk"),
    )


def _translated(choices: Choices, pks: dict[type[Model], list[int]]) -> Argument:
    language = choices.pick(("en", "nl", "de"))

    def rows() -> Any:
        return Item.objects.order_by("pk").lang(language)

    return Argument(f"Item.lang({language!r})", lambda _: rows(), rows)


def pks_of_models() -> dict[type[Model], list[int]]:
    """The primary keys of the rows that there are."""
    return {
        model: list(model._base_manager.order_by("pk").values_list("pk", flat=True))
        for model in (Item, Shelf, Label, Maker, Note)
    }
