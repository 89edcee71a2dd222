"""What a worker says a result is, copied first and then checked. Nothing here trusts a worker."""

from __future__ import annotations

import asyncio
import os

import numpy as np

from plumbline.contracts.inference import InferenceResult, InferenceTiming
from plumbline.contracts.models import ModelMetadata
from plumbline.serving.workers import protocol, tensors
from plumbline.serving.workers.journal import Entry
from plumbline.serving.workers.link import WorkerLink
from plumbline.serving.workers.own_files import read_own_file

__all__ = ["read_outcome", "read_outcome_apart", "result_of"]

Outputs = dict[str, np.ndarray]


def read_outcome(
    link: WorkerLink, outcome: protocol.Outcome, wanted: tuple[str, ...], metadata: ModelMetadata
) -> tuple[Outputs, str | None]:
    """Outputs in the ring, copied, and what is wrong with them if anything is. Moves the link's position."""
    missing = _incomplete(outcome, wanted, metadata)
    if missing is not None:
        return {}, missing
    room = link.region.ring_room(link.ring_position, outcome.ring_end)
    if room is None:
        return {}, f"its room in the ring cannot end at {outcome.ring_end}"
    flaw = tensors.mismatch(outcome.outputs, room[0], room[1], metadata)
    if flaw is not None:
        return {}, f"output {flaw[0]}: {flaw[1]}"
    try:
        outputs = tensors.read(outcome.outputs, link.region.memory, copy=True)
    except ValueError as error:
        return {}, str(error)
    link.ring_position = outcome.ring_end
    return outputs, None


async def read_outcome_apart(
    link: WorkerLink,
    outcome: protocol.Outcome,
    wanted: tuple[str, ...],
    metadata: ModelMetadata,
    limit_bytes: int,
) -> tuple[Outputs, str | None]:
    """Outputs in a file of their own, which came before the outcome, copied off the loop."""
    descriptor = link.take_file(outcome.number)
    if descriptor is None:
        return {}, "the file of its result did not come"
    missing = _incomplete(outcome, wanted, metadata)
    if missing is not None:
        os.close(descriptor)
        return {}, missing
    return await asyncio.get_running_loop().run_in_executor(
        None, read_own_file, descriptor, outcome.outputs, metadata, limit_bytes
    )


def _incomplete(outcome: protocol.Outcome, wanted: tuple[str, ...], metadata: ModelMetadata) -> str | None:
    """What is missing or too much; a version that declares no outputs may give any."""
    expected = list(wanted) or [spec.name for spec in metadata.outputs]
    if not expected:
        return None
    given = [place.name for place in outcome.outputs]
    return None if given == expected else f"{len(given)} outputs, or others than the {len(expected)} expected"


def result_of(worker: str, entry: Entry, outcome: protocol.Outcome, outputs: Outputs) -> InferenceResult:
    """As the caller gets it."""
    arrived_ns, queued_ns, launched_ns, finished_ns, launch, batched, stream = outcome.timing
    timing = InferenceTiming(
        arrived_ns=arrived_ns, queued_ns=queued_ns, launched_ns=launched_ns, finished_ns=finished_ns,
        launch=launch, batched=batched, stream=stream, worker=worker,
    )  # fmt: skip
    return InferenceResult(id=entry.call.id, served_by=entry.version.spec.ref, outputs=outputs, timing=timing)
