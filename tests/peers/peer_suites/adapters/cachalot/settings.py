"""Names that cachalot's tests import."""


class _Settings:
    def reload(self) -> None:
        """Do nothing: settings are read at each use."""


cachalot_settings = _Settings()
ITERABLES = {tuple, list, frozenset, set}
SUPPORTED_ONLY = "supported_only"
SUPPORTED_DATABASE_ENGINES: set[str] = set()
