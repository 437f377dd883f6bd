"""Which errors strike from outside."""

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from django_integration.interrupts import is_interruption


class TimeLimit(Exception):
    pass


class Queue:
    def handle(self, signum: int, frame: FrameType | None) -> None:
        self.out_of_time()

    def out_of_time(self) -> None:
        raise TimeLimit


def handle(signum: int, frame: FrameType | None) -> None:
    raise TimeLimit


@pytest.fixture
def handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("handler", [handle, Queue().handle])
def test_what_a_signal_handler_raises_is_one(handlers: None, handler: object) -> None:
    signal.signal(signal.SIGUSR1, handler)  # type: ignore[arg-type]
    with pytest.raises(TimeLimit) as caught:
        signal.raise_signal(signal.SIGUSR1)
    assert is_interruption(caught.value)


def test_any_other_error_is_none() -> None:
    def fail(number: int, frame: object) -> None:
        raise TimeLimit

    for arguments in ((1, 2), ("1", None)):
        with pytest.raises(TimeLimit) as caught:
            fail(*arguments)  # type: ignore[arg-type]
        assert not is_interruption(caught.value)
    assert not is_interruption(TimeLimit())
