"""Which tests of Django's are run, and which of them are meant to fail with this app installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

USUAL = (
    *("aggregation", "aggregation_regress", "annotations", "async", "backends", "basic", "bulk_create", "composite_pk"),
    *("constraints", "contenttypes_tests", "custom_columns", "custom_lookups", "custom_managers", "custom_methods"),
    *("custom_pk", "datatypes", "dates", "datetimes", "db_functions", "db_typecasts", "db_utils", "defer"),
    *("defer_regress", "delete", "delete_regress", "distinct_on_fields", "empty", "empty_models", "expressions"),
    *("expressions_case", "expressions_window", "extra_regress", "field_defaults", "field_subclassing"),
    *("filtered_relation", "fixtures", "force_insert_update", "foreign_object", "from_db_value", "generic_relations"),
    *("generic_relations_regress", "get_earliest_or_latest", "get_object_or_404", "get_or_create"),
    *("known_related_objects", "lookup", "m2m_and_m2o", "m2m_intermediary", "m2m_multiple", "m2m_recursive"),
    *("m2m_regress", "m2m_signals", "m2m_through", "m2m_through_regress", "m2o_recursive", "managers_regress"),
    *("many_to_many", "many_to_one", "many_to_one_null", "max_lengths", "migrations.test_operations"),
    *("model_inheritance", "model_inheritance_regress", "model_regress", "model_utils", "mutually_referential"),
    *("nested_foreign_keys", "null_fk", "null_fk_ordering", "null_queries", "one_to_one", "or_lookups"),
    *("order_with_respect_to", "ordering", "pagination", "prefetch_related", "properties", "proxy_model_inheritance"),
    *("proxy_models", "queries", "queryset_pickle", "raw_query", "reserved_names", "reverse_lookup"),
    *("save_delete_hooks", "select_for_update", "select_related", "select_related_onetoone", "select_related_regress"),
    *("sessions_tests", "signals", "sites_framework", "sites_tests", "string_lookup", "swappable_models"),
    *("test_utils", "transaction_hooks", "transactions", "unmanaged_models", "update", "update_only_fields"),
    *("validation", "xor_lookups"),
)
"""What `make matrix` runs: models, queries, transactions, tests of tests, and what stands on them."""

NOT_MODELS = frozenset(
    {
        *("admin_scripts", "app_loading", "apps", "asgi", "bash_completion", "builtin_server", "cache"),
        *("check_framework", "conditional_processing", "csrf_tests", "dbshell", "decorators", "deprecation"),
        *("dispatch", "file_storage", "file_uploads", "files", "forms_tests", "gis_tests", "handlers"),
        *("httpwrappers", "humanize_tests", "i18n", "import_error_package", "inspectdb", "logging_tests", "mail"),
        *("middleware", "middleware_exceptions", "no_models", "postgres_tests", "project_template", "requests_tests"),
        *("resolve_url", "responses", "servers", "settings_tests", "shell", "shortcuts", "signed_cookies_tests"),
        *("signing", "sitemaps_tests", "sphinx", "staticfiles_tests", "syndication_tests", "template_backends"),
        *("template_loader", "template_tests", "templates", "test_exceptions", "test_runner", "test_runner_apps"),
        *("urlpatterns", "urlpatterns_reverse", "user_commands", "utils_tests", "validators", "version"),
        *("view_tests", "wsgi", "absolute_url_overrides"),
    }
)
"""What `--all` leaves out: it writes to no model, or has a run of its own (`cache`: `tests/peers`)."""

DIFFERENCES = {
    "signals.tests.SignalTests.test_disconnect_in_dispatch": (
        "asserts that nobody is connected to `post_save`; this app is"
    ),
}
"""The tests that fail with this app installed, and why that is right."""


def all_labels(tests: Path) -> Iterator[str]:
    """Yield the labels of everything that has to do with models, in the directory *tests* of a Django."""
    for place in sorted(tests.iterdir()):
        if (place / "__init__.py").exists() and place.name not in NOT_MODELS:
            yield place.name
