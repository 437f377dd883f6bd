"""Modules of a source distribution, unmodified, inside a package of our own."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class Linked(MetaPathFinder):
    """
    Finds the modules *names* and their submodules in *root*, and no others.

    Args:
        root: the directory of the source distribution.
        instead: a directory of ours. A module found there takes precedence.
        names: of the modules.
    """

    def __init__(self, root: Path, instead: Path, *names: str) -> None:
        self._roots = (instead, root)
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See importlib."""
        if not any(name == linked or name.startswith(f"{linked}.") for linked in self._names):
            return None
        for root in self._roots:
            place = root.joinpath(*name.split("."))
            if (package := place / "__init__.py").is_file():
                return importlib.util.spec_from_file_location(name, package, submodule_search_locations=[str(place)])
            if (module := place.with_suffix(".py")).is_file():
                return importlib.util.spec_from_file_location(name, module)
            if place.is_dir():
                return PathFinder.find_spec(name, [str(place.parent)])  # a directory without a module of its own
        return None

    def install(self) -> None:
        """Put this finder ahead of all others."""
        sys.meta_path.insert(0, self)
