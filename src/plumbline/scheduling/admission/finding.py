"""`Finding`: a deadline that could be missed, before it becomes a refusal."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.scheduling.admission.verdict import Reason
from plumbline.scheduling.simulation import Timeline

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Attributes are those of `Refused`, with times from now on."""

    victim: str
    kind: Reason
    reason: str
    bound_ns: int
    limit_ns: int
    exact: bool
    counterexample: Timeline | None
