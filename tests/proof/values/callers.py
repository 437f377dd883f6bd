"""
What callers do with what they were handed: change it, follow its relations, keep it and look at it later.

None of this may be seen by anybody else. What a relation shows that a caller follows is a read of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django import forms
from django.db.models import Model, QuerySet

from tests.proof.simulation.choices import Choices

from .models import Item

UNSAVED = "changed"


class ItemForm(forms.ModelForm):  # type: ignore[type-arg]
    """Writes into its instance, even if it says no."""

    class Meta:
        model = Item
        fields = ("name", "price")


def rows_in(value: Any, depth: int = 0) -> Iterator[Model]:
    """The rows in *value*."""
    if isinstance(value, Model):
        yield value
    elif depth < 3:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list | tuple | QuerySet):
            for item in value:
                yield from rows_in(item, depth + 1)


Misuse = tuple[str, Callable[[], object]]


def draw_misuse(choices: Choices, value: Any) -> Misuse | None:
    """Something that changes *value*, which the caller was handed; None if nothing can."""
    found = [*_of_containers(value), *_of_rows(choices, value)]
    return choices.pick(found) if found else None


def _of_containers(value: Any) -> Iterator[Misuse]:
    if isinstance(value, list):
        yield "append('stranger')", lambda: value.append("stranger")
        yield "clear()", value.clear
    elif isinstance(value, dict):
        yield "['stranger'] = 1", lambda: value.update(stranger=1)
        for item in list(value.values())[:1]:
            yield from _of_containers(item)
    elif isinstance(value, set):
        yield "add('stranger')", lambda: value.add("stranger")


def _of_rows(choices: Choices, value: Any) -> Iterator[Misuse]:
    rows = list(rows_in(value))
    if not rows:
        return
    row: Any = choices.pick(rows)
    yield f"{_text(row)}.name = {UNSAVED!r}", lambda: setattr(row, "name", UNSAVED)
    yield f"{_text(row)}.stranger = 1", lambda: setattr(row, "stranger", 1)
    if isinstance(row, Item):
        yield f"{_text(row)}.shelf = None", lambda: setattr(row, "shelf", None)
        yield f"an invalid form of {_text(row)}", lambda: _invalid_form(row)
        if "sizes" in vars(row):
            yield f"{_text(row)}.sizes.append(9)", lambda: row.sizes.append(9)
        if "picture" in vars(row):
            yield f"{_text(row)}.picture.name = …", lambda: setattr(row.picture, "name", UNSAVED)
    for relation, loaded in list(row._state.fields_cache.items()):
        if isinstance(loaded, Model):
            yield f"{_text(row)}.{relation}.name = {UNSAVED!r}", _setter(loaded)


def _setter(row: Any) -> Callable[[], object]:
    return lambda: setattr(row, "name", UNSAVED)


def _invalid_form(row: Item) -> None:
    ItemForm({"name": "typed", "price": "no number"}, instance=row).is_valid()


def _text(row: Model) -> str:
    return f"{type(row).__name__}({row.pk})"


Following = tuple[str, Callable[[], Any], Callable[[], Any]]


def draw_following(choices: Choices, value: Any) -> Following | None:
    """A relation that the loader has not loaded: its text, how it is followed, and what it shows in truth."""
    found = [following for row in rows_in(value) for following in _relations(row)]
    return choices.pick(found) if found else None


def _relations(row: Any) -> Iterator[Following]:
    for field in row._meta.concrete_fields:
        if field.many_to_one and not field.is_cached(row) and field.attname in vars(row) and field.related_model:
            yield _to_one(row, field)
    if isinstance(row, Item):
        for name in ("labels", "suppliers", "notes"):
            if name not in getattr(row, "_prefetched_objects_cache", {}):
                yield _to_many(row, name)


def _to_one(row: Any, field: Any) -> Following:
    pk = getattr(row, field.attname)
    return (
        f"{_text(row)}.{field.name}",
        lambda: getattr(row, field.name),
        lambda: None if pk is None else field.related_model._base_manager.get(pk=pk),
    )


def _to_many(row: Any, name: str) -> Following:
    model, pk = type(row), row.pk

    def truth() -> list[Any]:
        again = model._base_manager.filter(pk=pk).first()
        return list(getattr(again, name).order_by("pk")) if again else []

    return f"{_text(row)}.{name}.all()", lambda: list(getattr(row, name).order_by("pk")), truth
