"""One traced run of a model as the points X-40..X-44.

    kernel launch (X-40)           one record of native code: a call of one step function by one thread
    event record, wait (X-41)      the completion count that follows the producer of a tensor, where another
                                   thread consumes it; the end of the run, for each output of the caller
    completion (X-42)              the call of `run`
    allocation, deallocation       the buffers of the allocation plan, at the first and the last step that use
    (X-43, X-44)                   them

Memory is planned, not allocated: an allocation point says when the first step that uses a buffer began.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plumbline.compiler.planning.program import ProgramPlan
from plumbline.contracts.program import PlannedStep
from plumbline.engine.model import Model
from plumbline.errors import ArtifactError
from plumbline.telemetry.points import (
    Completion,
    EventRecord,
    EventWait,
    KernelLaunch,
    TensorAllocation,
    TensorDeallocation,
    TracePoint,
)

__all__ = ["Launch", "TracePlanMismatch", "TracedRun", "trace_points", "trace_run"]

CALLER = "caller"
"""Stream id of the thread that called `run`."""


@dataclass(eq=False, kw_only=True)
class TracePlanMismatch(ArtifactError):
    """The plan that was made for a trace is not the plan of the executable that ran."""

    code = "artifact.trace_plan"
    owner = "product"
    template = "model {model!r} ran with plan {ran}, but its file gives plan {planned}"

    model: str
    ran: str
    planned: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One call of a step function."""

    step: int
    thread: int
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedRun:
    """What native code and the caller's clock wrote down about one run."""

    request_id: str
    began_ns: int
    ended_ns: int
    launches: tuple[Launch, ...]
    outputs: Mapping[str, np.ndarray]


def trace_run(model: Model, inputs: Mapping[str, np.ndarray], request_id: str = "run-0") -> TracedRun:
    """Run once through the traced entries.

    Raises:
        InputRefused, TraceOverflow: as `Model.run_traced`.
    """
    began = time.monotonic_ns()
    outputs, records = model.run_traced(inputs)
    ended = time.monotonic_ns()
    rows = sorted(records.tolist(), key=lambda r: (r[2], r[3], r[0], r[1]))
    launches = tuple(Launch(step=s, thread=t, begin_ns=b, end_ns=e) for s, t, b, e in rows)
    return TracedRun(
        request_id=request_id, began_ns=began, ended_ns=ended, launches=launches, outputs=outputs
    )


def trace_points(run: TracedRun, model: Model, plan: ProgramPlan) -> list[TracePoint]:
    """The points of a run, in order of time.

    Args:
        run: of `model`.
        model: what ran.
        plan: made from the same model file with the same options.

    Raises:
        TracePlanMismatch: it is another plan.
    """
    if plan.allocation.digest != model.plan.digest:
        raise TracePlanMismatch(model=model.name, ran=model.plan.digest, planned=plan.allocation.digest)
    times = _StepTimes(run, [step.name for step in plan.program.steps])
    points: list[TracePoint] = list(_allocations(run, plan, times))
    points += _launches(run, model.name, plan.program.steps)
    points += _events(run, model.name, plan, times)
    points += _deallocations(run, plan, times)
    points.append(
        Completion(
            timestamp_ns=run.ended_ns, request_id=run.request_id, latency_ns=run.ended_ns - run.began_ns
        )
    )
    return sorted(points, key=lambda point: point.timestamp_ns)


class _StepTimes:
    """Begin and end of every step, by name; a step without a call takes the end of the one before it."""

    def __init__(self, run: TracedRun, names: Sequence[str]) -> None:
        calls: dict[int, list[Launch]] = {}
        for launch in run.launches:
            calls.setdefault(launch.step, []).append(launch)
        self.first: dict[str, Launch] = {}
        self.last: dict[str, Launch] = {}
        previous = Launch(step=-1, thread=0, begin_ns=run.began_ns, end_ns=run.began_ns)
        for index, name in enumerate(names):
            found = calls.get(index, [previous])
            self.first[name] = min(found, key=lambda launch: launch.begin_ns)
            self.last[name] = previous = max(found, key=lambda launch: launch.end_ns)


def _stream(model: str, thread: int) -> str:
    return f"{model}/{thread}"


def _launches(run: TracedRun, model: str, steps: Sequence[PlannedStep]) -> Iterator[TracePoint]:
    for launch in run.launches:
        yield KernelLaunch(
            timestamp_ns=launch.begin_ns,
            request_id=run.request_id,
            stream_id=_stream(model, launch.thread),
            operator=steps[launch.step].name,
            duration_ns=launch.end_ns - launch.begin_ns,
        )


def _events(run: TracedRun, model: str, plan: ProgramPlan, times: _StepTimes) -> Iterator[TracePoint]:
    """A record for each tensor that crosses threads or leaves the run, before its waits."""
    waits = _waits(run, model, plan, times)
    producers = {o.value: step.name for step in plan.program.steps for o in step.outputs}
    for tensor, waiting in waits.items():
        if tensor not in producers:
            continue
        last = times.last[producers[tensor]]
        event = f"{run.request_id}/{tensor}"
        yield EventRecord(
            timestamp_ns=last.end_ns,
            request_id=run.request_id,
            stream_id=_stream(model, last.thread),
            event_id=event,
            tensor=tensor,
        )
        for stream, moment in waiting.items():
            yield EventWait(
                timestamp_ns=max(moment, last.end_ns),
                request_id=run.request_id,
                stream_id=stream,
                event_id=event,
                tensor=tensor,
            )


def _waits(run: TracedRun, model: str, plan: ProgramPlan, times: _StepTimes) -> dict[str, dict[str, int]]:
    """Tensor -> stream that waits for it -> when its first use there began."""
    steps = plan.program.steps
    finished_by = {o.value: times.last[step.name].thread for step in steps for o in step.outputs}
    waits: dict[str, dict[str, int]] = {}
    for launch in run.launches:
        for operand in steps[launch.step].inputs:
            if operand is not None and finished_by.get(operand.value, launch.thread) != launch.thread:
                waits.setdefault(operand.value, {}).setdefault(_stream(model, launch.thread), launch.begin_ns)
    for operand in plan.program.outputs.values():
        waits.setdefault(operand.value, {})[CALLER] = run.ended_ns
    return waits


def _allocations(run: TracedRun, plan: ProgramPlan, times: _StepTimes) -> Iterator[TracePoint]:
    names = _step_names(plan)
    inputs = {operand.value for operand in plan.program.inputs.values()}
    for placement in sorted(plan.allocation.placements, key=lambda p: p.first):
        first = times.first.get(names[placement.first]) if placement.first < len(names) else None
        begins = run.began_ns if first is None or placement.name in inputs else first.begin_ns
        yield TensorAllocation(
            timestamp_ns=begins,
            tensor=placement.name,
            size_bytes=placement.size_bytes,
            offset=placement.offset_bytes,
        )


def _deallocations(run: TracedRun, plan: ProgramPlan, times: _StepTimes) -> Iterator[TracePoint]:
    names = _step_names(plan)
    outputs = _output_buffers(plan)
    for placement in sorted(plan.allocation.placements, key=lambda p: p.last):
        last = times.last.get(names[placement.last]) if placement.last < len(names) else None
        ends = run.ended_ns if last is None or placement.name in outputs else last.end_ns
        yield TensorDeallocation(timestamp_ns=ends, tensor=placement.name)


def _output_buffers(plan: ProgramPlan) -> set[str]:
    locations = plan.assignment.locations
    return {locations[o.value].buffer for o in plan.program.outputs.values() if o.value in locations}


def _step_names(plan: ProgramPlan) -> list[str]:
    """Names by the index that lifetimes count in. A concatenation that was written in place makes no call; it
    stands at the step before it."""
    present = {step.name for step in plan.program.steps}
    names: list[str] = []
    for access in plan.steps:
        names.append(access.name if access.name in present or not names else names[-1])
    return names
