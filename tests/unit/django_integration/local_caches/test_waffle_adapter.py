"""The cache that waffle gets, with cages for its models; the real ones are in tests/integration."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import waffle

from django_integration import bus, invalidate
from django_integration.local_caches import adapters, waffle_adapter

from ..conftest import WAIT_S
from ..zoo.models import Animal, Cage, Food

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An animal is a flag: it has links."""
    for kind, model in (("flag", Animal), ("switch", Cage), ("sample", Food)):
        monkeypatch.setattr(waffle, f"get_waffle_{kind}_model", lambda model=model: model)
    waffle_adapter._cache.cache_clear()
    yield
    waffle_adapter._cache.cache_clear()


@pytest.mark.parametrize("model", [Animal, Cage, Food, Animal.foods.through])
def test_it_is_void_with_rows_of_each_model_and_with_links(model: type) -> None:
    assert bus().wait_until_leased(WAIT_S)
    cache = waffle_adapter._get_cache(None)()
    assert cache.get("name") is None
    cache.add("name", 1)
    assert cache.get("name") == 1
    invalidate(model)
    assert cache.get("name") is None


def test_it_is_always_the_same_one() -> None:
    assert waffle_adapter._get_cache(None)() is waffle_adapter._get_cache(None)()


def test_a_model_whose_changes_are_not_published_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "is_watched", lambda model: model is not Food)
    with pytest.raises(adapters.DoesNotFit, match=r"leaves out zoo\.Food"):
        waffle_adapter.install()
