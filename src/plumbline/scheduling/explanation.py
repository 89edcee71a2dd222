"""What happened to one request, from the log alone (requirement L4-17).

A request may pass through the queue several times (each stage of a pipeline is scheduled by itself); each
pass is explained. Times in the document are absolute monotonic nanoseconds of the machine that wrote the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from plumbline.contracts.records import (
    Arrival,
    Boundary,
    Breach,
    Cancellation,
    Expiry,
    Finish,
    Held,
    LaunchStart,
    Promise,
    Record,
    Refusal,
    Routing,
    Segment,
    Selection,
)
from plumbline.errors import ValidationError
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.launch import Launch
from plumbline.scheduling.losers import interrupted_launch, losers, why_not
from plumbline.scheduling.policies.registry import open_policy
from plumbline.scheduling.policy import SchedulingPolicy
from plumbline.scheduling.queue_entry import QueueEntry, group_key
from plumbline.scheduling.replay import replay

__all__ = ["Explanation", "Passage", "RequestNotLogged", "explain", "tell_lost_workers"]

MOST_LISTED = 50
"""Overtakers and losers that a document lists; all are counted."""


@dataclass(eq=False, kw_only=True)
class RequestNotLogged(ValidationError):
    """No record names this request."""

    code = "validation.request_not_logged"
    owner = "scheduling"
    http_status = 404
    template = "no record of the log names request {request_id!r}"

    request_id: str


@dataclass(slots=True, kw_only=True)
class Passage:
    """One way of a request through the queue; filled while the log is replayed.

    Attributes:
        arrived: time, place in the order, depth of the queue with it, key, and what was known about it; None
            when it arrived before the first kept segment.
        promise: what admission promised.
        running: launches that went on when it arrived.
        passed_over: selections that took others while it was queued, the first ones, with the reason.
        passed_over_count: of all of them, by reason.
        holds: times when a stream stayed idle so that its launch could fill up.
        selection: its launch: stream, with whom, why, and who was left behind.
        started_ns: when the launch began on its stream.
        boundaries: segment boundaries of the launch.
        interruptions: at which boundaries others went first, and why.
        ended: outcome, cancellation, expiry or refusal, with the time.
        breach: a broken promise.
    """

    arrived: dict[str, Any] | None = None
    promise: dict[str, Any] | None = None
    running: list[dict[str, Any]] = field(default_factory=list)
    passed_over: list[dict[str, Any]] = field(default_factory=list)
    passed_over_count: dict[str, int] = field(default_factory=dict)
    holds: list[dict[str, Any]] = field(default_factory=list)
    selection: dict[str, Any] | None = None
    started_ns: int | None = None
    boundaries: list[dict[str, Any]] = field(default_factory=list)
    interruptions: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, Any] | None = None
    breach: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything a log says about a request."""

    request: str
    policy: str
    passages: tuple[Passage, ...]
    routes: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {
            "request": self.request,
            "policy": self.policy,
            "routes": list(self.routes),
            "passages": [asdict(passage) for passage in self.passages],
        }


def explain(
    bodies: Iterable[bytes],
    request_id: str,
    *,
    policy: Callable[[str], SchedulingPolicy] = open_policy,
) -> Explanation:
    """Replay a log and follow one request.

    Raises:
        RequestNotLogged: no record names it.
        RulesDiffer, ReplayDiverged, RecordUnreadable, SnapshotRefused, PolicyUnknown: the log cannot be
            replayed.
    """
    follower = _Follower(request_id)
    replay(bodies, policy=policy, watch=follower)
    if not follower.passages and not follower.routes:
        raise RequestNotLogged(request_id=request_id[:128])
    return Explanation(
        request=request_id,
        policy=follower.policy,
        passages=tuple(follower.passages),
        routes=tuple(follower.routes),
    )


def tell_lost_workers(explanations: Mapping[str, Explanation]) -> None:
    """End passages that a worker took along: its own log breaks off, and another one says when it was lost.

    Args:
        explanations: of one request, by the name of the log; a worker's has `NAME-gGENERATION` in it. Their
            passages are changed.
    """
    for explanation in explanations.values():
        for route in explanation.routes:
            fields = route["fields"]
            if route["reason"] != "worker_lost":
                continue
            folder = f"{fields.get('lost')}-g{fields.get('generation')}"
            ended = {"how": "worker_ended", "time_ns": route["time_ns"]}
            for name, other in explanations.items():
                if folder in name.split("/") and other.passages and other.passages[-1].ended is None:
                    other.passages[-1].ended = dict(ended)


class _Follower:
    """Watches a replay; owns the passages of one request."""

    def __init__(self, request_id: str) -> None:
        self.policy = ""
        self.passages: list[Passage] = []
        self.routes: list[dict[str, Any]] = []
        self._id = request_id
        self._launch: int | None = None

    def __call__(self, number: int, record: Record, core: DecisionCore | None) -> None:
        """See a record."""
        if core is not None and not self.policy:
            self.policy = core.policy.name
        match record:
            case Segment(fresh=True):
                self._end_with_writer(record)
            case Routing(request=self._id):
                self.routes.append(_facts(record))
            case Arrival() if record.request.id == self._id:
                self._arrive(record, core)
            case Refusal() if record.request.id == self._id:
                refused = {"how": "refused", "time_ns": record.time_ns, "reason": record.reason}
                facts = {"time_ns": record.time_ns, **_request_facts(record)}
                self.passages.append(Passage(arrived=facts, ended=refused | {"fields": record.fields}))
            case Promise(request=self._id):
                self._present().promise = {"bound_ns": record.bound_ns, "fields": record.fields}
            case Breach(request=self._id):
                self._present().breach = {
                    "late_ns": record.late_ns,
                    "cause": record.cause,
                    "fields": record.fields,
                }
            case Expiry(request=self._id):
                self._present().ended = {
                    "how": "expired",
                    "time_ns": record.time_ns,
                    "cause": record.cause,
                    "due_ns": record.due_ns,
                }
            case Cancellation(request=self._id):
                self._cancel(record)
            case Selection() | Held() if core is not None:
                self._see_choice(record, core)
            case LaunchStart() | Boundary() | Finish() if record.launch == self._launch:
                self._follow_launch(record)

    def _present(self) -> Passage:
        if not self.passages or self.passages[-1].ended is not None:
            self.passages.append(Passage())
        return self.passages[-1]

    def _arrive(self, record: Arrival, core: DecisionCore | None) -> None:
        promise = None
        if self.passages and self.passages[-1].ended is None and self.passages[-1].arrived is None:
            promise = self.passages.pop().promise  # it was promised just before it entered
        facts = {
            "time_ns": record.time_ns,
            "number": record.number,
            "depth": record.depth,
            "key": list(record.key),
            **_request_facts(record),
        }
        running = [] if core is None else [_launch_facts(launch) for launch in core.running.values()]
        self.passages.append(Passage(arrived=facts, running=running, promise=promise))
        self._launch = None

    def _cancel(self, record: Cancellation) -> None:
        passage = self._present()
        if record.launch is None:
            passage.ended = {"how": "cancelled", "time_ns": record.time_ns, "where": "in the queue"}
        else:
            passage.interruptions.append({"time_ns": record.time_ns, "cancelled": True})

    def _see_choice(self, record: Selection | Held, core: DecisionCore) -> None:
        entry = core.queue.find(self._id)
        if isinstance(record, Selection):
            if self._id in record.requests:
                self._select(record, core, entry)
            elif entry is not None:
                self._pass_over(record, core, entry)
            elif self._launch is not None and record.above is not None:
                self._interrupt(record, core)
        elif entry is not None:
            head = core.queue.find(record.request)
            if head is not None and group_key(head.request) == group_key(entry.request):
                self._present().holds.append(
                    {"time_ns": record.time_ns, "stream": record.stream, "until_ns": record.until_ns}
                )

    def _select(self, record: Selection, core: DecisionCore, entry: QueueEntry | None) -> None:
        head = core.queue.find(record.requests[0])
        why = "" if head is None else core.policy.reason(head.request, head.key)
        left = len(core.queue) - len(record.requests)
        units, bound, waited_ns = (*record.values, 0, 0, 0)[:3]
        self._present().selection = {
            "time_ns": record.time_ns,
            "launch": record.launch,
            "stream": record.stream,
            "requests": list(record.requests),
            "is_head": record.requests[0] == self._id,
            "why_first": why,
            "why_now": record.reason,
            "units": units,
            "unit_bound": bound,
            "waited_ns": record.time_ns - entry.entered_ns if entry is not None else waited_ns,
            "losers_count": left,
            "losers": [asdict(loser) for loser in losers(core, record, MOST_LISTED)],
        }
        self._launch = record.launch

    def _pass_over(self, record: Selection, core: DecisionCore, entry: QueueEntry) -> None:
        passage = self._present()
        loser = why_not(core, record, entry)
        counts = passage.passed_over_count
        counts[loser.reason.value] = counts.get(loser.reason.value, 0) + 1
        if len(passage.passed_over) < MOST_LISTED:
            passage.passed_over.append(
                {
                    "time_ns": record.time_ns,
                    "launch": record.launch,
                    "stream": record.stream,
                    "requests": list(record.requests),
                    "reason": loser.reason.value,
                    "because": loser.because,
                }
            )

    def _interrupt(self, record: Selection, core: DecisionCore) -> None:
        own = interrupted_launch(core, record)
        if own is None or own.number != self._launch:
            return
        passage = self._present()
        segment = passage.boundaries[-1]["segment"] if passage.boundaries else None
        passage.interruptions.append(
            {
                "time_ns": record.time_ns,
                "launch": record.launch,
                "requests": list(record.requests),
                "before_segment": segment,
                "because": core.policy.compare(record.key, own.key),
            }
        )

    def _follow_launch(self, record: LaunchStart | Boundary | Finish) -> None:
        passage = self._present()
        match record:
            case LaunchStart():
                passage.started_ns = record.time_ns
            case Boundary():
                passage.boundaries.append({"time_ns": record.time_ns, "segment": record.segment})
            case Finish():
                outcome = dict(record.outcomes).get(self._id, "unknown")
                passage.ended = {"how": "finished", "time_ns": record.time_ns, "outcome": outcome}
                self._launch = None

    def _end_with_writer(self, record: Segment) -> None:
        """A new writer goes on: what the one before had is over. Or records were missed, the end too."""
        if self.passages and self.passages[-1].ended is None:
            ended: dict[str, Any] = {"how": "worker_ended", "time_ns": record.time_ns}
            if record.missed:
                ended |= {"how": "not_recorded", "missed": record.missed}
            self.passages[-1].ended = ended
        self._launch = None


def _facts(record: Routing) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _request_facts(record: Arrival | Refusal) -> dict[str, Any]:
    request = record.request
    return {
        "graph": request.graph,
        "tenant": request.tenant,
        "priority": request.priority,
        "arrived_ns": request.arrived_ns,
        "deadline_ns": request.deadline_ns,
        "start_by_ns": request.start_by_ns,
        "cost_bound_ns": request.cost_bound_ns,
        "task": request.task,
    }


def _launch_facts(launch: Launch) -> dict[str, Any]:
    return {
        "launch": launch.number,
        "stream": launch.stream,
        "graph": launch.requests[0].graph,
        "requests": [request.id for request in launch.requests],
    }
