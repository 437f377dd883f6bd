"""The models of a table; and queries that are not Django's alone, which their SQL tells more of."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, models
from django.db.models import Manager, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.datastructures import BaseTable, Join
from django.test.utils import isolate_apps

from django_integration import UnknownReads, depends_on
from django_integration.dependencies import recorder as recorders
from django_integration.dependencies.recorder import Recorder, recording
from tests.unit.django_integration.zoo.models import Animal, Aquarium, Cage, Food, Note

from .conftest import tags_of

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(autouse=True)
def no_warning_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "_warned", set())


@pytest.fixture
def old() -> Iterator[Any]:
    """A model outside of the registry, such as a migration's."""
    with isolate_apps("tests.unit.django_integration.zoo"):

        class Old(models.Model):
            cage = models.ForeignKey(Cage, models.CASCADE, null=True)

            class Meta:
                app_label = "zoo"
                db_table = "zoo_old"

            def __str__(self) -> str:
                return "old"

    with connection.schema_editor() as editor:
        editor.create_model(Old)
    yield Old
    with connection.schema_editor() as editor:
        editor.delete_model(Old)


def test_a_model_outside_of_the_registry_is_known_by_its_query(old: Any) -> None:
    assert tags_of(lambda: list(old._base_manager.all())) == {"zoo.old"}


def test_also_where_the_sql_is_asked(old: Any) -> None:
    recorder = Recorder()
    with recording(recorder):
        list(old._base_manager.annotate(x=RawSQL("(SELECT MAX(id) FROM zoo_food)", ())))
        list(old._base_manager.extra(tables=["zoo_note"]))
    assert set(recorder.tags()) == {"zoo.old", "zoo.food", "zoo.note"}
    assert not recorder.unknown


class OwnJoin:
    """Has what Django asks a join for, and no more: a package for common table expressions has such."""

    parent_alias, table_name, table_alias, identity = "zoo_cage", "used", "used", "used"
    join_type, nullable, filtered_relation = "INNER JOIN", False, None

    class join_field:  # noqa: N801
        pass

    def __init__(self, sql: str = "(SELECT DISTINCT cage_id FROM zoo_note) AS used", **attributes: Any) -> None:
        self.sql = sql
        vars(self).update(attributes)

    def equals(self, other: Any) -> bool:
        return self is other

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return f"INNER JOIN {self.sql} ON used.cage_id = zoo_cage.id", []


def joined(join: Any) -> QuerySet[Cage]:
    cages = Cage.objects.order_by("name")
    cages.query.get_initial_alias()
    cages.query.join(join)
    return cages


class OwnQuery(Query):
    """A package's way to put something before a query."""

    def get_compiler(self, using: Any = None, connection: Any = None, elide_empty: bool = True) -> Any:
        compiler = super().get_compiler(using, connection, elide_empty)
        compiler.__class__ = OwnCompiler
        return compiler


class OwnCompiler(SQLCompiler):
    def as_sql(self, *args: Any, **kwargs: Any) -> Any:
        sql, params = super().as_sql(*args, **kwargs)
        return f"WITH before AS (SELECT cage_id FROM zoo_note) {sql}", params


def own_query() -> QuerySet[Cage]:
    return QuerySet(Cage, OwnQuery(Cage)).filter(pk__gt=0)


def of_a_cte() -> QuerySet[Cage]:
    """Django's own class of table, with the name of a part of a WITH, which a package puts before the query."""
    cages = own_query()
    cages.query.get_initial_alias()
    cages.query.join(
        Join("before", "zoo_cage", "before", "INNER JOIN", Note._meta.get_field("cage").remote_field, nullable=False)
    )
    return cages


def in_a_subquery() -> QuerySet[Food]:
    return Food.objects.filter(pk__in=own_query().values("pk"))


class TestForeign:
    @pytest.mark.parametrize(
        ("rows", "kind"),
        [
            (lambda: joined(OwnJoin()), "OwnJoin"),
            (lambda: joined(OwnJoin()).filter(pk=1), "OwnJoin"),
            (own_query, "OwnQuery"),
            (lambda: own_query().filter(pk=1), "OwnQuery"),
            (in_a_subquery, "OwnQuery"),
            (of_a_cte, "OwnQuery"),
        ],
    )
    def test_all_tables_that_its_sql_names_are_read_and_it_is_warned_of_once(
        self, rows: Callable[[], QuerySet[Any]], kind: str
    ) -> None:
        recorder = Recorder()
        with recording(recorder):
            assert list(rows()) == []
            assert not rows().exists()
            assert rows().count() == 0
        assert {"zoo.cage", "zoo.note"} <= set(recorder.tags())
        assert not recorder.unknown
        assert recorder.is_kept
        with pytest.warns(UnknownReads, match=rf"{__name__}\.{kind} in a query .* is not Django's own"):
            recorder.loaded(None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            recorder.loaded(None)

    def test_who_declares_what_it_reads_is_not_warned(self) -> None:
        recorder = Recorder()
        with recording(recorder), warnings.catch_warnings():
            warnings.simplefilter("error")
            list(joined(OwnJoin()))
            depends_on(Food)
            recorder.loaded(None)

    def test_the_models_that_it_knows_count(self) -> None:
        """What its SQL does not say (a view, a function) its attributes may."""
        join = OwnJoin(model=Animal, cte=Food.objects.all(), field=Aquarium._meta.get_field("building_ptr"), other=1)
        assert {"zoo.animal", "zoo.food", "zoo.aquarium", "zoo.building"} <= tags_of(lambda: list(joined(join)))

    def test_a_table_that_is_no_models_is_unknown(self) -> None:
        recorder = Recorder()
        with recording(recorder):
            list(joined(OwnJoin("(SELECT id AS cage_id FROM django_migrations) AS used")))
        assert "the table 'django_migrations'" in str(recorder.unknown)

    def test_what_is_only_another_name_for_a_table_is_known_by_it(self) -> None:
        class Renamed(BaseTable):
            pass

        cages = Cage.objects.all()
        cages.query.get_initial_alias()
        cages.query.alias_map["zoo_cage"] = Renamed("zoo_cage", "zoo_cage")
        assert tags_of(lambda: list(cages.filter(pk=1))) == {"zoo.cage"}

    def test_an_attribute_that_raises_is_passed_over(self) -> None:
        class Trap:
            @property
            def model(self) -> Any:
                raise LookupError

        assert {"zoo.cage", "zoo.note"} <= tags_of(lambda: list(joined(OwnJoin(trap=Trap()))))


def test_managers_and_query_sets_of_somebodys_own_are_django_to_us() -> None:
    class Own(QuerySet[Any]):
        pass

    class OwnManager(Manager.from_queryset(Own)):  # type: ignore[misc]
        pass

    manager = OwnManager()
    manager.model = Cage
    recorder = Recorder()
    with recording(recorder):
        manager.filter(pk=1).first()
    assert set(recorder.tags()) == {"zoo.cage:*", "zoo.cage:1"}
    assert not recorder.foreign
