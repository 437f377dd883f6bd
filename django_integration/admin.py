"""
The app in Django's admin: the action "Invalidate caches" in every list of rows, and the status page on the index.

Both are added to the default admin site (`admin.site`). Another site gets them by two lines:

    site.add_action(invalidate_caches)
    site.register(Caches, CachesAdmin)

Rule 1: invalidating needs the permission to change the rows; every member of the staff may see the status page.
Rule 2: if Redis cannot be reached, the user gets a message; the request does not fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps.registry import Apps
from django.contrib import admin, messages
from django.contrib.admin.utils import model_ngettext
from django.db import models, router
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe

from invalidator import InvalidatorError

from . import views
from .names import Names, is_watched, plan_of
from .transactions.outgoing import add_stale, publish_after_commit

MOST_ROWS = 500
"""Selected rows that are invalidated one by one; if there are more, their whole table is invalidated."""


@admin.action(permissions=["change"], description="Invalidate caches of selected %(verbose_name_plural)s")
def invalidate_caches(modeladmin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any]) -> None:
    """Invalidate on every server what a save of the selected rows would invalidate."""
    model = queryset.model
    if not is_watched(model):
        text = f"Changes of {model._meta.verbose_name_plural} are not watched, so no cache holds them by their tags."
        modeladmin.message_user(request, text, messages.WARNING)
        return
    count = queryset.count()
    try:
        receipt = publish_after_commit({router.db_for_write(model): _names(queryset, count)})
    except InvalidatorError as error:
        modeladmin.message_user(request, f"Nothing was invalidated elsewhere: {error}", messages.ERROR)
        return
    what = f"{count} {model_ngettext(queryset, count)}"
    if receipt is None:
        modeladmin.message_user(request, f"The caches of {what} are invalidated with the commit.", messages.SUCCESS)
    elif receipt.accepted:
        modeladmin.message_user(request, f"Invalidated the caches of {what} on every server.", messages.SUCCESS)
    else:
        text = f"Redis is away: the caches of {what} are invalidated here, and elsewhere as soon as it is back."
        modeladmin.message_user(request, text, messages.WARNING)


def _names(queryset: QuerySet[Any], count: int) -> Names:
    names = Names()
    plan = plan_of(queryset.model, None)
    if count <= MOST_ROWS or plan.has_functions:  # functions need to see the rows
        for row in queryset.iterator(chunk_size=MOST_ROWS):
            add_stale(names, row)
    else:
        plan.add_table(names)
    return names


if TYPE_CHECKING:
    _CachesAdmin = admin.ModelAdmin["Caches"]
else:
    _CachesAdmin = admin.ModelAdmin


class Caches(models.Model):
    """
    A page that the admin lists as if it were a model.

    It lives in a registry of its own, so it has no table, no migration, no permissions and no content type.
    """

    class Meta:
        apps = Apps()
        app_label = "invalidator"
        managed = False
        verbose_name = verbose_name_plural = "caches of this process"

    def __str__(self) -> str:
        return "caches of this process"


class CachesAdmin(_CachesAdmin):
    """Shows `views.page` in place of a list of rows."""

    actions = None

    def get_urls(self) -> list[URLPattern]:
        """The URL of the page, under the name by which the index links to it."""
        view = self.admin_site.admin_view(require_safe(self.page))
        return [path("", view, name=f"{self.opts.app_label}_{self.opts.model_name}_changelist")]

    def page(self, request: HttpRequest) -> HttpResponse:
        """The status page, for everybody whom the site admits."""
        return views.page(request, self.admin_site.each_context(request))

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Staff may look."""
        return self.admin_site.has_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Staff may look."""
        return self.admin_site.has_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """There is nothing to add."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """There is nothing to change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """There is nothing to delete."""
        return False


admin.site.add_action(invalidate_caches)
admin.site.register(Caches, CachesAdmin)
