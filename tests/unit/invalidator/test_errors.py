"""One base for all; bad input is a ValueError as well, so that code which knows nothing of us catches it as usual."""

import pytest

from invalidator import errors


@pytest.mark.parametrize(
    "error", [it for it in vars(errors).values() if isinstance(it, type) and issubclass(it, Exception)]
)
def test_every_error_is_of_one_family_and_explains_itself(error) -> None:
    assert issubclass(error, errors.InvalidatorError)
    assert error.__doc__


@pytest.mark.parametrize("error", [errors.InvalidName, errors.InvalidSetting, errors.InvalidMessage])
def test_bad_input_is_a_value_error(error) -> None:
    assert issubclass(error, ValueError)


@pytest.mark.parametrize("error", [errors.PublishError, errors.ClosedError, errors.LinkDown])
def test_an_error_that_blames_no_argument_is_no_value_error(error) -> None:
    assert not issubclass(error, ValueError)
