"""`manage.py invalidator …`: the shell's `invalidator`, with the project's URL and namespace as defaults."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from django_integration import conf
from invalidator.cli import add_arguments, run


class Command(BaseCommand):
    """One argparse tree with the shell's command; nothing of it is said twice."""

    help = "Invalidate names, and watch invalidations, with the URL and namespace of the setting INVALIDATOR."
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django declares it; a wrong setting is named by the CLI

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the CLI's own arguments."""
        given = conf.given()
        add_arguments(parser, url=_text(given.get("URL")), namespace=_text(given.get("NAMESPACE")))

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the CLI and exit with its code."""
        if code := run(Namespace(**options)):
            sys.exit(code)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
