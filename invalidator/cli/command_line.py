"""
The command line: `invalidator`, and the same tree as `manage.py invalidator`.

It decides nothing about caches: every subcommand uses an `Invalidator` and prints. A subcommand is a row of
`SUBCOMMANDS`: a sentence for the help, a function that adds its arguments, and a function that runs it.

Rule 1: the output is lines. What came over the wire can neither break a line nor send a command to a terminal.
Rule 2: an error is one line on stderr and an exit code (1: it failed; 2: it was called wrongly), and no traceback.
Rule 3: Ctrl-C, SIGTERM and a reader that went away are ways to end `watch`, not errors.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ..bus import Invalidator
from ..config import Config
from ..doctor import Finding, Unhealthy, examine
from ..errors import InvalidatorError, InvalidName, InvalidSetting
from ..receipt import Receipt
from ..sidecar import service
from .output import accept_any_character, as_words, drop_output, one_line
from .watch import Feed, Line

URL_VARIABLE = "INVALIDATOR_URL"
NAMESPACE_VARIABLE = "INVALIDATOR_NAMESPACE"

FAILED = 1
MISUSED = 2
INTERRUPTED = 128 + signal.SIGINT

SLOTS = 64
"""This process caches nothing: the smallest ledger will do."""
LOOK_INTERVAL_S = 0.1
"""How often `watch` looks at the state of its connection."""


class Misuse(InvalidatorError):
    """A subcommand was called with something that cannot be meant; the message says what would be right."""


# The tree.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console script with *arguments* (None: those of the process). Returns the exit code."""
    parser = ArgumentParser("invalidator", description="Invalidate names, and watch invalidations.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('invalidator')}")
    add_arguments(parser, url=None, namespace=None)
    return run(parser.parse_args(arguments))


class Published(NamedTuple):
    """
    What `invalidate` has published.

    Args:
        everything: the whole namespace; then `keys` and `tags` are empty.
        receipt: None if it leaves later, after a commit.
    """

    keys: Sequence[str]
    tags: Sequence[str]
    everything: bool
    receipt: Receipt | None


class Project:
    """
    How a command line reads its targets, and how it publishes. This is the shell's: a target is a key.

    `manage.py` brings one of its own that knows models. Errors that it raises are printed as ours are.
    """

    metavar = "KEY"
    help = "a key"
    subcommands: Mapping[str, Subcommand] = MappingProxyType({})
    """Subcommands that it adds."""

    def read(self, targets: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the keys and tags that an entry about *targets* would have. Raises InvalidName for what is none."""
        return list(targets), []

    def invalidate(self, options: Namespace) -> Published:
        """Publish that `options.targets`, `.keys` and `.tags` became stale, or with `options.clear` everything."""
        keys, tags = [*options.targets, *options.keys], options.tags
        return publish(options, keys, tags, everything=options.clear)


def publish(options: Namespace, keys: Sequence[str], tags: Sequence[str], *, everything: bool) -> Published:
    """Publish it to the server and namespace that *options* name. Raises PublishError if Redis does not accept it."""
    with _open(options, publish="raise") as bus:
        receipt = bus.clear() if everything else bus.invalidate(*keys, tags=tags)
    return Published(keys, tags, everything, receipt)


def add_arguments(
    parser: ArgumentParser, *, url: str | None, namespace: str | None, project: Project | None = None
) -> None:
    """
    Add the options and subcommands of this module to *parser*.

    Args:
        url, namespace: the defaults; None takes them from the environment.
        project: reads the targets; None takes every target for a key.
    """
    project = project or Project()
    parser.set_defaults(project=project)
    _add_place(
        parser,
        url=url or os.environ.get(URL_VARIABLE),
        namespace=namespace or os.environ.get(NAMESPACE_VARIABLE),
    )
    children = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    for name, subcommand in {**SUBCOMMANDS, **project.subcommands}.items():
        child = children.add_parser(name, help=subcommand.help, description=subcommand.help)
        # Allowed before the subcommand and after it. A default here would override an option before it.
        _add_place(child, url=argparse.SUPPRESS, namespace=argparse.SUPPRESS, several=subcommand.several_namespaces)
        subcommand.add_arguments(child, project)


def run(options: Namespace) -> int:
    """Run the subcommand of the parsed *options* and return the exit code. Errors are printed, not raised."""
    accept_any_character(sys.stdout)
    try:
        with _without_log():
            {**SUBCOMMANDS, **options.project.subcommands}[options.subcommand].run(options)
    except BrokenPipeError:
        drop_output(sys.stdout)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (InvalidatorError, OSError) as error:
        print(f"invalidator: {one_line(str(error))}", file=sys.stderr, flush=True)
        return MISUSED if isinstance(error, Misuse | InvalidName | InvalidSetting) else FAILED
    return 0


def _add_place(parser: ArgumentParser, *, url: str | None, namespace: str | None, several: bool = False) -> None:
    parser.add_argument(
        "--url",
        default=url,
        metavar="URL",
        help=f"redis://host:port/db, rediss://…, unix:///path or embedded://; if not given: {URL_VARIABLE} in the "
        "environment",
    )
    parser.add_argument(
        "--namespace",
        action="append" if several else "store",
        default=namespace,
        metavar="NAME",
        help=f"the namespace, such as shop; if not given: {NAMESPACE_VARIABLE} in the environment",
    )


def _open(options: Namespace, **more: Any) -> Invalidator:
    """The bus that *options* name. Raises Misuse when they name none."""
    _check_place(options)
    return Invalidator(options.url, namespace=options.namespace, slots=SLOTS, **more)


def _check_place(options: Namespace) -> None:
    missing = [
        f"no {what}: give --{what} {example} or set {variable}"
        for what, example, variable in (
            ("url", "redis://localhost:6379/0", URL_VARIABLE),
            ("namespace", "shop", NAMESPACE_VARIABLE),
        )
        if not getattr(options, what)
    ]
    if missing:
        raise Misuse("; ".join(missing))


# invalidator invalidate


def _add_invalidate_arguments(parser: ArgumentParser, project: Project) -> None:
    parser.add_argument("targets", nargs="*", metavar=project.metavar, help=f"{project.help}; it became stale")
    parser.add_argument(
        "--key", dest="keys", action="append", default=[], metavar="KEY", help="a key, whatever it looks like"
    )
    parser.add_argument(
        "--tag", dest="tags", action="append", default=[], metavar="TAG", help="everything with this tag became stale"
    )
    parser.add_argument("--clear", "--all", action="store_true", help="the whole namespace became stale; needs --yes")
    parser.add_argument("--yes", action="store_true", help="--clear is meant")
    parser.add_argument("--json", action="store_true", help="print what was accepted as JSON")


def _run_invalidate(options: Namespace) -> None:
    _check_meant(options)
    keys, tags, everything, receipt = options.project.invalidate(options)
    facts = {"keys": list(keys), "tags": list(tags)}
    if receipt is not None:
        facts |= {"listeners": receipt.listeners, "id": receipt.id}
    if options.json:
        print(json.dumps({"accepted": receipt is not None, "clear": everything, **facts}), flush=True)
    else:
        fate = "accepted" if receipt is not None else "leaves after the commit"
        print("  ".join([fate, *(["clear"] if everything else []), *as_words(facts)]), flush=True)


def _check_meant(options: Namespace) -> None:
    names = options.targets or options.keys or options.tags
    if options.clear and names:
        raise Misuse("--clear is everything in the namespace: name no keys or tags with it")
    if options.clear and not options.yes:
        raise Misuse("--clear makes every server load everything anew: add --yes if that is meant")
    if not (options.clear or names):
        raise Misuse("nothing to invalidate: name keys or --tag TAG, or give --clear --yes for the whole namespace")


# invalidator watch


def _add_watch_arguments(parser: ArgumentParser, project: Project) -> None:
    parser.add_argument(
        "targets", nargs="*", metavar=project.metavar, help=f"only messages that concern {project.help}"
    )
    parser.add_argument(
        "--key", dest="keys", action="append", default=[], metavar="KEY", help="only messages that concern this key"
    )
    parser.add_argument(
        "--tag", dest="tags", action="append", default=[], metavar="TAG", help="only messages that concern this tag"
    )
    parser.add_argument("--count", type=_positive, metavar="N", help="end after N messages")
    parser.add_argument(
        "--json",
        action="store_true",
        help="JSON Lines; news of the connection, which go to stderr otherwise, are then lines of stdout as well",
    )


def _run_watch(options: Namespace) -> None:
    keys, tags = options.project.read(options.targets)
    with until_interrupted(), _open(options) as bus:
        feed = Feed(bus.status)
        bus.on_invalidate(feed.receive, keys=[*keys, *options.keys], tags=[*tags, *options.tags])
        shown = 0
        while shown != options.count:
            line = feed.take(LOOK_INTERVAL_S)
            if line is not None:
                _show(line, as_json=options.json)
                shown += line.is_message


def _show(line: Line, *, as_json: bool) -> None:
    """Print *line* at once. In text, stdout is for messages only, so that `watch | wc -l` counts them."""
    stream = sys.stdout if as_json or line.is_message else sys.stderr
    try:
        print(line.as_json() if as_json else line.as_text(), flush=True, file=stream)
    except KeyboardInterrupt:
        drop_output(stream)  # it may be stuck; its other half must not hold up our end
        raise


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, not {text!r}")
    return int(text)


# invalidator sidecar


def _add_sidecar_arguments(parser: ArgumentParser, _: Project) -> None:
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--path", type=Path, metavar="FILE", help="where to keep the ledger of one namespace")
    place.add_argument(
        "--directory", type=Path, help='where to keep the ledgers; if not given: where workers with sidecar="auto" look'
    )
    parser.add_argument("--slots", type=_positive, default=2**20, metavar="N", help="of each ledger, 8 bytes each")
    parser.add_argument(
        "--max-staleness",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="the least that a worker of this host asks for",
    )
    parser.add_argument(
        "--http",
        default="off",
        metavar="ADDRESS",
        help="answer /livez, /readyz, /status and /metrics at 127.0.0.1:PORT or unix:PATH; off by default",
    )
    parser.add_argument("--http-any", action="store_true", help="--http may name an address that other hosts reach")
    parser.add_argument("--log-file", type=Path, metavar="FILE", help="instead of stderr; SIGHUP reopens it")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument(
        "--print",
        choices=("systemd", "kubernetes", "compose"),
        help="print a file to start from, and do nothing else",
    )


def _run_sidecar(options: Namespace) -> None:
    if options.print:
        print(service.service_file(options.print), end="", flush=True)
        return
    _check_place(options)
    namespaces = [options.namespace] if isinstance(options.namespace, str) else options.namespace
    service.serve(
        service.Options(
            url=options.url,
            # The environment has one variable for all of them; a namespace has no comma.
            namespaces=[name.strip() for names in namespaces for name in names.split(",")],
            path=options.path,
            directory=options.directory,
            slots=options.slots,
            max_staleness=options.max_staleness,
            http=options.http,
            http_any=options.http_any,
            log_file=options.log_file,
            log_format=options.log_format,
        )
    )


# invalidator doctor


def _add_doctor_arguments(parser: ArgumentParser, _: Project) -> None:
    parser.add_argument("--path", type=Path, metavar="FILE", help="of the sidecar's ledger, if workers are given one")
    parser.add_argument("--slots", type=_positive, default=2**20, metavar="N", help="of the ledger that shall fit")
    parser.add_argument("--max-staleness", type=float, default=2.0, metavar="SECONDS", help="the bound to be kept")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _run_doctor(options: Namespace) -> None:
    _check_place(options)
    config = Config(namespace=options.namespace, max_staleness=options.max_staleness)
    findings = []
    for finding in examine(options.url, config, path=options.path, slots=options.slots):
        findings.append(finding)
        if not options.json:
            _show_finding(finding)
    failures = [finding.check for finding in findings if finding.level == "fail"]
    if options.json:
        report = {"ok": not failures, "findings": [finding.as_dict() for finding in findings]}
        print(json.dumps(report, indent=2), flush=True)
    if failures:
        raise Unhealthy(f"failed: {', '.join(failures)}")


def _show_finding(finding: Finding) -> None:
    """At once, as the next one may take its time."""
    print(f"{finding.level:<5} {finding.check}: {one_line(finding.found)}")
    for what, text in (("means", finding.means), ("repair", finding.repair)):
        if text:
            print(f"      {what}: {one_line(text)}")
    sys.stdout.flush()


# The process.


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep Python from printing warnings to stderr where no logging is set up: the command reports errors itself."""
    log, nothing = logging.getLogger("invalidator"), logging.NullHandler()
    log.addHandler(nothing)
    try:
        yield
    finally:
        log.removeHandler(nothing)


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block, quietly. Outside the main thread signals are somebody else's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


class Subcommand(NamedTuple):
    """What it does, in a sentence; adds its arguments; does it, or raises; takes more than one namespace."""

    help: str
    add_arguments: Callable[[ArgumentParser, Project], None]
    run: Callable[[Namespace], None]
    several_namespaces: bool = False


SUBCOMMANDS = {
    "invalidate": Subcommand(
        "Publish that keys and tags became stale: every server evicts them.", _add_invalidate_arguments, _run_invalidate
    ),
    "watch": Subcommand(
        "Show invalidations as they are received, one line for each message.", _add_watch_arguments, _run_watch
    ),
    "sidecar": Subcommand(
        "Listen once for all workers of this host, until SIGTERM.",
        _add_sidecar_arguments,
        _run_sidecar,
        several_namespaces=True,
    ),
    "doctor": Subcommand(
        "Check Redis and this host: what can keep invalidations from being received, and the repair.",
        _add_doctor_arguments,
        _run_doctor,
    ),
}
