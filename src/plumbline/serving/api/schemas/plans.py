"""Memory plans of versions."""

from __future__ import annotations

from plumbline.serving.api.schemas.document import Answer

__all__ = ["BufferDocument", "PartWithoutPlan", "PlanDocument", "VersionPlans"]


class BufferDocument(Answer):
    """A buffer: bytes `offset_bytes ..` of the arena, in the steps `first_step ..= last_step`."""

    name: str
    offset_bytes: int
    size_bytes: int
    first_step: int
    last_step: int


class PlanDocument(Answer):
    """Where everything in the arena of a model lies.

    `stage` is `model@version` of the model: the version itself, or a stage of a pipeline. `buffers` lists at
    most 2000 for a version, those that take the most bytes x steps; `buffers_total` counts all.
    """

    stage: str
    digest: str
    peak_bytes: int
    lower_bound_bytes: int
    lower_bound_step: int
    naive_bytes: int
    reuse_percent: float
    alignment_bytes: int
    weights_bytes: int
    state_bytes: int
    arenas: int
    total_bytes: int
    steps: int
    buffers_total: int
    buffers: list[BufferDocument]


class PartWithoutPlan(Answer):
    """A stage that has no plan to show, and why."""

    stage: str
    reason: str


class VersionPlans(Answer):
    """The memory plans of a version: one, or one for each model of a pipeline."""

    model: str
    version: str
    digest: str
    plans: list[PlanDocument]
    without: list[PartWithoutPlan]
