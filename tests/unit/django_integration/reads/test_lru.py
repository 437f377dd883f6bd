"""coherent_lru_cache on Django's bus."""

import pytest
from django.db import transaction
from django.test import override_settings

from django_integration import coherent_lru_cache, model_tag
from django_integration.reads.default_cache import default_cache

from ..conftest import Wire
from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db", "leased")


@pytest.fixture
def leased() -> None:
    """What a test loads is leased from the beginning."""
    assert default_cache().bus.wait_until_leased(20)


@coherent_lru_cache
def cages() -> int:
    return Cage.objects.count()


@coherent_lru_cache(maxsize=None, tags=[model_tag(Cage)])
def cages_by_tag(name: str) -> int:
    return Cage.objects.filter(name=name).count()


@pytest.fixture(autouse=True)
def empty(leased: None) -> None:
    cages.cache_clear()
    cages_by_tag.cache_clear()


def test_a_clear_leaves_after_the_commit_and_is_in_force_here_at_once(wire: Wire) -> None:
    assert cages() == 0
    with transaction.atomic():
        Cage.objects.all()._raw_delete("default")
        assert cages.cache_clear() is None
        assert cages.cache_info()[:2] == (0, 0)
        assert cages.cache_info().currsize == 0
        assert wire.messages() == []
    assert wire.message().tags == {f"{__name__}.cages"}
    receipt = cages.cache_clear()
    assert receipt is not None
    assert receipt.accepted


def test_a_clear_that_is_rolled_back_is_not_told(wire: Wire) -> None:
    with transaction.atomic():
        cages.cache_clear()
        transaction.set_rollback(True)
    assert wire.messages() == []


def test_what_was_computed_in_the_transaction_before_the_commit_is_not_kept() -> None:
    """Another thread of this process may have computed it, from the old row."""
    assert cages() == 0
    with transaction.atomic():
        Cage.objects.create()
        cages.cache_clear()
        assert cages() == 1
    first = cages.cache_info().currsize
    assert first == 0
    assert cages() == 1


def test_what_was_computed_from_uncommitted_rows_is_not_kept() -> None:
    with transaction.atomic():
        Cage.objects.create()
        assert cages() == 1
        assert cages_by_tag("") == 1
        transaction.set_rollback(True)
    assert cages() == 0
    assert cages_by_tag("") == 0


def test_one_call(wire: Wire) -> None:
    assert cages_by_tag("a") == 0
    with transaction.atomic():
        assert cages_by_tag.cache_invalidate("a") is None
        assert wire.messages() == []
    name = f"{__name__}.cages_by_tag"
    assert wire.message().tags == {f"{name}(name='a')", f"{name}(*)"}


def test_a_models_tag_empties_it() -> None:
    assert cages_by_tag("a") == 0
    Cage.objects.create(name="a")
    assert cages_by_tag("a") == 1
    assert cages_by_tag.cache_info().currsize == 1


def test_it_follows_the_settings() -> None:
    assert cages() == 0
    Cage.objects.create()
    assert cages() == 0, "no tag says that they changed"
    with override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "elsewhere"}):
        assert cages() == 1
