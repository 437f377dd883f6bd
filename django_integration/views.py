"""
The status page: HTML in the look of the admin, or `?format=json`; with `?key=`, also what is known of that entry.

`admin.py` shows it in the admin, where nothing is to be configured for it. `urls.py` is for another place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.decorators import staff_member_required
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from invalidator import InvalidatorError

from .monitoring.explain import Explanation, as_lines, explain
from .monitoring.status import ProcessStatus, look, without_password

_SERVED = {
    "short": "each entry for MAX_STALENESS after its load",
    "bypass": "nothing from memory",
    "serve": "everything until its TTL, without a bound",
}
"""By WHEN_UNLEASED."""

JOURNAL_READ = 2_000
"""Messages, for `?key=`. A page must not wait for all of them."""

TEMPLATE = "invalidator/status.html"


@never_cache
@require_safe
@staff_member_required
def status(request: HttpRequest) -> HttpResponse:
    """The state of the process that answers, for staff."""
    return page(request, admin.site.each_context(request))


def page(request: HttpRequest, context: Mapping[str, Any]) -> HttpResponse:
    """Answer in the *context* of an admin site. The caller has checked that the user may see it."""
    found = look()
    explained, problem = _explain(request.GET.get("key", ""))
    if request.GET.get("format") == "json":
        answer = {**found, "explained": explained} if "key" in request.GET else found
        if problem:
            answer["problems"] = [*found["problems"], problem]
        return JsonResponse(answer, json_dumps_params={"indent": 2})
    return render(
        request,
        TEMPLATE,
        {
            **context,
            "title": "Caches of this process",
            "verdict": _verdict(found),
            "status": found,
            "key": request.GET.get("key", ""),
            "explained": explained and list(as_lines(explained)),
            "key_problem": problem,
        },
    )


def _explain(key: str) -> tuple[Explanation | None, str | None]:
    """What is known of the entry of *key* in this process, or why nothing is. Loads nothing."""
    if not key:
        return None, None
    try:
        return explain(key, most=JOURNAL_READ), None
    except (ImproperlyConfigured, InvalidatorError) as error:
        return None, without_password(str(error))


def _verdict(found: ProcessStatus) -> tuple[str, str]:
    """What matters most: how grave it is, as the admin's messages have it, and a sentence."""
    bus = found["bus"]
    if bus is None:
        return "error", "There is no bus, so nothing is invalidated by this process: see the problems below."
    if bus["queued"]:
        return "warning", f"{bus['queued']} names wait for Redis: other servers still serve the old values."
    if bus["leased"]:
        return "success", "Everything that was invalidated up to a moment ago is known here."
    if bus["state"] == "idle":
        return "info", "Nothing was cached in this process yet, so it does not listen."
    why, then = bus["last_error"] or bus["state"], found["settings"]["WHEN_UNLEASED"]
    return "warning", f"Nothing proves that this process misses no message ({why}). It serves {_SERVED.get(then)}."
