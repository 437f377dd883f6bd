"""The name under which a key of Django's cache is invalidated: the key itself, or its hash if no name can hold it."""

from __future__ import annotations

import hashlib

from invalidator import InvalidName
from invalidator.extending import check_key

MOST_NAME_BYTES = 500
"""Of a key; the tag of its copies is a little longer, and no name may have more than 512."""


def name_of(made: str) -> str:
    """Return the name under which a key, as `make_key` makes it, is invalidated."""
    # A string of n characters has between n and 4n bytes.
    if made and len(made) * 4 <= MOST_NAME_BYTES and made.isascii():
        return made
    try:
        if len(check_key(made).encode()) <= MOST_NAME_BYTES:
            return made
    except InvalidName:
        pass
    return f"~{digest(made)}"


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
