"""
Whether a `set` is a fill, and when its value was loaded.

It is a fill if this thread or task has missed the key in the last FILL_WITHIN_S. Django's cache middleware
(`cache_page`) needs an exception: it looks for a list of headers under one key, and, if there is none, stores a page
under another, which it could not look for; and it stores that list with every page, whether or not it has changed.

Rule 1: a page is treated as loaded when its list of headers was missed.
Rule 2: a list of headers that is stored again as it was is no change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from invalidator.extending import WritableCache, hand_out

FILL_WITHIN_S = 60.0
"""How long after a miss a `set` of the same thread or task is taken for a fill."""

_MIDDLEWARE = "views.decorators.cache.cache_"
_HEADERS = re.compile(r"(?P<before>.*views\.decorators\.cache\.)cache_header\.(?P<page>.*)")
_PAGE = re.compile(
    r"(?P<before>.*views\.decorators\.cache\.)cache_page\.(?P<prefix>.*)\.[A-Z]+\.(?P<url>[0-9a-f]{32})\.[0-9a-f]{32}"
    r"(?P<locale>.*)"
)


def claim(near: WritableCache, values: Mapping[str, Any]) -> dict[str, tuple[bool, int]]:
    """
    Take this thread's or task's misses of the names of *values*, which it is about to store.

    Returns:
        by name, whether it is a fill, and the time of the bus' clock at which its value is treated as loaded.
    """
    return {name: _claim(near, name, value) for name, value in values.items()}


def _claim(near: WritableCache, name: str, value: Any) -> tuple[bool, int]:
    is_fill, since = near.claim_miss(name, within=FILL_WITHIN_S)
    if _MIDDLEWARE in name:
        if headers := _HEADERS.fullmatch(name):
            if is_fill:
                near.note_miss(_page_of(headers["before"], headers["page"]), since)
            else:
                entry = near.peek(name)
                is_fill = entry is not None and hand_out(entry.value) == value
        elif not is_fill and (page := _PAGE.fullmatch(name)):
            what = f"{page['prefix']}.{page['url']}{page['locale']}"
            is_fill, since = near.claim_miss(_page_of(page["before"], what), within=FILL_WITHIN_S)
    return is_fill, since


def _page_of(before: str, what: str) -> str:
    """Return what stands for the pages of a list of headers where misses are remembered. It is no key of the cache."""
    return f"{before}pages {what}"
