"""
An error in recording is ours: the application's read returns what it returns without us, and nothing wrong is kept.

Every function that records is made to raise, one after another, while functions are cached that read in every way.
"""

import contextlib
import itertools
import signal
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest
from django.core.paginator import Page, Paginator
from django.db import connection
from django.db.models import Count, Exists, F, Func, Max, Model, OuterRef, QuerySet, TextField
from django.db.models.expressions import RawSQL

from django_integration import cache
from django_integration.dependencies import conditions, hooks, joins, queries, recorder, results, rows, sending, tables
from django_integration.dependencies.recorder import Recorder
from django_integration.reads.default_cache import default_cache
from django_integration.sql import reads, words
from tests.unit.django_integration.zoo.models import Animal, Aquarium, Cage, Food, Note

from .test_tables import OwnJoin, joined

pytestmark = pytest.mark.filterwarnings("ignore::django_integration.UnknownReads")

RECORDING: list[ModuleType] = [
    conditions,
    hooks,
    joins,
    queries,
    recorder,
    results,
    rows,
    sending,
    tables,
    reads,
    words,
]
PLACES = ("django_integration.dependencies.", "django_integration.sql.")
FENCES = {
    *("fenced", "lost", "loaded", "report", "warn_once", "__init__", "__enter__", "__exit__", "depends_on"),
    *("_record", "_recorded", "_record_row", "_is_being_sent", "read_entry"),
    # They make the replacements, when the app is set up.
    *("_execute_sql", "_as_sql", "_get_from_clause", "_iter", "_cursor_execute", "_cursor_callproc"),
    *("_cursor_getattr", "_text_as_sql", "_own_as_sql"),
}
"""What keeps the errors of the others away from the application, and so must not fail itself."""


def functions(module: ModuleType) -> Iterator[tuple[str, Any, str]]:
    """All in *module* that records: a name to show, its owner, and its name there."""
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", None) != module.__name__ or name in FENCES:
            continue
        if isinstance(thing, type):
            for attribute, method in vars(thing).items():
                if isinstance(method, FunctionType | staticmethod) and attribute not in FENCES:
                    yield f"{name}.{attribute}", thing, attribute
        elif callable(thing):
            yield name, module, name


class OurFault(Exception):
    pass


def fault(*args: object, **kwargs: object) -> Any:
    raise OurFault


@pytest.fixture(autouse=True)
def nothing_was_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_warned", set())


@contextlib.contextmanager
def broken(owner: Any, name: str) -> Iterator[list[None]]:
    """Inside the block a function raises wherever it is used to record. The list has an item for each call."""
    original = getattr(owner, name)
    calls: list[None] = []

    def fault(*args: object, **kwargs: object) -> Any:
        calls.append(None)
        raise OurFault

    with pytest.MonkeyPatch.context() as patch:
        if isinstance(owner, type):
            patch.setattr(owner, name, fault)
        else:
            for module in list(sys.modules.values()):
                if module.__name__.startswith(PLACES):
                    for here, thing in list(vars(module).items()):
                        if thing is original:
                            patch.setattr(module, here, fault)
        yield calls


def plain(value: Any) -> Any:
    """What of *value* can be compared."""
    if isinstance(value, Page | QuerySet | list):
        return [plain(item) for item in value]
    return value.name if isinstance(value, Model) else value


def _cursor() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM zoo_cage UNION ALL SELECT text FROM zoo_note")
        return sorted(cursor.fetchall())


def _nested() -> Any:
    try:
        return cache.get_or_set("inner", lambda: Cage.objects.get(name="new").name)
    except Cage.DoesNotExist:
        return "none"


READS: dict[str, Callable[[], Any]] = {
    "a row": lambda: Cage.objects.get(pk=1).name,
    "a row that is not there": lambda: Note.objects.filter(text="new").first() is None,
    "rows by value": lambda: [(row.name, row.weight) for row in Animal.objects.filter(cage=1, weight__lt=9)],
    "a few rows": lambda: [
        row.name for row in itertools.islice(Animal.objects.filter(weight=1).order_by("pk").iterator(), 1)
    ],
    "rows in order": lambda: [row.name for row in Animal.objects.filter(weight=1).order_by("-name")[:2]],
    "a relation": lambda: [row.cage and row.cage.name for row in Animal.objects.select_related("cage")],
    "rows prefetched": lambda: [
        [a.name for a in row.animal_set.all()] for row in Cage.objects.prefetch_related("animal_set")
    ],
    "a parent": lambda: Aquarium.objects.get(pk=1).name,
    "a count": lambda: Note.objects.filter(text="old").count(),
    "a sum": lambda: Animal.objects.aggregate(Max("weight")),
    "an annotation": lambda: [row.n for row in Cage.objects.annotate(n=Count("animal__foods"))],
    "a subquery": lambda: Cage.objects.filter(Exists(Note.objects.filter(cage=OuterRef("pk"), text="old"))).exists(),
    "a union": lambda: sorted(Cage.objects.values_list("name").union(Note.objects.values_list("text"))),
    "a cursor": _cursor,
    "raw()": lambda: [row.name for row in Cage.objects.raw("SELECT * FROM zoo_cage")],
    "RawSQL": lambda: Food.objects.annotate(n=RawSQL("(SELECT MAX(name) FROM zoo_cage)", ())).first().n,
    "a template": lambda: (
        Food.objects.annotate(n=Func(F("id"), template="(SELECT MAX(name) FROM zoo_cage)", output_field=TextField()))
        .first()
        .n
    ),
    "a join of one's own": lambda: [row.name for row in joined(OwnJoin())],
    "a failure inside": _nested,
    "a query set": Cage.objects.all,
    "a page": lambda: Paginator(Animal.objects.order_by("name"), 1).page(1),
    "a row with rows": lambda: list(Animal.objects.select_related("cage").prefetch_related("foods")),
}


@pytest.fixture
def world(db: None) -> Iterator[None]:
    assert default_cache().bus.wait_until_leased(20)
    cage = Cage.objects.create(pk=1, name="old")
    for name in ("old", "older"):
        Animal.objects.create(name=name, weight=1, cage=cage)
    Note.objects.create(text="old", cage=cage)
    Food.objects.create(name="old")
    Aquarium.objects.create(pk=1, name="old")
    yield
    default_cache().bus.clear()


def change_everything() -> None:
    Cage.objects.update(name="new")
    for animal in Animal.objects.all():
        animal.name, animal.weight = f"new {animal.name}", 2
        animal.save()
        animal.foods.add(Food.objects.get())
    Animal.objects.create(name="newer", weight=1, cage_id=1)
    Note.objects.update(text="new")
    Aquarium.objects.update(name="new")


@pytest.mark.parametrize("module", RECORDING, ids=lambda module: module.__name__.partition(".")[2])
def test_whatever_fails_the_application_reads_the_truth(world: None, module: ModuleType) -> None:
    before = {name: plain(read()) for name, read in READS.items()}
    affected = []
    for function, owner, attribute in functions(module):
        for name, read in READS.items():
            key = f"{name}, without {function}"
            with broken(owner, attribute) as calls:
                value = cache.get_or_set(f"outer of {key}", lambda key=key, read=read: cache.get_or_set(key, read))
            assert plain(value) == before[name], key
            if calls:
                affected.append((key, name))
    change_everything()
    now = {name: plain(read()) for name, read in READS.items()}
    assert all(now[name] != before[name] for name in READS)
    assert affected, "nothing was proved"
    for key, name in affected:
        assert plain(cache.get_or_set(key, READS[name])) == now[name], key
        assert plain(cache.get_or_set(f"outer of {key}", READS[name])) == now[name], key


def test_they_are_many() -> None:
    """The search finds what it is looking for."""
    found = {f"{module.__name__}.{name}" for module in RECORDING for name, _, _ in functions(module)}
    assert len(found) > 100
    ours = "django_integration.dependencies"
    assert {f"{ours}.queries.read_query", f"{ours}.rows.RowRecorder.record", f"{ours}.tables.read_sql"} <= found


class TestTheFence:
    def test_what_is_lost_keeps_the_value_out_and_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        recorder = Recorder()
        for _ in range(2):
            assert recorder.fenced(fault) is None
        assert not recorder.is_kept
        assert recorder.loaded("value").value == "value"
        assert [record.getMessage() for record in caplog.records if "OurFault" in record.getMessage()] != []
        assert len(caplog.records) == 1

    def test_also_what_is_made_from_it(self, world: None) -> None:
        """It depends on the same unknown things."""

        def load() -> int:
            current = recorder.current()
            assert current is not None
            current.fenced(fault)
            return 1

        assert cache.get_or_set("outer", lambda: cache.get_or_set("inner", load)) == 1
        assert cache.get_many(["outer", "inner"]) == {}

    def test_a_time_limit_that_strikes_there_is_not_ours(self) -> None:
        """A task would run on beyond its limit."""
        before = signal.signal(signal.SIGUSR1, _out_of_time)
        try:
            with pytest.raises(TimeoutError):
                Recorder().fenced(signal.raise_signal, signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_what_works_is_returned(self) -> None:
        recorder = Recorder()
        assert recorder.fenced(max, 1, 2) == 2
        assert recorder.is_kept


def _out_of_time(signum: int, frame: object) -> None:
    raise TimeoutError
