"""An accepted request, and a launch of some of them, as the engine carries them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.contracts.inference import InferenceCall, Tensors
from plumbline.engine.loading import LoadedStage, LoadedVersion
from plumbline.engine.outcomes import Completion
from plumbline.engine.session import Admitted, Instance
from plumbline.errors import PlumblineError
from plumbline.scheduling.execution_limits import VerifiedRequest
from plumbline.scheduling.policy import Key
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["AcceptedRequest", "LaunchWork", "Onward", "StageOutcome", "execution_request"]


@dataclass(slots=True, kw_only=True, eq=False)
class AcceptedRequest:
    """From acceptance to its one outcome. Owned by the orchestration loop once it is in the intake.

    Attributes:
        call: what was asked.
        version: that serves it.
        admitted: inputs of the stage that comes next or runs.
        execution: that stage as the decision core sees it.
        on_done: told the outcome, once.
        queued_ns: accepted, absolute.
        launched_ns: first launch, absolute; 0 before.
        launch: number of its latest launch; batched: requests in it; stream: where.
        cancelled: the caller does not want it any more; the one field that other threads set.
        waiting: its last stage was not launched yet, so it counts against the bound of the intake.
    """

    call: InferenceCall
    version: LoadedVersion
    admitted: Admitted
    execution: VerifiedRequest
    on_done: Callable[[Completion], None]
    queued_ns: int
    launched_ns: int = 0
    launch: int = 0
    batched: int = 1
    stream: int = 0
    cancelled: bool = False
    waiting: bool = True


@dataclass(frozen=True, slots=True)
class Onward:
    """A request of a pipeline is done with a stage; what the next one wants."""

    admitted: Admitted


StageOutcome = Tensors | Onward | PlumblineError
"""What a launch means for one of its requests."""


@dataclass(slots=True, kw_only=True, eq=False)
class LaunchWork:
    """One launch: a batch on an instance on a lane.

    Attributes:
        number: as the decision core counts.
        lane: index of the stream.
        stage: of which version, with its graph.
        instance: taken from the stage for this launch.
        requests: in the order of the batch.
        key: of the launch; only a lower one may run between its segments.
        launched_ns: absolute.
        place: graph and number of the instance, for traces.
        nested: it runs between two segments of another launch of the lane.
        ended: it was ended between two segments.
    """

    number: int
    lane: int
    stage: LoadedStage
    instance: Instance
    requests: Sequence[AcceptedRequest]
    key: Key
    launched_ns: int
    place: str
    nested: bool = False
    ended: bool = False


def execution_request(
    call: InferenceCall, version: LoadedVersion, admitted: Admitted, queued_ns: int
) -> ExecutionRequest:
    """What the decision core sees of a call in the stage that comes next.

    A limit of the start is met once the first stage was launched.
    """
    stage = version.stages[admitted.stage]
    return ExecutionRequest(
        id=call.id, graph=stage.graph, tenant=call.tenant, priority=call.priority, arrived_ns=queued_ns,
        deadline_ns=call.deadline_ns, start_by_ns=call.start_by_ns if admitted.stage == 0 else None,
        cost_bound_ns=admitted.cost_bound_ns, segment_bounds_ns=admitted.segment_bounds_ns,
        stream=stage.stream, batch=admitted.batch,
    )  # fmt: skip
