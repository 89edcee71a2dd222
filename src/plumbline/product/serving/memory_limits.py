"""How much memory workers may plan for models, and take for classes, when the operator does not say."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["class_memory_bytes", "model_budget_bytes", "usable_memory_bytes"]

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def class_memory_bytes(asked: int | None, usable: int | None) -> int | None:
    """The limit of private memory of each worker outside of the group of the models; None for no limit.

    Args:
        asked: by the operator; 0 for no limit, None for half of what is usable.
        usable: memory of this machine or container; None where it is not known.
    """
    if asked is not None:
        return asked or None
    return None if usable is None else usable // 2


def model_budget_bytes(asked: int | None, usable: int | None) -> int | None:
    """The most that all versions of one worker may plan together; None for no limit.

    Args:
        asked: by the operator; 0 for no limit, None for seven eighths of what is usable. The rest is for the
            processes themselves: their code, requests on their way, and results.
        usable: memory of this machine or container; None where it is not known.
    """
    if asked is not None:
        return asked or None
    return None if usable is None else usable // 8 * 7


def usable_memory_bytes(limit_file: Path = _CGROUP_LIMIT) -> int | None:
    """Memory of this machine, or of the container where that has less; None where the system does not say."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
    try:
        return min(machine, int(limit_file.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such file, or the word for no limit
        return machine
