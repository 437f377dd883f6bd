"""A dictionary whose items are served as a near cache serves them."""

from __future__ import annotations

import asyncio

import pytest
from django.db import transaction
from django.test import override_settings

from django_integration import bus, invalidate, model_tag
from django_integration.local_caches.mapping import CoherentDict, Reading

from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db", "leased")

TAG = model_tag(Cage)


@pytest.fixture
def leased() -> None:
    """What a test loads is leased from the beginning."""
    assert bus().wait_until_leased(20)


@pytest.fixture
def reading() -> Reading:
    return Reading()


@pytest.fixture
def items(reading: Reading) -> CoherentDict:
    return CoherentDict(reading, TAG)


class TestCoherentDict:
    def test_it_is_a_dictionary(self, items: CoherentDict) -> None:
        assert items.setdefault(1, "a") == "a"
        items["host", 2] = None
        assert dict(items) == {1: "a", ("host", 2): None}
        assert ("host", 2) in items
        assert len(items) == 2
        assert items.get(3, "none") == "none"
        assert items.pop(1) == "a"
        with pytest.raises(KeyError):
            del items[1]
        items.clear()
        assert not items
        assert repr(items) == f"<CoherentDict of {TAG}: {{}}>"

    def test_a_changed_row_empties_it(self, items: CoherentDict) -> None:
        items[1] = "a"
        Cage.objects.create()
        assert 1 not in items
        assert not items
        with pytest.raises(KeyError):
            items[1]

    def test_an_item_counts_from_the_miss_of_its_key(self, items: CoherentDict) -> None:
        assert 1 not in items
        invalidate(Cage)
        items[1] = "old"
        assert 1 not in items

    def test_a_reading_goes_on_with_what_it_has_seen(self, reading: Reading, items: CoherentDict) -> None:
        """`if key in CACHE: return CACHE[key]`, and the row changes in between: no KeyError, as in a plain dict."""

        def read(key: int) -> str:
            if key in items:
                invalidate(Cage)
                return str(items[key])
            items[key] = "loaded"
            invalidate(Cage)
            return str(items[key])

        items[1] = "seen"
        assert reading.around(read)(1) == "seen"
        assert reading.around(read)(2) == "loaded"
        assert not items

    def test_what_a_reading_stores_counts_from_its_beginning(self, reading: Reading, items: CoherentDict) -> None:
        """Under whichever keys: ContentType stores under two, of which it has missed one."""

        def read() -> None:
            invalidate(Cage)
            items["id"] = items["name"] = "old"

        reading.around(read)()
        assert not items

    def test_a_reading_inside_a_reading_is_its_own(self, reading: Reading, items: CoherentDict) -> None:
        inner = reading.around(lambda: items.get(1, "gone"))

        def read() -> list[str]:
            found = [items[1]]
            invalidate(Cage)
            return [*found, inner(), items[1]]

        items[1] = "a"
        assert reading.around(read)() == ["a", "gone", "a"]

    def test_a_reading_may_be_a_coroutine(self, reading: Reading, items: CoherentDict) -> None:
        async def read() -> object:
            found = items[1]
            await bus().ainvalidate(tags=[TAG])
            await asyncio.sleep(0)
            return found, items[1]

        items[1] = "a"
        assert asyncio.run(reading.around(read)()) == ("a", "a")
        assert not items

    def test_a_transaction_leaves_nothing_of_its_own_change(self, reading: Reading, items: CoherentDict) -> None:
        @reading.around
        def read() -> int:
            if "count" not in items:
                items["count"] = Cage.objects.count()
            return int(items["count"])

        assert read() == 0
        with transaction.atomic():
            Cage.objects.create()
            assert read() == 1
            transaction.set_rollback(True)
        assert read() == 0

    def test_it_follows_the_settings(self, items: CoherentDict) -> None:
        items[1] = "a"
        with override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "elsewhere"}):
            assert 1 not in items
