"""
Databases for tests: real servers of our own, and the tests of the Django app on each of them.

`INVALIDATOR_TEST_DATABASE` names the database of a run of pytest: `sqlite` (the default), `postgresql` or `mariadb`.
Each pytest process starts a server of its own and stops it; see tests/unit/django_integration/conftest.py.
`python -m tests.databases` runs the tests on one after the other (`make test`), `python -m tests.databases.matrix` on
every pair of Python and Django that is found (`make matrix`).
"""
