"""
Sets Django up once, with real databases, and lets a test listen to what is published.

Which databases: `INVALIDATOR_TEST_DATABASE=sqlite` (the default: files), `postgresql` or `mariadb` (a server of this
process' own, which is gone with it; where it cannot be found, that is an error and no skip). Every test here
runs on every one of them (`make test`), so none may take one database's ways for granted; where they differ, ask
`connection.vendor`. A test that needs a second connection takes `session`, see sessions.py.
"""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import django
import pytest
from django.apps import apps
from django.db import connection, connections, models, transaction
from django.db.models.signals import m2m_changed, pre_delete
from django.test.utils import (
    CaptureQueriesContext,
    setup_databases,
    setup_test_environment,
    teardown_test_environment,
)

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.unit.django_integration.settings"
django.setup()

from django.contrib.contenttypes.models import ContentType  # noqa: E402 - the settings come first

from django_integration import bus, runtime  # noqa: E402
from django_integration.names import functions as named_by_functions  # noqa: E402
from django_integration.names.plan import forget_plans  # noqa: E402
from django_integration.writes import receivers  # noqa: E402
from invalidator import Invalidation, Invalidator, NearCache, Tag  # noqa: E402
from tests.databases.chosen import start  # noqa: E402

from .sessions import Session  # noqa: E402
from .zoo.models import Animal, Cage  # noqa: E402

WAIT_S = 20.0  # for what takes a millisecond


@pytest.fixture(scope="session", autouse=True)
def databases() -> Iterator[None]:
    """The tables, in databases of their own."""
    start()
    setup_test_environment()
    setup_databases(verbosity=0, interactive=False)
    yield
    runtime.reset()
    # Nothing is dropped, which would take that no thread is connected any more: the server goes, and all with it.
    connections.close_all()
    teardown_test_environment()


@dataclass(frozen=True)
class Message:
    """What one message said, without order. Most tests are about rows and tables: tags of columns stand apart."""

    keys: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    everything: bool = False
    columns: frozenset[str] = field(default=frozenset(), compare=False)


def keys(*names: str) -> Message:
    """A message of keys alone."""
    return Message(keys=frozenset(names))


def apart(tags: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Tags of rows, of tables and of the application's own; and tags of columns."""
    columns = frozenset(tag for tag in tags if re.match(r"\w+\.\w+\[", tag))
    return frozenset(tags) - columns, columns


class Wire:
    """Another server on the same bus, that writes down every message."""

    def __init__(self) -> None:
        self._heard: list[Message] = []
        self._marks: dict[str, threading.Event] = {}
        self._other = Invalidator("memory://", namespace=bus().namespace)
        assert self._other.wait_until_leased(WAIT_S)
        self._other.on_invalidate(self._write_down)
        self._cache = NearCache(self._other)

    def _write_down(self, said: Invalidation) -> None:
        if said.keys and (mark := self._marks.get(said.keys[0])):
            mark.set()
        elif said.reason in ("invalidate", "clear"):
            tags, columns = apart(said.tags)
            self._heard.append(Message(frozenset(said.keys), tags, said.everything, columns))

    def messages(self) -> list[Message]:
        """Everything published so far and not asked for before, in order."""
        self._arrived()
        heard, self._heard = self._heard, []
        return heard

    def _arrived(self) -> None:
        mark = f"mark:{len(self._marks)}"
        self._marks[mark] = threading.Event()
        bus().invalidate(mark)
        # Messages come in order: when the mark is here, all before it are.
        assert self._marks[mark].wait(WAIT_S), "the bus does not deliver"

    def message(self) -> Message:
        """The one message published so far."""
        messages = self.messages()
        assert len(messages) == 1, f"one message was to be published, not {messages}"
        return messages[0]

    def caches(self, name: str | Tag) -> bool:
        """Whether that server, having heard everything so far, caches what has this name; of holds nobody is told."""
        self._arrived()
        key, tags = (f"tagged:{name.name}", [name]) if isinstance(name, Tag) else (name, [])
        self._cache.get_or_set(key, lambda: "loaded now", tags=tags)
        return key in self._cache

    def close(self) -> None:
        """Leave the bus."""
        self._cache.close()
        self._other.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    """What this test publishes."""
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture
def db(databases: None) -> Iterator[None]:
    """Empty tables at the end, and no transaction around the test."""
    yield
    for alias in ("default", "other"):
        empty(alias)


def empty(alias: str) -> None:
    """Delete all rows. Django's flush truncates, which takes MariaDB a third of a second; keys need not begin at 1."""
    database = connections[alias]
    tables = database.introspection.django_table_names(only_existing=True, include_views=False)
    deletes = [f"DELETE FROM {database.ops.quote_name(table)}" for table in tables]
    with database.constraint_checks_disabled():  # the others check at the commit
        database.ops.execute_sql_flush(deletes)
    ContentType.objects.clear_cache()  # of rows that are no more


@pytest.fixture
def autocommit_off() -> Iterator[None]:
    """The application commits by hand; what it leaves open is rolled back."""
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


@pytest.fixture
def cage(db: None) -> Cage:
    """A row that others point at."""
    return Cage.objects.create()


@pytest.fixture
def animal(db: None) -> Animal:
    """A row with links."""
    return Animal.objects.create()


@pytest.fixture
def session(db: None) -> Iterator[Session]:
    """A second connection to the same databases, in a thread of its own."""
    session = Session()
    yield session
    session.close()


@pytest.fixture
def new_models(db: None) -> Iterator[None]:
    """Models that a test defines in the zoo are gone after it."""
    before = set(apps.all_models["zoo"])
    yield
    for name in set(apps.all_models["zoo"]) - before:
        del apps.all_models["zoo"][name]
    apps.clear_cache()


@pytest.fixture
def make_table(new_models: None) -> Iterator[Callable[[type[models.Model]], None]]:
    """Makes the table of such a model."""
    made: list[type[models.Model]] = []

    def make(model: type[models.Model]) -> None:
        with connection.schema_editor() as editor:
            editor.create_model(model)
        made.append(model)

    yield make
    for model in reversed(made):
        with connection.schema_editor() as editor:
            editor.delete_model(model)


@pytest.fixture
def no_queries(db: None) -> Iterator[None]:
    """The test may send no query."""
    with CaptureQueriesContext(connection) as queries:
        yield
    assert not queries.captured_queries


@pytest.fixture
def functions() -> Iterator[None]:
    """What a test registers by `@invalidates` is forgotten after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            named_by_functions,
            "_functions",
            {label: list(some) for label, some in named_by_functions._functions.items()},
        )
        yield
    forget_plans()
    for signal in (pre_delete, m2m_changed):
        for model in apps.get_models(include_auto_created=True):
            signal.disconnect(sender=model, dispatch_uid="invalidator")
    receivers.keep_rows()
