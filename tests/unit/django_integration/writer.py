"""
One application server as a process of its own, on a database in a file, that stops between its commit and its publish.

    python -m tests.unit.django_integration.writer <redis url> <namespace> <file> <WRITES> <HOLD>

It says what it has done, a word a line, and does the next thing when it is sent a line:

    ready      the table is there, with one cage, "old"
    written    it is named "new", in a transaction that is open
    committed  the transaction is; the invalidation is about to leave, and never does
"""

import sys
import threading
from typing import NoReturn

import django
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction

from invalidator.publishing.publisher import Publisher


def main(url: str, namespace: str, path: str, writes: str, hold: str) -> None:
    """Write, commit, and wait to be killed."""
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django_integration", "tests.unit.django_integration.zoo"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": path}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INVALIDATOR={"URL": url, "NAMESPACE": namespace, "WRITES": writes, "HOLD": float(hold), "MAX_STALENESS": 60},
    )
    django.setup()
    cage_model = apps.get_model("zoo", "Cage")
    with connection.schema_editor() as editor:
        editor.create_model(cage_model)
    cage = cage_model.objects.create(pk=1, name="old")
    _say("ready")
    Publisher.publish = Publisher.publish_release = _stop  # type: ignore[method-assign]
    with transaction.atomic():
        cage.name = "new"
        cage.save()
        _say("written")


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()
    sys.stdin.readline()


def _stop(*_: object, **__: object) -> NoReturn:
    sys.stdout.write("committed\n")
    sys.stdout.flush()
    while True:
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
