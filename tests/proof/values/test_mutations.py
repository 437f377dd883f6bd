"""
The worlds notice when a rule of the value path is missing: a few rules here, all of them by `make mutations`.
"""

import pytest

from tests.proof.mutating import Mutation, check, try_out, was_caught

from .mutations import IN_SHORT, MUTATIONS, SUITE

ENOUGH_WORLDS = 300
"""Those in short take a tenth of it."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_the_rule_is_still_written_as_the_mutation_expects(mutation: Mutation) -> None:
    """A mutation that changes nothing proves nothing: whoever rewrites a rule, rewrites its mutation."""
    check(mutation)


@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.rule in IN_SHORT], ids=lambda mutation: mutation.rule)
def test_a_missing_rule_is_caught(mutation: Mutation) -> None:
    outcome = try_out(SUITE, mutation, ENOUGH_WORLDS)
    assert was_caught(outcome), outcome
