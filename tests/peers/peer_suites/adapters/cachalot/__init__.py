"""
What django-cachalot's tests import, and our cache behind it: every query that the ORM sends goes through
`cache.get_or_set`, with what it reads recorded.

`cachalot.tests` and the management command are cachalot's own, unmodified.
"""
