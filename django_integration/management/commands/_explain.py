"""
`manage.py invalidator explain`: what an entry depends on, when it was loaded, and what voided it last.

Rule 1: the command is a process of its own and has cached nothing: it loads the value by the function that the target,
or the key itself, names. What a server has in its memory, its status page shows (`?key=`).
"""

from __future__ import annotations

import contextlib
import json
import re
from argparse import ArgumentParser, Namespace

from django_integration.monitoring import calls
from django_integration.monitoring.explain import MOST_READ, as_lines, explain
from invalidator import InvalidatorError, InvalidName
from invalidator.cli import Misuse, Project, one_line
from invalidator.extending import check_key

_FUNCTION = re.compile(r"\w+(\.\w+)+(\(.*\))?", re.DOTALL)


def add_arguments(parser: ArgumentParser, _: Project) -> None:
    """Add the subcommand's own."""
    parser.add_argument("target", metavar="KEY", help="a key, or a cached function: shop.pages.product")
    parser.add_argument("words", nargs="*", metavar="ARGUMENT", help="of the function: 42 lang=en")
    parser.add_argument("--no-load", action="store_true", help="do not call the function: the journal only")
    parser.add_argument(
        "--most",
        type=int,
        default=MOST_READ,
        metavar="N",
        help=f"messages of the journal to read; at first {MOST_READ}",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(options: Namespace) -> None:
    """Print it. Raises Misuse, InvalidName; InvalidatorError if the function fails."""
    target = _target(options)
    try:
        found = explain(target, load=not options.no_load, most=options.most)
    except InvalidatorError:
        raise
    except Exception as error:
        raise InvalidatorError(f"{options.target} failed: {type(error).__name__}: {error}") from error
    if options.json:
        print(json.dumps(found, indent=2), flush=True)
    else:
        print("\n".join(map(one_line, as_lines(found))), flush=True)


def _target(options: Namespace) -> str | calls.Call:
    if options.most < 0:
        raise Misuse(f"--most must be 0 or more, not {options.most}")
    if options.words:
        return calls.read(options.target, options.words)
    if _FUNCTION.fullmatch(options.target):
        # A key may look like it, too.
        with contextlib.suppress(InvalidName):
            return calls.read(options.target)
    return check_key(options.target)
