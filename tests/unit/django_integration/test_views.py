"""The status page over HTTP: `test_admin.py` has it in the admin."""

import threading
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test import Client, override_settings

from django_integration import bus, cache
from django_integration.monitoring import verifier
from django_integration.testing import isolated
from invalidator.ledger.file import writing

from .conftest import WAIT_S
from .monitoring.test_status import AWAY, CACHES

PAGE = "/caches/"


@pytest.fixture
def staff(db: None) -> Client:
    """A browser in which somebody has logged in who is staff, and nothing more."""
    client = Client()
    client.force_login(User.objects.create_user("ann", is_staff=True))
    return client


def text_of(client: Client, page: str = PAGE) -> str:
    answer = client.get(page)
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_is_for_staff(db: None) -> None:
    assert Client().get(PAGE)["Location"] == f"/admin/login/?next={PAGE}"
    assert Client().get(f"{PAGE}?format=json").status_code == 302


@pytest.mark.parametrize("page", [PAGE, "/admin/invalidator/caches/"])
@pytest.mark.parametrize("query", ["", "?format=json"])
def test_nobody_keeps_it(page: str, query: str, staff: Client) -> None:
    answer = staff.get(page + query)
    assert "no-store" in answer["Cache-Control"]
    assert "private" in answer["Cache-Control"]
    assert answer["Content-Type"].startswith("application/json" if query else "text/html")


@pytest.mark.parametrize("page", [PAGE, "/admin/invalidator/caches/"])
def test_it_can_only_be_read(page: str, staff: Client) -> None:
    assert staff.post(page).status_code == 405
    assert staff.head(page).status_code == 200


def test_json_is_what_the_process_tells(staff: Client) -> None:
    cache.get_or_set("page", lambda: 1)
    found = staff.get(f"{PAGE}?format=json").json()
    assert found["bus"]["node"] == bus().node
    assert found["near_caches"][0]["stats"]["loads"] >= 1


def test_a_process_that_hears_everything(staff: Client) -> None:
    assert bus().wait_until_leased(WAIT_S)
    with override_settings(CACHES=CACHES):
        caches["default"].get_or_set("a", lambda: 1)
        text = text_of(staff)
    assert "Everything that was invalidated up to a moment ago is known here." in text
    assert "CACHES: default, twin" in text
    assert "Second levels" in text
    assert "for what was loaded in the last" in text
    assert "failures" not in text


def test_names_are_escaped(staff: Client) -> None:
    assert bus().wait_until_leased(WAIT_S)
    text_of(staff)
    heard = threading.Event()
    end = bus().on_invalidate(lambda _: heard.set(), keys=["<script>alert(1)</script>"])
    bus().invalidate("<script>alert(1)</script>")
    assert heard.wait(WAIT_S)
    end()
    text = text_of(staff)
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert(1)" not in text


def test_a_process_that_has_cached_nothing(staff: Client) -> None:
    with override_settings(INVALIDATOR=AWAY):
        assert "Nothing was cached in this process yet" in text_of(staff)


def test_a_redis_that_is_away(staff: Client) -> None:
    """The page is what one looks at then."""
    with override_settings(INVALIDATOR=AWAY):
        bus().invalidate("a")
        text = text_of(staff)
        assert "1 names wait for Redis" in text
        assert "hunter2" not in text


def test_a_redis_that_never_was_there(staff: Client) -> None:
    with override_settings(INVALIDATOR=AWAY):
        assert not bus().wait_until_leased(0.1)
        assert "Nothing proves that this process misses no message" in text_of(staff)


def test_a_setting_that_cannot_work(staff: Client) -> None:
    with override_settings(INVALIDATOR={"URL": "memory://"}):
        text = text_of(staff)
    assert "There is no bus" in text
    assert "[&#x27;NAMESPACE&#x27;] is missing" in text


def test_a_sidecars_worker(staff: Client, tmp_path: Path) -> None:
    path = tmp_path / "tests.ledger"
    setting = {"URL": "memory://", "NAMESPACE": "tests", "SIDECAR": path}
    with writing(path, namespace="tests", slots=64), override_settings(INVALIDATOR=setting):
        text = text_of(staff)
    assert "a sidecar listens for this process" in text
    assert "The sidecar hears them" in text


def test_a_key_is_explained(staff: Client) -> None:
    cache.get_or_set("explained", lambda: 1, tags=["of-it"])
    shown = text_of(staff, f"{PAGE}?key=explained")
    assert "depends on  of-it" in shown
    found = staff.get(f"{PAGE}?format=json&key=explained").json()["explained"]
    assert found["entry"]["tags"] == ["of-it"]
    assert "explained" not in staff.get(f"{PAGE}?format=json").json()


def test_a_key_that_cannot_be_is_said(staff: Client) -> None:
    key = "x" * 600
    assert "512" in text_of(staff, f"{PAGE}?key={key}")
    assert any("512" in problem for problem in staff.get(f"{PAGE}?format=json&key={key}").json()["problems"])


def test_a_key_is_explained_without_calling_anything(staff: Client) -> None:
    found = staff.get(
        PAGE, {"format": "json", "key": "tests.unit.django_integration.monitoring.test_calls.doubled(n=4)"}
    ).json()
    assert not found["explained"]["loaded_now"]
    assert found["explained"]["entry"] is None


def test_stale_reads_are_shown(staff: Client) -> None:
    with isolated(VERIFY=1.0, MAX_STALENESS=0.6):
        values = iter([1, 2, 2])
        for _ in range(2):
            cache.get_or_set("stale-key", lambda: next(values), tags=["its-tag"])
        reviewer = verifier._of_the_setting.verifier
        assert reviewer is not None
        reviewer.wait()
        shown = text_of(staff)
    assert "Stale reads" in shown
    assert "stale-key" in shown
