"""
Two tenants, who see what is theirs: a tenant's items are those of the makers with its number. Which one is in force is
a matter of the context, as in packages for tenants; `KEY_CONTEXT` asks `current`.
"""

from __future__ import annotations

from contextvars import ContextVar

TENANTS = ("one", "two")

_tenant: ContextVar[str] = ContextVar("values_tenant", default=TENANTS[0])

current = _tenant.get
"""The tenant in force."""
switch_to = _tenant.set
"""Let another one be in force."""


def code() -> str:
    """The code of the maker that the tenant in force sees."""
    return f"m{TENANTS.index(current()) + 1}"
