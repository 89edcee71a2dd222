"""What a worker says of its decision log, as the gateway reads it: two numbers that it need not trust."""

from __future__ import annotations

import os

__all__ = ["log_trouble"]

_LAST_ERRNO = 4095


def log_trouble(failure: int) -> str:
    """Why a worker's log records nothing now; empty when it does.

    Args:
        failure: what is in `Field.LOG_FAILURE`: an `errno`, any other number for another reason, 0 for none.
    """
    if failure == 0:
        return ""
    if not 0 < failure <= _LAST_ERRNO:
        return "a decision that no record can hold"
    return os.strerror(failure)
