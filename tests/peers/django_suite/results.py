"""The outcome of each test of a unittest suite."""

# ruff: noqa: N802 - unittest's names

import unittest
from collections.abc import Callable
from typing import Any


class Results(unittest.TestResult):
    """
    Records, by test, `("passed" | "failed" | "skipped" | "better", why)`; better is an expected failure that passes.

    Args:
        name: returns the name of a test.
        starting: called with the name of each test before it runs.
    """

    def __init__(self, name: Callable[[Any], str], starting: Callable[[str], object] = lambda name: None) -> None:
        super().__init__()
        self.ended: dict[str, tuple[str, str]] = {}
        self._name = name
        self._starting = starting

    def _end(self, test: Any, outcome: str, why: str = "") -> None:
        name = self._name(test)
        if self.ended.get(name, ("passed", ""))[0] == "passed":
            self.ended[name] = (outcome, why)

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._starting(self._name(test))

    def addSuccess(self, test: Any) -> None:
        self._end(test, "passed")

    def addFailure(self, test: Any, err: Any) -> None:
        self._end(test, "failed", self._exc_info_to_string(err, test))

    def addError(self, test: Any, err: Any) -> None:
        self._end(test, "failed", self._exc_info_to_string(err, test))

    def addSkip(self, test: Any, reason: str) -> None:
        self._end(test, "skipped", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self._end(test, "failed", "as they expect: " + self._exc_info_to_string(err, test))

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._end(test, "better")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._end(test, "failed", self._exc_info_to_string(err, test))
