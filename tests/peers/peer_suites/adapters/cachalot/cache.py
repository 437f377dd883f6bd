"""Names that cachalot's tests import."""

cachalot_caches = None
