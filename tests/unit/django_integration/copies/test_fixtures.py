"""Objects of Django's that everybody shares, and objects that stand for others."""

import pytest
from django.core.files.storage import FileSystemStorage
from django.db.models import F, Q
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from invalidator.extending import hand_out, keep

from ..zoo.models import Animal, Cage


@pytest.mark.parametrize(
    "value",
    [
        mark_safe("<b>"),
        gettext_lazy("Monday"),
        Animal._meta.get_field("cage"),
        Animal._meta.get_field("cage").remote_field,
        Animal._meta,
        Animal,
        FileSystemStorage(),
        F("name") + 1,
        Q(name="a"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_is_handed_out_as_it_is(value) -> None:
    assert hand_out(keep([value, []]))[0] is value


class TestLazyObjects:
    def test_a_reader_gets_what_it_stands_for(self, db: None) -> None:
        """As when it is pickled: `request.user` is a row."""
        cage = Cage.objects.create(name="a")
        kept = keep({"user": SimpleLazyObject(lambda: cage), "same": cage})
        mine = hand_out(kept)
        assert type(mine["user"]) is Cage
        assert mine["user"] is mine["same"] is not cage
        mine["user"].name = "changed"
        mine["user"].backend = "x"
        assert hand_out(kept)["user"].name == "a"
        assert not hasattr(hand_out(kept)["user"], "backend")

    def test_one_that_stands_for_what_cannot_be_changed(self) -> None:
        assert hand_out(keep([SimpleLazyObject(lambda: "text"), []]))[0] == "text"
