"""
Django's own test suite, unmodified, with this app installed: whatever it does must be as without.

`what.py` says which tests, and lists the differences that are meant to be. `python -m tests.databases.django_suite`
runs them here (`__main__.py`), `make matrix` on two pairs of Python and Django; `run.py` is the process of one run.
"""
