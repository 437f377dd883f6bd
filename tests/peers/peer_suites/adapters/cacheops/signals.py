"""cacheops' signals. The adapter sends the first; the second has no counterpart: ours, `invalidated`, tells names."""

from django.dispatch import Signal

cache_read = Signal()
cache_invalidated = Signal()
