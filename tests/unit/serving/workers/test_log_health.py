"""What a worker says of its log is read as two numbers that may be anything (L4-17, L4-31)."""

import errno

import pytest

from plumbline.serving.workers.log_health import log_trouble


def test_a_log_that_records_has_no_trouble():
    assert log_trouble(0) == ""


def test_a_failure_of_the_system_is_told_in_its_words():
    assert log_trouble(errno.ENOSPC) == "No space left on device"


@pytest.mark.parametrize("number", [-1, -(1 << 63), 1 << 40, (1 << 63) - 1])
def test_any_other_number_is_a_trouble_too(number):
    """A broken worker may write anything there."""
    assert log_trouble(number)
