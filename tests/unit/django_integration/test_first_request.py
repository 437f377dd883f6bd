"""A server begins to listen with its first request: real signals, sent as Django's handlers send them."""

import asyncio
from collections.abc import Iterator

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_started
from django.db import connection, transaction
from django.test import Client, override_settings

from django_integration import bus, cached, first_request, runtime
from django_integration.reads.default_cache import default_cache

NEW = {"URL": "memory://", "NAMESPACE": "first-request", "MAX_STALENESS": 60}


@pytest.fixture(autouse=True)
def new_process() -> Iterator[None]:
    """As in a process that has used nothing yet."""
    with override_settings(INVALIDATOR=NEW):
        assert runtime.made_bus() is None
        yield
    first_request.install()


def test_the_first_request_of_a_server_begins_and_waits() -> None:
    """Before the view, so that what a request loads within its transaction (ATOMIC_REQUESTS) counts from after it."""
    request_started.send(sender=WSGIHandler, environ={})
    assert bus().status().leased


def test_so_what_it_loads_in_a_transaction_is_leased() -> None:
    """A load counts from the beginning of its transaction, which is the first thing of many a request."""

    @cached(key="first-request")
    def load() -> int:
        return 1

    request_started.send(sender=WSGIHandler, environ={})
    with transaction.atomic():
        connection.ensure_connection()
        assert load() == 1
    entry = default_cache().peek("first-request")
    assert entry is not None
    assert bus()._feed.view.covers(entry.loaded_at)


def test_that_of_an_asgi_server_too_and_off_its_loop() -> None:
    """Django calls what is no coroutine function in a thread."""
    asyncio.run(request_started.asend(sender=ASGIHandler, scope={}))
    assert bus().status().leased


def test_later_ones_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    request_started.send(sender=WSGIHandler, environ={})
    monkeypatch.setattr(bus().first_moments, "begin", lambda: 1 / 0)
    assert [result for _, result in request_started.send(sender=WSGIHandler, environ={})].count(None) > 0


def test_djangos_test_client_is_no_server() -> None:
    """A project's tests connect to nothing that they did not connect to before."""
    Client().get("/nowhere/")
    assert runtime.made_bus() is None


def test_a_setting_that_cannot_work_breaks_no_request(caplog: pytest.LogCaptureFixture) -> None:
    """The checks say so, and the first use of a cache. Once in the log is enough."""
    with override_settings(INVALIDATOR={"URL": "nonsense://", "NAMESPACE": "a"}):
        for _ in range(2):
            request_started.send(sender=WSGIHandler, environ={})
    assert caplog.text.count("cannot listen") == 1


def test_a_server_that_is_away_breaks_no_request() -> None:
    with override_settings(INVALIDATOR={**NEW, "URL": "redis://127.0.0.1:1/0"}):
        request_started.send(sender=WSGIHandler, environ={})
        assert not bus().status().leased
        assert bus().first_moments.are_over
