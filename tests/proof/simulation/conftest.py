"""What the simulation sets is set back: other tests of the same process read the log."""

import logging
from collections.abc import Iterator

import pytest

from .runs import be_quiet


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("invalidator")
    level = logger.level
    be_quiet()
    yield
    logger.setLevel(level)
