"""
What this app replaces in Django, in one list, and the one way in which it does so.

A module keeps its replacements in a `Patches` and describes each beside the code that replaces it:

    patches = Patches("Transactions")

    @patches.around(BaseDatabaseWrapper, "rollback", "self", why="a rollback ends the hold of a strict write")
    def _rollback(original: Any) -> Any:
        def rollback(self: BaseDatabaseWrapper) -> None:
            original(self)
            ...

        return rollback

Importing it replaces nothing. `patches.install()` does, and is called when Django starts (`apps.py`).

Rule 1: a method is replaced once, however often the app is set up, and whoever else wraps the method meanwhile.
Rule 2: a replacement calls the original itself. There is no frame of ours in between: some of these methods run for
every query.
Rule 3: the list is complete. A test compares it with the classes of a process that has this app and of one that has
not, and compares the parameters in it with those of the running Django.
"""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

import django

from invalidator.extending import FreshLock

Make = Callable[[Any], Callable[..., Any]]
M = TypeVar("M", bound=Make)

all_patches: list[Patches] = []
"""Those of every module that has been imported, in that order."""

originals: dict[tuple[Any, str], Any] = {}
"""What there was before this app, by owner and name, of all that is replaced now; of values nothing is kept."""

_installing = FreshLock()


class Patch:
    """
    One attribute of Django, or of a package for Django, that this app replaces.

    Args:
        owner: the class or module; or its dotted path, for a package that may not be installed; or, for classes that
            are found while the process runs, which ones, in words.
        name: the attribute.
        parameters: those that the original is expected to have, as in its signature but without annotations. An
            ellipsis at the end stands for parameters that the replacement hands on without looking. None if the
            attribute is no function.
        why: what for, in half a sentence for users.
        since: the first version of Django that has this attribute.
        make: returns the replacement of the original that it is given. None if the owner's module does it itself.
    """

    def __init__(
        self,
        owner: Any,
        name: str,
        parameters: str | None,
        *,
        why: str,
        since: tuple[int, int] | None = None,
        make: Make | None = None,
    ) -> None:
        self.owner = owner
        self.name = name
        self.parameters = parameters
        self.why = why
        self.since = since
        self.make = make
        self.in_place: dict[Any, Any] = {}
        """The replacements, by owner."""

    def put_on(self, owner: Any) -> None:
        """Put the replacement on *owner*, unless it is there. Raises AttributeError if there is nothing to replace."""
        if owner in self.in_place or self.make is None:
            return
        with _installing.lock:
            if owner not in self.in_place:
                original = getattr(owner, self.name)
                replacement = functools.wraps(original)(self.make(original))
                setattr(owner, self.name, replacement)
                originals.setdefault((owner, self.name), original)
                self.in_place[owner] = replacement

    def remove(self) -> None:
        """Put back what was there, unless somebody else has wrapped the replacement meanwhile."""
        with _installing.lock:
            for owner, replacement in tuple(self.in_place.items()):
                if getattr(owner, self.name) is replacement:
                    before = replacement.__wrapped__
                    setattr(owner, self.name, before)
                    del self.in_place[owner]
                    if originals[owner, self.name] is before:
                        del originals[owner, self.name]

    @property
    def path(self) -> str:
        """Owner and name, as text."""
        is_class = isinstance(self.owner, type)
        owner = f"{self.owner.__module__}.{self.owner.__qualname__}" if is_class else self.owner
        return f"{owner}.{self.name}"

    def __repr__(self) -> str:
        return f"<Patch of {self.path}>"


class Patches:
    """
    The replacements of one module, which are put in place together.

    Args:
        subject: what they are about: a heading for users.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.patches: list[Patch] = []
        self._at_start: list[Patch] = []
        all_patches.append(self)

    def around(
        self, owner: type | str, name: str, parameters: str, *, why: str, since: tuple[int, int] | None = None
    ) -> Callable[[M], M]:
        """Decorate a function that makes the replacement of one method. For the arguments see `Patch`."""

        def register(make: M) -> M:
            patch = Patch(owner, name, parameters, why=why, since=since, make=make)
            self.patches.append(patch)
            self._at_start.append(patch)
            return make

        return register

    def around_each(self, owners: str, name: str, parameters: str, *, why: str) -> Callable[[Make], Patch]:
        """As `around`, for classes that are found while the process runs: put the `Patch` on each of them."""

        def register(make: Make) -> Patch:
            patch = Patch(owners, name, parameters, why=why, make=make)
            self.patches.append(patch)
            return patch

        return register

    def value(self, owner: str, name: str, *, why: str) -> None:
        """List an attribute, no function, that the module itself replaces."""
        self.patches.append(Patch(owner, name, None, why=why))

    def install(self) -> None:
        """
        Put in place what is not, but for classes that are found later and for values.

        Raises:
            AttributeError, ImportError: an owner or its attribute is missing. Then nothing has been replaced.
        """
        found = [(patch, _owner_of(patch)) for patch in self._at_start if _is_in_this_django(patch)]
        for patch, owner in found:
            getattr(owner, patch.name)
        for patch, owner in found:
            patch.put_on(owner)

    def remove(self) -> None:
        """
        Put back what was there; for replacements that tests need for a while.

        What somebody else has wrapped meanwhile stays, and has to do nothing by itself.
        """
        for patch in self.patches:
            patch.remove()


def _owner_of(patch: Patch) -> Any:
    return pkgutil.resolve_name(patch.owner) if isinstance(patch.owner, str) else patch.owner


def _is_in_this_django(patch: Patch) -> bool:
    return patch.since is None or django.VERSION[:2] >= patch.since
