"""
`manage.py invalidator …`: the shell's `invalidator`, with the project's URL and namespace as defaults, its models as
targets and its own bus, so that second levels of the cache backend are emptied as well.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DEFAULT_DB_ALIAS, Error

from django_integration import bus, conf, runtime
from django_integration.names import Names
from django_integration.transactions import outgoing
from invalidator import InvalidatorError, InvalidSetting, LedgerFileError, PublishError, tag
from invalidator.cli import Misuse, Project, Published, Subcommand, add_arguments, publish, run

from . import _explain, _targets, _verify

ACCEPT_TIMEOUT_S = 2.0
"""How long a Redis that is away may take to come back before the command says that it failed."""


class DjangoProject(Project):
    """Knows models, waits for the commit, and publishes on the process' own bus."""

    metavar = "TARGET"
    help = "a row (shop.Product:42), a model (shop.Product) or a key"
    subcommands = MappingProxyType(
        {
            "verify": Subcommand(
                "Read paths and cached functions for a while, and find what is stale and was never invalidated.",
                _verify.add_arguments,
                lambda options: _run_here(options, _verify.run),
            ),
            "explain": Subcommand(
                "Say what an entry depends on, when it was loaded, and what voided it last.",
                _explain.add_arguments,
                lambda options: _run_here(options, _explain.run),
            ),
        }
    )

    def read(self, targets_: Sequence[str]) -> tuple[list[str], list[str]]:
        """See `Project.read`."""
        return _targets.entry_names(targets_)

    def invalidate(self, options: Namespace) -> Published:
        """See `Project.invalidate`. A row brings the names of its `@invalidates` functions."""
        by_alias = _stale(options)
        names = Names()
        for part in by_alias.values():
            names.update(part)
        if not _is_own_place(options):
            return publish(options, list(names.keys), list(names.tags), everything=names.everything)
        _open_bus()
        receipt = outgoing.publish_after_commit(by_alias)
        if receipt is not None and not receipt.wait(ACCEPT_TIMEOUT_S):
            error = receipt.lost_because or bus().status().last_error or "Redis does not answer"
            raise PublishError(f"Redis did not accept the invalidation, and other servers serve the old value: {error}")
        return Published(list(names.keys), list(names.tags), names.everything, receipt)


class Command(BaseCommand):
    """The argparse tree of the shell's command, with the project's settings as its defaults."""

    help = "Invalidate rows, models, keys and tags, and watch invalidations, with the settings of this project."
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django declares it; a wrong setting is named by the CLI

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the CLI's own arguments."""
        url, namespace = _place()
        add_arguments(parser, url=url, namespace=namespace, project=DjangoProject())

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the CLI and exit with its code."""
        if code := run(Namespace(**options)):
            sys.exit(code)


def _run_here(options: Namespace, run_it: Callable[[Namespace], None]) -> None:
    """Run what needs the project's own caches."""
    if not _is_own_place(options):
        raise Misuse("this reads the project's own caches: leave out --url and --namespace")
    _open_bus()
    run_it(options)


def _stale(options: Namespace) -> dict[str, Names]:
    if options.clear:
        return {DEFAULT_DB_ALIAS: Names(everything=True)}
    try:
        by_alias = _targets.stale_names(options.targets, _note)
    except Error as error:
        raise InvalidatorError(f"a row could not be read: {error}") from error
    names = by_alias.setdefault(DEFAULT_DB_ALIAS, Names())
    for name in (*options.keys, *map(tag, options.tags)):
        names.add_name(name)
    return by_alias


def _is_own_place(options: Namespace) -> bool:
    """Whether it is the project's, and not another that an option or the environment names; or none."""
    return bool(options.url and options.namespace) and (options.url, options.namespace) == _place()


def _open_bus() -> None:
    """Make the process' bus. Raises InvalidSetting if the setting cannot work."""
    if wrong := conf.problems():
        raise InvalidSetting(" ".join(f"{problem.message} {problem.hint}" for problem in wrong))
    try:
        bus()
    except LedgerFileError:
        runtime.do_without_sidecar()  # a host for commands has no workers, and needs none
        bus()


def _place() -> tuple[str | None, str | None]:
    given = conf.given()
    return _text(given.get("URL")), _text(given.get("NAMESPACE"))


def _note(text: str) -> None:
    sys.stderr.write(f"invalidator: {text}\n")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
