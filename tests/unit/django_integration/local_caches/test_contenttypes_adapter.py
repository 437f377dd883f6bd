"""The cache of `ContentType.objects`; in a real process it is in tests/integration/test_local_caches.py."""

from __future__ import annotations

import pytest

from django_integration import bus, invalidate, model_tag
from django_integration.local_caches.contenttypes_adapter import ByDatabase
from django_integration.local_caches.mapping import Reading

from ..conftest import WAIT_S
from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db")

TAG = model_tag(Cage)


def test_one_for_each_database() -> None:
    """As ContentTypeManager uses it."""
    assert bus().wait_until_leased(WAIT_S)
    caches = ByDatabase(Reading(), TAG)
    caches.setdefault("default", {})[1] = "a"
    caches["other"][1] = "b"
    assert (caches["default"][1], caches["other"][1]) == ("a", "b")
    invalidate(Cage)
    assert not caches["default"]
    caches["other"][1] = "b"
    caches.clear()
    assert caches["other"] is caches.setdefault("other", None)
    assert not caches["other"]
