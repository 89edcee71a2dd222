"""What the drawing of a version's plans came to: the message between who prepares and who serves."""

from __future__ import annotations

from typing import Self

import msgspec

__all__ = ["DrawnPlan", "DrawnPlans", "UndrawnPlan"]


class DrawnPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that was drawn: `model@version` of the part, name of its files, SHA-256 of the picture."""

    stage: str
    file: str
    digest: str


class UndrawnPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A part without a picture, and why."""

    stage: str
    reason: str


class DrawnPlans(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the parts of a version. `unplanned`: they have no plan; `missing`: it was not drawn."""

    plans: tuple[DrawnPlan, ...] = ()
    missing: tuple[UndrawnPlan, ...] = ()
    unplanned: tuple[UndrawnPlan, ...] = ()

    @classmethod
    def without_pictures(cls, stage: str, reason: str) -> Self:
        """Of a version whose plans are there and were not drawn."""
        return cls(missing=(UndrawnPlan(stage=stage, reason=reason),))
