"""The models of a table."""

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from .conftest import tags_of

pytestmark = pytest.mark.usefixtures("db")


def test_a_model_outside_of_the_registry_is_known_by_its_query() -> None:
    """Such as a migration's."""
    with isolate_apps("tests.unit.django_integration.zoo"):

        class Old(models.Model):
            class Meta:
                app_label = "zoo"
                db_table = "zoo_old"

            def __str__(self) -> str:
                return "old"

    with connection.schema_editor() as editor:
        editor.create_model(Old)
    try:
        assert tags_of(lambda: list(Old._base_manager.all())) == {"zoo.old"}
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Old)
