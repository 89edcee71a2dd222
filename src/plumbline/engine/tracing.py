"""Trace points of the engine. With `NULL_SINK` every method is one attribute test.

One traced request shows its way in this order (requirement L4-13): `request_submitted`, `policy_selection`,
`stream_allocation`, `allocation` (its instance is bound), `kernel_launch`, `event_record`, `event_wait`,
`completion`, `deallocation` (instance and stream are free again). Its place in the queue is in the decision
log.
"""

from __future__ import annotations

from collections.abc import Callable

from plumbline.contracts.clock import Clock
from plumbline.engine.requests import AcceptedRequest, LaunchWork
from plumbline.scheduling.decisions import DecisionCore, Launch
from plumbline.telemetry.points import (
    Completion,
    EventRecord,
    EventWait,
    KernelLaunch,
    PolicySelection,
    RequestSubmitted,
    StreamAllocation,
    TensorAllocation,
    TensorDeallocation,
)
from plumbline.telemetry.sinks import NULL_SINK, TraceSink

__all__ = ["EngineTrace"]


class EngineTrace:
    """Makes points from what the loop does. Called on the orchestration thread."""

    def __init__(self, sink: TraceSink) -> None:
        self._emit: Callable[..., None] | None = None if sink is NULL_SINK else sink.emit

    def submitted(self, request: AcceptedRequest) -> None:
        """A request arrived."""
        if self._emit is not None:
            call = request.call
            self._emit(
                RequestSubmitted(
                    timestamp_ns=request.queued_ns, request_id=call.id, priority=call.priority,
                    deadline_ns=call.deadline_ns,
                )
            )  # fmt: skip

    def chosen(self, launch: Launch, work: LaunchWork, core: DecisionCore) -> None:
        """A launch was selected, has its stream and its instance, and starts."""
        if self._emit is None:
            return
        now_ns, stream = work.launched_ns, str(work.lane)
        reason = core.policy.reason(launch.requests[0], launch.key)
        for request in work.requests:
            name, priority = request.call.id, request.call.priority
            self._emit(
                PolicySelection(
                    timestamp_ns=now_ns, request_id=name, policy=core.policy.name,
                    reason=f"{reason}; {launch.reason.value}", priority=priority, queue_depth=core.depth,
                )
            )  # fmt: skip
            self._emit(StreamAllocation(timestamp_ns=now_ns, request_id=name, stream_id=stream))
        self._emit(TensorAllocation(timestamp_ns=now_ns, tensor=work.place, size_bytes=_size(work), offset=0))
        self._emit(
            KernelLaunch(
                timestamp_ns=now_ns, request_id=_ids(work), stream_id=stream, operator=work.stage.graph
            )
        )

    def finished(self, work: LaunchWork, now_ns: int) -> None:
        """The lane reported the end of a launch."""
        if self._emit is not None:
            event, ids, stream = f"launch{work.number}", _ids(work), str(work.lane)
            for kind in (EventRecord, EventWait):
                self._emit(
                    kind(timestamp_ns=now_ns, request_id=ids, stream_id=stream, event_id=event, tensor="")
                )

    def completed(self, request: AcceptedRequest, clock: Clock) -> None:
        """A request gets its outcome."""
        if self._emit is not None:
            now_ns = clock.now_ns()
            latency_ns = now_ns - request.queued_ns
            self._emit(Completion(timestamp_ns=now_ns, request_id=request.call.id, latency_ns=latency_ns))

    def released(self, work: LaunchWork, clock: Clock) -> None:
        """The instance and the stream of a launch are free."""
        if self._emit is not None:
            self._emit(TensorDeallocation(timestamp_ns=clock.now_ns(), tensor=work.place))


def _ids(work: LaunchWork) -> str:
    return ",".join(request.call.id for request in work.requests)[:1024]


def _size(work: LaunchWork) -> int:
    return work.stage.session.metadata.memory.get("arenas", 0) // max(len(work.stage.instances), 1)
