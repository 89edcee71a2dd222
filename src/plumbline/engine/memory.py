"""`MemoryBudget`: several versions in one budget. Plans are added up before anything is opened."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from plumbline.contracts.inference import VersionRef
from plumbline.errors import ResourceError

__all__ = ["MemoryBudget", "MemoryBudgetRefused"]


@dataclass(eq=False, kw_only=True)
class MemoryBudgetRefused(ResourceError):
    """One more version does not fit into the memory that all versions share. Nothing was opened for it."""

    code = "resource.engine_memory_budget"
    owner = "engine"
    template = (
        "version {version!r} needs {required_bytes} bytes by plan; {free_bytes} of the budget of "
        "{budget_bytes} bytes are free (loaded: {loaded})"
    )

    version: str
    required_bytes: int
    free_bytes: int
    budget_bytes: int
    loaded: str


class MemoryBudget:
    """Owns the sum of plans. Thread-safe.

    Args:
        budget_bytes: the most that all versions may plan together; None for no limit.
    """

    def __init__(self, budget_bytes: int | None) -> None:
        self.budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._held: dict[VersionRef, int] = {}

    def reserve(self, ref: VersionRef, required_bytes: int) -> None:
        """Set the plan of a version aside.

        Raises:
            MemoryBudgetRefused: it does not fit; nothing is set aside.
        """
        with self._lock:
            used_bytes = sum(self._held.values())
            if self.budget_bytes is not None and used_bytes + required_bytes > self.budget_bytes:
                loaded = ", ".join(f"{held} {size}" for held, size in self._held.items())
                raise MemoryBudgetRefused(
                    version=str(ref), required_bytes=required_bytes,
                    free_bytes=self.budget_bytes - used_bytes, budget_bytes=self.budget_bytes,
                    loaded=loaded or "nothing",
                )  # fmt: skip
            self._held[ref] = required_bytes

    def release(self, ref: VersionRef) -> None:
        """Give the plan of a version back; one that holds nothing changes nothing."""
        with self._lock:
            self._held.pop(ref, None)

    @property
    def used_bytes(self) -> int:
        """Sum of the plans that are set aside."""
        with self._lock:
            return sum(self._held.values())

    def by_version(self) -> Mapping[VersionRef, int]:
        """Planned bytes of each version."""
        with self._lock:
            return dict(self._held)
