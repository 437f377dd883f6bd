"""The action "Invalidate caches" and the status page, as staff sees them."""

from io import StringIO

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core import checks
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import clear_url_caches, path, reverse

from django_integration import admin as ours

from .conftest import Wire
from .zoo.models import Cage, Note, Ticket

INDEX = "/admin/"
PAGE = "/admin/invalidator/caches/"


@pytest.fixture
def staff(db: None) -> Client:
    """A browser in which a superuser has logged in."""
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    return client


@pytest.fixture
def nobody(db: None) -> Client:
    """A browser of a user without any permission who is staff."""
    client = Client()
    client.force_login(User.objects.create_user("bob", is_staff=True))
    return client


def invalidate(client: Client, model: str, pks: list[int], **more: str) -> list[tuple[str, str]]:
    """Choose the action for rows; return the messages that the next page shows."""
    chosen = {"action": "invalidate_caches", "_selected_action": [str(pk) for pk in pks], **more}
    page = client.post(f"/admin/zoo/{model}/", chosen, follow=True)
    assert page.status_code == 200
    return [(message.level_tag, str(message)) for message in page.context["messages"]]


def permission(codename: str) -> Permission:
    """One about cages, made anew: emptying the tables has removed what `migrate` made."""
    cages = ContentType.objects.get_for_model(Cage)
    return Permission.objects.get_or_create(codename=codename, content_type=cages, defaults={"name": codename})[0]


def _urls() -> type:
    """The admin's URLs as they are now."""

    class Urls:
        urlpatterns = (path("admin/", admin.site.urls),)

    return Urls


class TestAction:
    def test_it_is_what_a_save_would_be(self, staff: Client, wire: Wire) -> None:
        ticket, other = Ticket.objects.create(day=3), Ticket.objects.create(day=4)
        wire.messages()
        said = invalidate(staff, "ticket", [ticket.pk])
        message = wire.message()
        assert "day:3" in message.keys
        assert "day:4" not in message.keys
        assert f"zoo.ticket:{ticket.pk}" in message.tags
        assert f"zoo.ticket:{other.pk}" not in message.tags
        assert said == [("success", "Invalidated the caches of 1 ticket on every server.")]

    def test_it_needs_the_permission_to_change(self, nobody: Client, wire: Wire) -> None:
        cage = Cage.objects.create()
        user = User.objects.get()
        user.user_permissions.add(permission("view_cage"))
        wire.messages()
        assert "invalidate_caches" not in nobody.get("/admin/zoo/cage/").content.decode()
        assert invalidate(nobody, "cage", [cage.pk]) == []
        assert wire.messages() == []
        user.user_permissions.add(permission("change_cage"))
        wire.messages()
        assert invalidate(nobody, "cage", [cage.pk])[0][0] == "success"
        assert f"zoo.cage:{cage.pk}" in wire.message().tags

    def test_many_rows_are_all_rows_and_are_not_read(self, staff: Client, wire: Wire) -> None:
        Note.objects.bulk_create(Note() for _ in range(ours.MOST_ROWS + 1))
        wire.messages()
        with CaptureQueriesContext(connection) as queries:
            said = invalidate(staff, "note", [Note.objects.first().pk], select_across="1")
        assert said == [("success", "Invalidated the caches of 501 notes on every server.")]
        assert wire.message().tags == {"zoo.note", "zoo.note:*"}
        assert not [query for query in queries if 'SELECT "zoo_note"' in query["sql"] and "LIMIT" not in query["sql"]]

    def test_many_rows_that_a_function_wants_to_see_are_read(self, staff: Client, wire: Wire) -> None:
        Ticket.objects.bulk_create(Ticket(day=day) for day in range(ours.MOST_ROWS + 1))
        wire.messages()
        invalidate(staff, "ticket", [Ticket.objects.first().pk], select_across="1")
        assert wire.message().keys >= {f"day:{day}" for day in range(ours.MOST_ROWS + 1)}

    def test_an_unwatched_model_is_a_warning(self, staff: Client, wire: Wire) -> None:
        entry = LogEntry.objects.create(user=User.objects.get(), action_flag=1)
        admin.site.register(LogEntry)
        try:
            clear_url_caches()
            with override_settings(ROOT_URLCONF=_urls()):
                chosen = {"action": "invalidate_caches", "_selected_action": [str(entry.pk)]}
                page = staff.post("/admin/admin/logentry/", chosen, follow=True)
        finally:
            admin.site.unregister(LogEntry)
        [message] = page.context["messages"]
        assert (message.level_tag, "not watched" in message.message) == ("warning", True)
        assert wire.messages() == []

    def test_a_redis_that_is_away_is_a_warning(self, staff: Client) -> None:
        cage = Cage.objects.create()
        with override_settings(INVALIDATOR={"URL": "redis://127.0.0.1:1", "NAMESPACE": "tests", "CLOSE_TIMEOUT": 0}):
            [(level, text)] = invalidate(staff, "cage", [cage.pk])
        assert (level, "as soon as it is back" in text) == ("warning", True)

    def test_a_refusal_is_an_error_message(self, staff: Client) -> None:
        cage = Cage.objects.create()
        away = {"URL": "redis://127.0.0.1:1", "NAMESPACE": "tests", "PUBLISH": "raise"}
        with override_settings(INVALIDATOR=away):
            [(level, text)] = invalidate(staff, "cage", [cage.pk])
        assert level == "error"
        assert text.startswith("Nothing was invalidated elsewhere: ")

    def test_in_a_transaction_it_waits_for_the_commit(self, staff: Client, wire: Wire) -> None:
        cage = Cage.objects.create()
        wire.messages()
        connection.settings_dict["ATOMIC_REQUESTS"] = True
        try:
            said = invalidate(staff, "cage", [cage.pk])
        finally:
            connection.settings_dict["ATOMIC_REQUESTS"] = False
        assert said == [("success", "The caches of 1 cage are invalidated with the commit.")]
        assert f"zoo.cage:{cage.pk}" in wire.message().tags


class TestPage:
    def test_the_index_links_it_and_nothing_else_of_this_app(self, staff: Client) -> None:
        page = staff.get(INDEX).content.decode()
        assert f'href="{PAGE}"' in page
        assert "Caches of this process" in page
        assert f"{PAGE}add/" not in page
        assert staff.get(PAGE).status_code == 200

    def test_staff_sees_it_without_any_permission(self, nobody: Client) -> None:
        assert f'href="{PAGE}"' in nobody.get(INDEX).content.decode()
        assert nobody.get(PAGE).status_code == 200

    def test_nobody_else_does(self, db: None) -> None:
        client = Client()
        answer = client.get(PAGE)
        assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={PAGE}")
        client.force_login(User.objects.create_user("eve"))
        assert client.get(PAGE).status_code == 302

    def test_it_is_no_model(self) -> None:
        """No table, no migration, no permission, no content type."""
        assert "caches" not in [model._meta.model_name for model in apps.get_app_config("invalidator").get_models()]
        call_command("makemigrations", "invalidator", check=True, dry_run=True, stdout=StringIO())
        assert not ContentType.objects.filter(app_label="invalidator").exists()
        assert not Permission.objects.filter(content_type__app_label="invalidator").exists()

    def test_the_admin_passes_its_checks(self) -> None:
        assert checks.run_checks(tags=["admin"]) == []

    def test_the_page_of_the_app_works(self, staff: Client) -> None:
        assert staff.get(reverse("admin:app_list", args=["invalidator"])).status_code == 200
