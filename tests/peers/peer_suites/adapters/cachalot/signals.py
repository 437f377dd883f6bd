"""Names that cachalot's tests import."""

from django.dispatch import Signal

post_invalidation = Signal()
