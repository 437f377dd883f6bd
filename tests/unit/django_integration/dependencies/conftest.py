"""Rows to read, and what a read depends on."""

from collections.abc import Callable
from typing import Any

import pytest

from django_integration.dependencies.recorder import Recorder, recording

from ..zoo.models import Animal, Cage


@pytest.fixture
def cage(db: None) -> Cage:
    return Cage.objects.create(name="big")


@pytest.fixture
def ape(cage: Cage) -> Animal:
    return Animal.objects.create(name="ape", weight=7, cage=cage)


def tags_of(read: Callable[[], Any]) -> set[str]:
    """What *read* depends on."""
    recorder = Recorder()
    with recording(recorder):
        read()
    return set(recorder.tags())
