"""What is replaced in Django: the helper, and the list."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django
import pytest

import django_integration
from django_integration import patching
from django_integration.patching import Patch, Patches
from tests.support import Thread

for _module in pkgutil.walk_packages(django_integration.__path__, "django_integration."):
    if _module.name.startswith(("django_integration.local_caches.", "django_integration.testing.")):
        importlib.import_module(_module.name)  # the others are imported when Django starts

LIST = [patch for patches in patching.all_patches for patch in patches.patches]


class Original:
    """What is replaced."""

    def greet(self, name: str = "you") -> str:
        """Be polite."""
        return f"hello {name}"

    def leave(self) -> str:
        return "bye"


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> type[Original]:
    """A class of one's own, and a list that is as long as before when the test is over."""
    monkeypatch.setattr(patching, "all_patches", [])
    monkeypatch.setattr(patching, "originals", {})
    return type("Original", (Original,), dict(vars(Original)))


def loud(original: Callable[..., str]) -> Callable[..., str]:
    def greet(self: object, *args: Any, **kwargs: Any) -> str:
        return original(self, *args, **kwargs).upper()

    return greet


@pytest.fixture
def patches(original: type[Original]) -> Patches:
    """`greet` is loud, once they are installed."""
    patches = Patches("Tests")
    patches.around(original, "greet", "self, name='you'", why="is louder")(loud)
    return patches


class TestPatches:
    def test_nothing_is_replaced_before_they_are_installed(self, original: type[Original], patches: Patches) -> None:
        assert original().greet() == "hello you"
        patches.install()
        assert original().greet("Ann") == "HELLO ANN"

    def test_a_replacement_looks_like_the_original(self, original: type[Original], patches: Patches) -> None:
        before = original.greet
        patches.install()
        assert original.greet.__name__ == "greet"
        assert original.greet.__doc__ == "Be polite."
        assert inspect.signature(original.greet) == inspect.signature(before)
        assert original.greet.__wrapped__ is before  # type: ignore[attr-defined]

    def test_they_are_installed_once(self, original: type[Original], patches: Patches) -> None:
        """However often the app is set up, and whoever else wraps the method meanwhile."""
        patches.install()

        def by_somebody_else(self: Any) -> str:
            return "somebody else"

        original.greet = by_somebody_else  # type: ignore[method-assign, assignment]
        patches.install()
        assert original.greet is by_somebody_else

    def test_the_call_goes_through_no_frame_of_the_helper(self, original: type[Original], patches: Patches) -> None:
        def frames(self: object) -> str:
            return " ".join(frame.function for frame in inspect.stack()[:3])

        original.greet = frames  # type: ignore[method-assign, assignment]
        patches.install()
        name = inspect.currentframe().f_code.co_name  # type: ignore[union-attr]
        assert original().greet() == f"frames greet {name}".upper()

    def test_if_one_cannot_be_replaced_none_is(self, original: type[Original], patches: Patches) -> None:
        patches.around(original, "nonsense", "self", why="is not there")(loud)
        with pytest.raises(AttributeError, match="nonsense"):
            patches.install()
        assert original().greet() == "hello you"
        assert not patching.originals

    def test_a_method_of_a_later_django_is_left_out(self, original: type[Original], patches: Patches) -> None:
        patches.around(original, "nonsense", "self", why="will be there", since=(99, 0))(loud)
        patches.install()
        assert original().greet() == "HELLO YOU"

    def test_an_owner_may_be_a_path(self, original: type[Original], monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a package that may not be installed."""
        monkeypatch.setattr(pkgutil, "resolve_name", {"a.package.Original": original}.__getitem__)
        patches = Patches("Tests")
        patches.around("a.package.Original", "greet", "self, ...", why="is louder")(loud)
        patches.install()
        assert original().greet() == "HELLO YOU"
        assert repr(patches.patches[0]) == "<Patch of a.package.Original.greet>"

    def test_a_package_that_is_not_there_is_an_error(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(patching, "all_patches", [])
            patches = Patches("Tests")
        patches.around("no_such_package.Kind", "greet", "self", why="is louder")(loud)
        with pytest.raises(ImportError):
            patches.install()

    def test_classes_that_are_met_later(self, original: type[Original]) -> None:
        patches = Patches("Tests")
        patch = patches.around_each("a class of tests", "greet", "self, ...", why="is louder")(loud)
        patches.install()
        assert original().greet() == "hello you"
        patch.put_on(original)
        patch.put_on(original)
        assert original().greet() == "HELLO YOU"
        assert list(patch.in_place) == [original]

    def test_two_threads_that_meet_a_class_replace_once(self, original: type[Original]) -> None:
        made: list[object] = []
        both_are_here = threading.Barrier(2)

        def make(greet: Any) -> Any:
            made.append(greet)
            return loud(greet)

        patch = Patches("Tests").around_each("a class of tests", "greet", "self, ...", why="is louder")(make)

        def meet() -> None:
            both_are_here.wait(20)
            patch.put_on(original)

        for thread in [Thread(meet), Thread(meet)]:
            thread.outcome()
        assert len(made) == 1

    def test_the_first_original_is_kept(self, original: type[Original], patches: Patches) -> None:
        """Where two modules replace one method."""
        before = original.greet
        others = Patches("More tests")
        others.around(original, "greet", "self, ...", why="is louder still")(loud)
        patches.install()
        others.install()
        assert patching.originals == {(original, "greet"): before}

    def test_they_can_be_removed(self, original: type[Original], patches: Patches) -> None:
        before = original.greet
        patches.install()
        patches.remove()
        assert original.greet is before
        assert not patching.originals
        patches.install()
        assert original().greet() == "HELLO YOU"

    def test_what_somebody_else_has_wrapped_stays(self, original: type[Original], patches: Patches) -> None:
        patches.install()
        ours = original.greet

        def by_somebody_else(self: Any) -> str:
            return f"{ours(self)}!"

        original.greet = by_somebody_else  # type: ignore[method-assign, assignment]
        patches.remove()
        patches.install()
        assert original().greet() == "HELLO YOU!"


# ------------------------------------------------------------------------------------------------ the list


@dataclass(frozen=True)
class Process:
    """What tests/unit/django_integration/patched.py has printed."""

    modules: list[str]
    attributes: dict[str, str]
    listed: list[dict[str, Any]]


def process(app: str, *modules: str) -> Process:
    """Run it."""
    script = Path(__file__).with_name("patched.py")
    done = subprocess.run([sys.executable, script, app, *modules], capture_output=True, text=True, check=True)
    return Process(**json.loads(done.stdout))


@pytest.fixture(scope="module")
def installed() -> Process:
    """A process with the app."""
    return process("installed")


@pytest.fixture(scope="module")
def absent(installed: Process) -> Process:
    """A process without the app, which has loaded the same modules."""
    return process("absent", *installed.modules)


def difference(one: Process, other: Process) -> set[str]:
    """The attributes in which two processes differ."""
    paths = one.attributes.keys() | other.attributes.keys()
    return {path for path in paths if one.attributes.get(path) != other.attributes.get(path)}


def test_the_list_is_what_differs_from_a_process_without_the_app(installed: Process, absent: Process) -> None:
    assert difference(installed, absent) == {entry["place"] for entry in installed.listed}


def test_importing_the_app_replaces_nothing(absent: Process) -> None:
    assert not difference(process("imported", *absent.modules), absent)


def is_here(patch: Patch) -> bool:
    """Whether the process of `installed` has what it replaces."""
    return patch.owner != "a database's own compiler, such as SQL Server's" and (
        patch.since is None or django.VERSION[:2] >= patch.since
    )


def test_everything_on_the_list_is_in_place(installed: Process) -> None:
    assert {patch.path for patch in LIST if is_here(patch)} == {entry["patch"] for entry in installed.listed}


@pytest.mark.parametrize(
    "patch", [patch for patch in LIST if is_here(patch) and patch.make], ids=lambda patch: patch.path
)
def test_what_is_replaced_has_the_parameters_that_we_expect(installed: Process, patch: Patch) -> None:
    (entry,) = (each for each in installed.listed if (each["patch"], each["why"]) == (patch.path, patch.why))
    expected, found = patch.parameters, entry["found"]
    assert expected is not None
    if expected.endswith("..."):
        assert f"{found}, ".startswith(expected.removesuffix("..."))
    else:
        assert found == expected
    assert entry["takes the same"]


# ---------------------------------------------------------------------------------------------- the page


PAGE = Path(__file__).parents[3] / "docs" / "what-is-patched.md"


def section(patches: Patches) -> str:
    """Its part of the page."""
    rows = [f"| {place(patch)} | {patch.why} |\n" for patch in patches.patches]
    return f"## {patches.subject}\n\n| replaced | why |\n| --- | --- |\n{''.join(rows)}"


def place(patch: Patch) -> str:
    """Where it is, in Markdown."""
    is_in_words = isinstance(patch.owner, str) and " " in patch.owner
    return f"`{patch.name}` of {patch.owner}" if is_in_words else f"`{patch.path}`"


@pytest.mark.parametrize("patches", patching.all_patches, ids=lambda patches: patches.subject)
def test_the_page_for_users_has_each_table(patches: Patches) -> None:
    assert section(patches) in PAGE.read_text(), f"in {PAGE.name} goes:\n\n{section(patches)}"


def test_the_page_for_users_has_no_other_table() -> None:
    assert PAGE.read_text().count("\n## ") == len(patching.all_patches)
