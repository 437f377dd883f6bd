"""
What django-cachalot's tests import, with our cache behind it: every query that the ORM sends goes through
`cache.get_or_set`, which records what it reads.

`cachalot.tests` and the management command are cachalot's own, unmodified.
"""
