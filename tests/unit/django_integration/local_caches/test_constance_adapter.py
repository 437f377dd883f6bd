"""The caches that constance's backends get; the backends themselves are in tests/integration."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from django_integration import bus, invalidate, tag
from django_integration.local_caches import adapters, constance_adapter

from ..conftest import WAIT_S
from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db")


class Backend:
    """Whose `__init__` is replaced."""

    _cache: dict[str, int] | None = None


def init(self: Backend) -> None:
    self._cache = {}


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cage is a setting."""
    assert bus().wait_until_leased(WAIT_S)
    monkeypatch.setattr(constance_adapter, "_models", lambda: SimpleNamespace(Constance=Cage))
    for made in (constance_adapter._rows, constance_adapter._remembered):
        made.cache_clear()
    yield
    for made in (constance_adapter._rows, constance_adapter._remembered):
        made.cache_clear()


def test_the_database_backend_gets_a_cache_of_rows() -> None:
    backend = Backend()
    constance_adapter._database_init(init)(backend)
    cache = constance_adapter._rows()
    assert backend._cache is cache
    assert cache.get("GREETING") is None
    cache.add("GREETING", "hello")
    assert cache.get("GREETING") == "hello"
    invalidate(Cage)
    assert cache.get("GREETING") is None


def test_the_redis_backend_gets_a_dictionary_that_a_change_of_a_setting_empties() -> None:
    backend = Backend()
    constance_adapter._redis_init(init)(backend)
    remembered = constance_adapter._remembered()
    assert backend._cache is remembered
    remembered["GREETING"] = "hello"
    assert remembered["GREETING"] == "hello"
    invalidate(tag(constance_adapter.CONFIG_TAG))
    assert "GREETING" not in remembered


def test_a_model_whose_changes_are_not_published_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "is_watched", lambda _: False)
    with pytest.raises(adapters.DoesNotFit, match=r"leaves out zoo\.Cage"):
        constance_adapter.install()
