"""What a child process still does at its end, though it ends without the handlers of `atexit`."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from invalidator.exits import at_end_of_child
from tests.support import PATIENCE_S

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def leave(path: str) -> None:
    """Ask twice for the same: it happens once."""
    callback = Note(path)
    for _ in range(2):
        at_end_of_child(callback)


class Note:
    """Leaves a line in a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> None:
        with Path(self.path).open("a") as file:
            file.write("ended\n")

    def __hash__(self) -> int:
        return hash(self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Note) and self.path == other.path


@pytest.mark.parametrize("how", ["fork", "forkserver", "spawn"])
def test_a_child_of_multiprocessing(how: str, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    process = multiprocessing.get_context(how).Process(target=leave, args=(str(path),))
    process.start()
    process.join(PATIENCE_S)
    assert path.read_text() == "ended\n"


def test_a_child_of_a_pool(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        pool.submit(leave, str(path)).result(PATIENCE_S)
    assert path.read_text() == "ended\n"


def test_a_process_that_is_no_child_is_left_to_atexit(monkeypatch) -> None:
    """There `atexit` runs, and later: what others do at the end may still invalidate."""
    made = []
    monkeypatch.setattr(multiprocessing.util, "Finalize", lambda *args, **options: made.append(args))
    at_end_of_child(lambda: None)
    assert not made
