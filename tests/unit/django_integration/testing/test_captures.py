"""What a block publishes, and assertions about it."""

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.cache import caches
from django.db import transaction
from django.test import TestCase, override_settings

from django_integration import bus, invalidate, tag
from django_integration.testing import (
    PublishedMessage,
    assert_invalidates,
    assert_invalidates_nothing,
    capture_invalidations,
    captures,
    isolated,
)
from invalidator import InvalidName

from ..zoo.models import Animal, Cage, Note, Pet, Ticket

BACKEND = {"default": {"BACKEND": "django_integration.backend.NearCacheBackend"}}


class TestMessages:
    def test_a_message_can_be_read(self, db: None) -> None:
        with isolated(), capture_invalidations() as captured:
            cage = Cage.objects.create()
            invalidate("a", tag("prices"))
        saved, called = captured
        assert saved.models == (Cage,)
        assert saved.rows == (f"zoo.cage:{cage.pk}",)
        assert called.keys == ("a",)
        assert called.tags == ("prices",)
        assert "zoo.cage[name=]" in saved.fields
        assert str(called) == "keys a; tags prices"
        assert captured.keys == ("a",)
        assert {"zoo.cage", f"zoo.cage:{cage.pk}", "prices"} <= set(captured.tags)

    def test_names_are_shown_by_their_kind(self) -> None:
        message = PublishedMessage(
            ("a", "b"), ("zoo.cage", "zoo.cage:1", "zoo.cage[name=x:y]", "prices", "no.such:1", "no[1]")
        )
        assert str(message) == (
            "keys a b; rows zoo.cage:1; models zoo.cage; tags prices no.such:1 no[1]; fields zoo.cage[name=x:y]"
        )

    def test_targets_are_found_in_it(self, db: None) -> None:
        with isolated(), capture_invalidations() as captured:
            cage = Cage.objects.create()
            invalidate("a", tag("prices"))
        other = Cage(pk=cage.pk + 1)
        assert all(target in captured for target in (cage, Cage, "a", tag("prices")))
        assert not any(target in captured for target in (other, Animal, "b", "prices", tag("a")))
        assert captured[0] in captured
        with pytest.raises(TypeError, match="can be invalidated"):
            assert 7 in captured

    def test_unknown_rows_are_every_row_and_a_clear_is_all(self, db: None) -> None:
        cage = Cage.objects.create()
        with isolated():
            with capture_invalidations() as captured:
                invalidate(Cage)
            assert cage in captured
            with capture_invalidations() as captured:
                bus().clear()
            assert cage in captured
            assert "whatever" in captured
            assert str(captured[0]) == "everything"

    def test_a_transaction_is_one_message(self, db: None) -> None:
        with isolated(), capture_invalidations() as captured, transaction.atomic():
            cage = Cage.objects.create()
            with transaction.atomic():
                Note.objects.create(cage=cage)
            with transaction.atomic():
                Animal.objects.create()
                transaction.set_rollback(True)
        assert len(captured) == 1
        assert Cage in captured
        assert Note in captured
        assert Animal not in captured

    def test_a_transaction_in_progress_is_pending(self, db: None) -> None:
        with isolated(), transaction.atomic():
            invalidate("before")
            with capture_invalidations() as captured:
                invalidate("before", "inside")
            assert [(one.keys, one.pending) for one in captured] == [(("inside",), True)]
            assert str(captured[0]) == "keys inside (not published yet: its transaction is in progress)"

    def test_what_a_strict_write_releases_is_one_message(self, db: None) -> None:
        with isolated(WRITES="strict"), capture_invalidations() as captured:
            cage = Cage.objects.create()
        assert len(captured) == 1
        assert cage in captured

    def test_messages_of_the_backend_and_of_the_bare_bus_are_captured(self) -> None:
        with override_settings(CACHES=BACKEND), isolated(), capture_invalidations() as captured:
            caches["default"].set("a", 1)
            bus().invalidate("b", tags=[tag("t")])
            assert repr(captured) == "<2 invalidations: keys :1:a | keys b; tags t>"
            captured.clear()
            assert not captured
            assert repr(captured) == "<no invalidations>"


class TestAssertions:
    def test_they_pass(self, db: None) -> None:
        ticket = Ticket.objects.create(day=1)
        with isolated():
            with assert_invalidates(ticket, Ticket, "day:1", "day:2", tag("photo:None")) as captured:
                ticket.day = 2
                ticket.save()
            assert len(captured) == 1
            with assert_invalidates_nothing():
                Ticket.objects.count()

    def test_a_deleted_row_is_expected_by_what_it_was(self, db: None) -> None:
        cage = Cage.objects.create()
        with isolated(), assert_invalidates(cage):
            cage.delete()

    def test_a_proxy_is_its_model(self, db: None) -> None:
        with isolated(), assert_invalidates(Pet, Animal):
            Pet.objects.create()

    def test_a_failure_names_what_is_missing_and_what_was_published(self, db: None) -> None:
        cage, other = Cage.objects.create(), Cage.objects.create()
        with isolated(), pytest.raises(AssertionError) as failure:  # noqa: SIM117, PT012
            with assert_invalidates(other, cage, Animal, "a", tag("prices")):
                bus().invalidate(tags=["zoo.cage", f"zoo.cage:{cage.pk}"])
                invalidate("b")
        assert str(failure.value).splitlines() == [
            f"Not invalidated: row zoo.cage:{other.pk}, model zoo.animal, key 'a', tag 'prices'.",
            "Published:",
            f"  1. rows zoo.cage:{cage.pk}; models zoo.cage",
            "  2. keys b",
        ]

    def test_a_failure_when_nothing_was_published(self, db: None) -> None:
        nothing = r"Not invalidated: key 'a'\.\nNothing was published\."
        with isolated(), pytest.raises(AssertionError, match=nothing), assert_invalidates("a"):
            pass
        with isolated(), pytest.raises(AssertionError, match=r"Nothing was to be .*\nPublished:\n  1\. keys a"):  # noqa: SIM117
            with assert_invalidates_nothing():
                invalidate("a")

    def test_many_names_and_messages_are_cut_short(self, db: None) -> None:
        with isolated(), capture_invalidations() as captured:
            invalidate(*map(str, range(30)))
            for _ in range(30):
                invalidate("a")
        assert "19 … and 10 more" in captured.describe()
        assert captured.describe().splitlines()[-1] == "  … and 11 more messages"

    def test_an_error_in_the_block_comes_through(self) -> None:
        with isolated(), pytest.raises(ZeroDivisionError), assert_invalidates("a"):
            raise ZeroDivisionError

    def test_impossible_targets_are_refused_at_once(self) -> None:
        reached: list[int] = []
        for target, error in ((Cage(), InvalidName), (7, TypeError), ("", InvalidName)):
            with pytest.raises(error), assert_invalidates(target):  # type: ignore[arg-type]
                reached.append(1)
        with pytest.raises(TypeError, match="assert_invalidates_nothing"), assert_invalidates():
            reached.append(1)
        assert not reached

    def test_an_unwatched_model_is_named(self, db: None) -> None:
        with isolated(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(captures, "is_watched", lambda model: False)
            with pytest.raises(AssertionError, match=r"model contenttypes.contenttype \(its model is not watched\)"):  # noqa: SIM117
                with assert_invalidates(ContentType):
                    pass


class PlainTestCase(TestCase):
    """In Django's own TestCase a capture alone sees what a commit would publish, and spoils nothing."""

    def test_a_capture_sees_it(self) -> None:
        with capture_invalidations() as captured:
            cage = Cage.objects.create()
        assert cage in captured

    def test_a_capture_of_callbacks_takes_nothing_from_it(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            with capture_invalidations() as captured:
                invalidate("a")
            transaction.on_commit(lambda: invalidate("b"))
        assert captured.keys == ("a",)
        assert len(callbacks) == 1
