"""The environment of a process that is started from here: this one's, with changes."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["environment_of_child"]


def environment_of_child(
    changes: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The whole environment of a child.

    Args:
        changes: added to it, or set differently.
        environment: of the parent; this process's by default.

    >>> environment_of_child({"B": "3"}, {"A": "1", "B": "2"})
    {'A': '1', 'B': '3'}
    """
    return {**(os.environ if environment is None else environment), **changes}
