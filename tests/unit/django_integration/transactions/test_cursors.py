"""A read in progress is known as long as it is one: on SQLite, where it makes others old, and nowhere else."""

from __future__ import annotations

import pytest
from django.db import connection

from django_integration.transactions.cursors import open_since
from invalidator.extending import now_ns

from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db")


def is_open() -> bool:
    return open_since(connection) is not None


COUNTS = connection.vendor == "sqlite"


def test_a_cursor_counts_from_its_making_until_it_is_closed() -> None:
    assert not is_open()
    before = now_ns()
    with connection.cursor():
        since = open_since(connection)
        assert since is None or before <= since <= now_ns()
        with connection.cursor():
            assert open_since(connection) == since, "the oldest"
        assert is_open() == COUNTS
    assert not is_open()


def test_a_cursor_that_is_gone_is_closed() -> None:
    cursor = connection.cursor()
    assert is_open() == COUNTS
    del cursor
    assert not is_open()


def test_rows_in_chunks_are_a_read_until_the_last() -> None:
    Cage.objects.bulk_create([Cage(), Cage()])
    rows = Cage.objects.iterator(chunk_size=1)
    next(rows)
    assert is_open() == (COUNTS and connection.features.can_use_chunked_reads)
    list(rows)
    assert not is_open()


def test_django_leaves_none_open() -> None:
    cage = Cage.objects.create()
    list(Cage.objects.all())
    cage.save()
    Cage.objects.update(name="x")
    cage.delete()
    assert not is_open()


def test_a_new_connection_has_none() -> None:
    cursor = connection.cursor()
    connection.close()
    connection.connect()
    assert not is_open()
    del cursor
    with connection.cursor():
        assert is_open() == COUNTS
