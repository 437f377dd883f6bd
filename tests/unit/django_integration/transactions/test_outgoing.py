"""`invalidate()`: what it takes, what it refuses, and which transaction it waits for."""

import pytest
from django.db import transaction
from django.test import override_settings

from django_integration import invalidate, tag
from invalidator import InvalidName

from ..conftest import Message, Wire, keys
from ..zoo.models import Cage, Keeper

pytestmark = pytest.mark.usefixtures("db")


def test_without_a_transaction_it_leaves_at_once(wire: Wire) -> None:
    receipt = invalidate("a", tag("t"))
    assert receipt is not None
    assert receipt.accepted
    assert wire.messages() == [Message(frozenset({"a"}), frozenset({"t"}))]


def test_databases_have_transactions_of_their_own(wire: Wire) -> None:
    with transaction.atomic():
        invalidate("default")
        with transaction.atomic(using="other"):
            invalidate("other", using="other")
        assert wire.messages() == [keys("other")]
        assert invalidate("now", using="other") is not None
        assert wire.messages() == [keys("now")]
    assert wire.messages() == [keys("default")]


def test_a_row_belongs_to_the_transaction_of_its_own_database(wire: Wire) -> None:
    cage = Cage.objects.using("other").create()
    wire.messages()
    with transaction.atomic():
        assert invalidate(cage) is not None
        assert wire.message().tags == {"zoo.cage", f"zoo.cage:{cage.pk}"}
    with transaction.atomic(using="other"):
        assert invalidate(cage, "key of the default database") is None
        assert wire.messages() == [keys("key of the default database")]
    assert wire.message().tags == {"zoo.cage", f"zoo.cage:{cage.pk}"}


class ToOther:
    """A router that writes everything to the other database."""

    def db_for_write(self, model: type, **hints: object) -> str:
        return "other"


def test_a_model_belongs_to_the_transaction_of_the_database_it_is_written_to(wire: Wire) -> None:
    routed = override_settings(DATABASE_ROUTERS=[ToOther()])
    with routed, transaction.atomic(using="other"):
        assert invalidate(Cage) is None
        assert invalidate(Cage(pk=1)) is None
        assert wire.messages() == []
    assert wire.message().tags == {"zoo.cage", "zoo.cage:*", "zoo.cage:1"}


@pytest.mark.parametrize("target", ["", "x" * 600, 7, None, b"bytes", ["list"]])
def test_a_bad_target_is_refused_at_once_and_takes_no_other_with_it(wire: Wire, target: object) -> None:
    with transaction.atomic():
        invalidate("good")
        with pytest.raises((TypeError, InvalidName)):
            invalidate("never", target)  # type: ignore[arg-type]
    assert wire.messages() == [keys("good")]


def test_nothing_to_invalidate_is_a_mistake() -> None:
    with pytest.raises(InvalidName, match="nothing to invalidate"):
        invalidate()


def test_a_row_that_was_never_saved_cannot_be_invalidated(wire: Wire) -> None:
    with pytest.raises(InvalidName, match="no primary key yet"):
        invalidate(Cage())
    assert wire.messages() == []


def test_rows_tables_tags_and_keys_can_be_invalidated_together(wire: Wire) -> None:
    cage = Cage(pk=7)
    invalidate("key", cage, Keeper, tag("prices"))
    message = wire.message()
    assert message.keys == {"key"}
    assert message.tags == {"zoo.cage", "zoo.cage:7", "zoo.keeper", "zoo.keeper:*", "prices"}
