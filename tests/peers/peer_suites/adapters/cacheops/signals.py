"""cacheops' signals. The adapter sends the first. The second has no counterpart: ours, `invalidated`, carries names."""

from django.dispatch import Signal

cache_read = Signal()
cache_invalidated = Signal()
