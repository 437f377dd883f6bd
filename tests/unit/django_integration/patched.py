"""
A process of its own that lists what the attributes of Django's modules and classes are, for test_patching.py.

`patched.py APP [MODULE…]`: APP is `installed`, `imported` (and not installed) or `absent`. The modules are imported,
too. Prints JSON: the modules of Django and of packages for it that are loaded; for each of their attributes where it
was defined, or what type it has; and what the app lists as replaced, compared with what was there before.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import django
from django.conf import settings
from django.db import connection

APP, *MODULES = sys.argv[1:]
PACKAGES = ("constance", "django", "waffle")

settings.configure(
    SECRET_KEY="tests",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sites",
        "waffle",
        "constance",
        *(["django_integration"] if APP == "installed" else []),
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    CONSTANCE_BACKEND="constance.backends.database.DatabaseBackend",
    INVALIDATOR={"URL": "memory://", "NAMESPACE": "patched", "LOCAL_CACHES": "auto"},
)


def kind(attribute: Any) -> str:
    """Where a function was defined; of anything else its type."""
    if type(attribute) is property:
        attribute = attribute.fget
    elif type(attribute) in (classmethod, staticmethod):
        attribute = attribute.__func__
    if type(attribute) is FunctionType:
        return f"{attribute.__code__.co_filename}:{attribute.__code__.co_firstlineno}"
    return f"{type(attribute).__module__}.{type(attribute).__qualname__}"


def attributes() -> Iterator[tuple[str, str]]:
    """All attributes of the packages' modules and classes, and of what is replaced in instances."""
    for name in loaded():
        for key, value in list(vars(sys.modules[name]).items()):
            yield f"{name}.{key}", kind(value)
            if issubclass(type(value), type) and value.__module__ == name:  # isinstance() would wake up a lazy object
                for inner, attribute in list(vars(value).items()):
                    yield f"{name}.{value.__qualname__}.{inner}", kind(attribute)
    managers = "django.contrib.contenttypes.models.ContentType.objects"
    yield f"{managers}._cache", kind(pkgutil.resolve_name(managers)._cache)


def loaded() -> list[str]:
    """The modules of the packages."""
    return sorted(name for name in sys.modules if name.partition(".")[0] in PACKAGES)


def parameters_of(function: Any) -> str:
    """Those of a function, as `Patch.parameters` has them."""
    signature = inspect.signature(function)
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return text.removeprefix("(").removesuffix(")").removesuffix(", /")


def takes_the_same(replacement: Any, original: Any) -> bool:
    """Whether all arguments of the original can be given to the replacement, by position or by name."""
    own = inspect.signature(replacement, follow_wrapped=False)
    parameters = list(inspect.signature(original).parameters.values())
    positional = [None for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    named = {each.name: None for each in parameters[1:] if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)}
    try:
        own.bind(*positional)
        own.bind(*positional[:1], **named)
    except TypeError:
        return False
    return True


def listed() -> Iterator[dict[str, Any]]:
    """What the app lists, wherever it is in place."""
    patching = importlib.import_module("django_integration.patching")
    for patch in (patch for patches in patching.all_patches for patch in patches.patches):
        for owner, replacement in patch.in_place.items():
            original = patching.originals[owner, patch.name]
            is_class = isinstance(owner, type)
            yield {
                "patch": patch.path,
                "why": patch.why,
                "place": f"{owner.__module__}.{owner.__qualname__}.{patch.name}" if is_class else patch.path,
                "found": parameters_of(original),
                "takes the same": takes_the_same(replacement, original),
            }
        if patch.make is None:
            yield {"patch": patch.path, "why": patch.why, "place": patch.path}


def use_what_is_replaced_late() -> None:
    """Connect to a database."""
    connection.cursor().close()


def main() -> None:
    """Print."""
    django.setup()
    for name in MODULES:
        importlib.import_module(name)
    if APP != "absent":
        importlib.import_module("django_integration.apps")
    use_what_is_replaced_late()
    found = dict(attributes())
    on_the_list = list(listed()) if APP == "installed" else []
    json.dump({"modules": loaded(), "attributes": found, "listed": on_the_list}, sys.stdout)


if __name__ == "__main__":
    main()
