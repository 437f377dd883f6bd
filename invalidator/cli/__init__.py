"""
The command line: `invalidator`, and the same tree as `manage.py invalidator`.

Public names are those of this page, for whoever adds a subcommand or another way to read targets.
"""

from .command_line import (
    NAMESPACE_VARIABLE,
    URL_VARIABLE,
    Misuse,
    Project,
    Published,
    Subcommand,
    add_arguments,
    main,
    publish,
    run,
    until_interrupted,
)
from .output import one_line

__all__ = [
    "NAMESPACE_VARIABLE",
    "URL_VARIABLE",
    "Misuse",
    "Project",
    "Published",
    "Subcommand",
    "add_arguments",
    "main",
    "one_line",
    "publish",
    "run",
    "until_interrupted",
]
