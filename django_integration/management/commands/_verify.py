"""
`manage.py invalidator verify`: a reader beside the servers, all of whose hits are verified.

The command is a process like any other: it caches what it reads, and receives what the servers invalidate. A write that
no server publishes leaves a stale entry here, and is found here, whichever server wrote it.

Rule 1: it reads the paths and cached functions that it was given, over and over, and nothing else.
Rule 2: a run that has verified nothing has failed: a check that looks at nothing must not pass.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections
from django.test import Client

from django_integration import bus, observing
from django_integration.monitoring import calls
from django_integration.monitoring.verifier import Finding, Report, Verifier
from invalidator import InvalidatorError, InvalidName
from invalidator.cli import Misuse, Project, one_line, until_interrupted

LEASE_TIMEOUT_S = 10.0
PROGRESS_S = 1.0
MOST_PROBLEMS = 20
"""Lines about what could not be read."""

Read = Callable[[], object]


class StaleReads(InvalidatorError):
    """Something was stale that nothing had invalidated, or nothing could be verified."""


def add_arguments(parser: ArgumentParser, _: Project) -> None:
    """Add the subcommand's own."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="a path (/products/1/) or a cached function (shop.pages.page(1))",
    )
    parser.add_argument(
        "--from",
        dest="file",
        metavar="FILE",
        help="more targets, one a line, such as the paths of a log; - is stdin",
    )
    parser.add_argument("--seconds", type=_seconds, default=60.0, help="how long; 60 if not given")
    parser.add_argument("--interval", type=_seconds, default=0.2, help="seconds between two rounds; 0.2 if not given")
    parser.add_argument(
        "--sample", type=_share, default=1.0, help="share of the hits to verify, 0 to 1; 1 if not given"
    )
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="PATTERN", help='keys to leave alone, such as "clock:*"'
    )
    parser.add_argument("--user", metavar="NAME", help="read the paths as this user; default: nobody")
    parser.add_argument("--host", metavar="NAME", help="the host of the paths; the first of ALLOWED_HOSTS if not given")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


def run(options: Namespace) -> None:
    """
    Verify, and print what was found.

    Raises:
        Misuse, InvalidName: a target is none.
        StaleReads: something was stale; or nothing was verified.
    """
    texts = [*options.targets, *(_lines(options.file) if options.file else ())]
    if not texts:
        raise Misuse("nothing to read: name paths (/products/1/) or cached functions (shop.pages.product(1))")
    reader = _Reader(texts, options)
    if not bus().wait_until_leased(LEASE_TIMEOUT_S):
        raise StaleReads(f"nothing is received, so nothing can be verified: {bus().status().last_error}")
    verifier = Verifier(options.sample, ignore=options.ignore)
    observing.review(verifier)
    try:
        with until_interrupted():
            reader.read_until(time.monotonic() + options.seconds, options, verifier)
    finally:
        observing.end_review(verifier)
    report = verifier.wait()
    if options.json:
        found = {"reads": reader.reads, "problems": reader.problems, **report.as_dict(with_values=True)}
        print(json.dumps(found, indent=2), flush=True)
    else:
        _show(report)
    if report.counts.stale:
        raise StaleReads(f"{report.counts.stale} reads were stale, and nothing had invalidated them")
    if not report.counts.reloaded - report.counts.not_reloaded:
        raise StaleReads(f"{reader.reads} reads, and none of them hit anything that could be verified")


class _Reader:
    """Reads all targets, round after round."""

    def __init__(self, texts: Sequence[str], options: Namespace) -> None:
        self.reads = 0
        self.problems: dict[str, str] = {}
        self._client: Client | None = None
        self._options = options
        self._read = {text: self._reader_of(text) for text in dict.fromkeys(texts)}

    def read_until(self, end: float, options: Namespace, verifier: Verifier) -> None:
        """Read until *end*, of the monotonic clock."""
        progress = _Progress(end, sys.stderr)
        for _ in itertools.count():
            for text, read in self._read.items():
                self._read_one(text, read)
                progress.show(self.reads, verifier)
                if time.monotonic() >= end:
                    progress.end()
                    return
            close_old_connections()
            time.sleep(min(options.interval, max(0.0, end - time.monotonic())))

    def _read_one(self, text: str, read: Read) -> None:
        self.reads += 1
        try:
            read()
        except Exception as error:  # noqa: BLE001 - a page that is broken is none of our business, the others are
            self._problem(text, f"{type(error).__name__}: {error}")

    def _problem(self, text: str, what: str) -> None:
        if text not in self.problems and len(self.problems) < MOST_PROBLEMS:
            self.problems[text] = what
            print(f"invalidator: {one_line(f'{text}: {what}')}", file=sys.stderr, flush=True)

    def _reader_of(self, text: str) -> Read:
        if not text.startswith("/"):
            return calls.read(*_split(text))
        client = self._client = self._client or _client(self._options)

        def ask() -> None:
            response: Any = client.get(text, secure=bool(settings.SECURE_SSL_REDIRECT))
            if response.status_code >= 400:
                self._problem(text, f"answers {response.status_code}")

        return ask


class _Progress:
    """A line on a terminal, about once a second."""

    def __init__(self, end: float, stream: Any) -> None:
        self._end = end
        self._stream = stream if stream.isatty() else None
        self._next = 0.0

    def show(self, reads: int, verifier: Verifier) -> None:
        now = time.monotonic()
        if self._stream is None or now < self._next:
            return
        self._next = now + PROGRESS_S
        counts = verifier.report().counts
        self._stream.write(
            f"\r\x1b[K{max(0, self._end - now):.0f} s left: {reads} reads, {counts.reloaded} hits verified, "
            f"{counts.stale} stale, {counts.not_deterministic} not deterministic"
        )
        self._stream.flush()

    def end(self) -> None:
        if self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _split(text: str) -> tuple[str, list[str]]:
    """`shop.pages.product 42` is one argument of the shell if it was quoted."""
    if "(" in text:
        return text, []
    path, *words = text.split()
    return path, words


def _lines(file: str) -> Iterator[str]:
    if file == "-":
        yield from _not_empty(sys.stdin)
        return
    with open(file, encoding="utf-8") as lines:  # noqa: PTH123 - as the user names it
        yield from _not_empty(lines)


def _not_empty(lines: Any) -> Iterator[str]:
    for line in lines:
        if (text := line.strip()) and not text.startswith("#"):
            yield text


def _client(options: Namespace) -> Client:
    client = Client(SERVER_NAME=options.host or _host(), raise_request_exception=False)
    if options.user:
        try:
            user = get_user_model()._default_manager.filter(**{get_user_model().USERNAME_FIELD: options.user}).first()
        except (ImproperlyConfigured, LookupError) as error:
            raise InvalidName(f"--user needs django.contrib.auth and sessions: {error}") from error
        if user is None:
            raise InvalidName(f"there is no user {options.user}")
        client.force_login(user)
    return client


def _host() -> str:
    for host in settings.ALLOWED_HOSTS:
        if host != "*":
            return str(host).removeprefix(".")
    return "localhost"


# What was found.


def _show(report: Report) -> None:
    if report.findings:
        with contextlib.suppress(ImportError):
            _show_richly(report.findings)
            return _show_counts(report)
        for finding in report.findings:
            print(finding)
    return _show_counts(report)


def _show_counts(report: Report) -> None:
    counts = report.counts
    summary = (
        f"{counts.reloaded} hits verified: {counts.same} as cached, {counts.stale} stale and never invalidated, "
        f"{counts.invalidated} being invalidated, {counts.not_deterministic} not deterministic, "
        f"{counts.not_reloaded} not reloaded, {counts.undecided} undecided"
    )
    print(summary, flush=True)
    if report.not_deterministic:
        print(f"not deterministic: {' '.join(map(one_line, report.not_deterministic))}", flush=True)


def _show_richly(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("key", "age", "its tags", "different", title="stale, and never invalidated", show_lines=True)
    for finding in findings:
        cells = (finding.key, f"{finding.age_s:.1f} s", "\n".join(finding.tags) or "none", str(finding.difference))
        table.add_row(*(Text("\n".join(map(one_line, cell.splitlines())), overflow="fold") for cell in cells))
    Console(file=sys.stdout).print(table)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be seconds, 0 or more, not {text!r}")
    return value


def _share(text: str) -> float:
    value = _seconds(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"must be a share from 0 to 1, not {text!r}")
    return value
