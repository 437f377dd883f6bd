"""The models of a table; and queries that are not Django's alone, which their SQL tells more of."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, models
from django.db.models import Func, Manager, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.datastructures import BaseTable, Join
from django.test.utils import isolate_apps

from django_integration import UnknownReads, depends_on
from django_integration.dependencies import recorder as recorders
from django_integration.dependencies.recorder import Recorder, recording
from django_integration.dependencies.tables import read_sql
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
        list(old._base_manager.annotate(x=Func(template="(SELECT 1)", output_field=models.IntegerField())))
    assert set(recorder.tags()) == {"zoo.old", "zoo.food", "zoo.note"}
    assert not recorder.unknown


class TestSql:
    """What a text names, as models."""

    def read(self, text: str) -> Recorder:
        recorder = Recorder()
        read_sql(recorder, text, None)
        return recorder

    def test_tables_are_read_whatever_their_names_look_like(self) -> None:
        assert self.read('SELECT * FROM public."ZOO_Cage", zoo_animal_foods').tags() == ["zoo.cage", "zoo.animal_foods"]

    def test_names_in_places_that_are_not_understood_count(self) -> None:
        assert self.read("SELECT * FROM zoo_food PIVOT zoo_cage").tags() == ["zoo.food", "zoo.cage"]

    def test_in_doubt_every_table_counts_that_is_mentioned_anywhere(self) -> None:
        recorder = self.read(r"SELECT 'it\'s' FROM zoo_cage -- zoo_food")
        assert set(recorder.tags()) == {"zoo.cage", "zoo.food"}
        assert not recorder.unknown

    def test_in_doubt_and_no_table_is_unknown(self) -> None:
        assert "raw SQL" in str(self.read(r"SELECT 'it\'s'").unknown)

    def test_what_a_procedure_is_given_is_read(self) -> None:
        recorder = self.read("CALL copy_of('zoo_cage')")
        assert recorder.tags() == ["zoo.cage"]
        assert "the procedure 'copy_of'" in str(recorder.unknown)

    def test_a_table_that_is_no_models_is_unknown(self) -> None:
        recorder = self.read("SELECT * FROM zoo_cage JOIN cages_view ON true")
        assert recorder.tags() == ["zoo.cage"]
        assert "the table 'cages_view', which is no model's," in str(recorder.unknown)


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
        return f"WITH earlier AS (SELECT cage_id FROM zoo_note) {sql}", params


def own_query() -> QuerySet[Cage]:
    return QuerySet(Cage, OwnQuery(Cage)).filter(pk__gt=0)


def of_a_cte() -> QuerySet[Cage]:
    """Django's own class of table, with the name of a part of a WITH, which a package puts before the query."""
    cages = own_query()
    cages.query.get_initial_alias()
    cages.query.join(
        Join("earlier", "zoo_cage", "earlier", "INNER JOIN", Note._meta.get_field("cage").remote_field, nullable=False)
    )
    return cages


def in_a_subquery() -> QuerySet[Food]:
    return Food.objects.filter(pk__in=own_query().values("pk"))


class TestForeign:
    @pytest.mark.parametrize(
        "rows",
        [
            lambda: joined(OwnJoin()),
            lambda: joined(OwnJoin()).filter(pk=1),
            own_query,
            lambda: own_query().filter(pk=1),
            in_a_subquery,
            of_a_cte,
        ],
    )
    def test_all_tables_that_its_sql_names_are_read(self, rows: Callable[[], QuerySet[Any]]) -> None:
        recorder = Recorder()
        with recording(recorder):
            assert list(rows()) == []
            assert not rows().exists()
            assert rows().count() == 0
        assert {"zoo.cage", "zoo.note"} <= set(recorder.tags())
        assert not recorder.unknown
        assert recorder.is_kept

    def test_a_join_is_warned_of_once(self) -> None:
        """It may stand for a view or function that reads more."""

        def load() -> None:
            recorder = Recorder()
            with recording(recorder):
                list(joined(OwnJoin()))
            recorder.loaded(None)

        with pytest.warns(UnknownReads, match=rf"{__name__}\.OwnJoin in a query .* is not Django's own"):
            load()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load()

    @pytest.mark.parametrize("rows", [own_query, in_a_subquery, of_a_cte])
    def test_a_query_whose_sql_tells_all_is_not_warned_of(self, rows: Callable[[], QuerySet[Any]]) -> None:
        recorder = Recorder()
        with recording(recorder):
            list(rows())
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
