"""A recorded load under other policies, in virtual time (requirement L4-24).

The recorded arrivals go through the same decision core with another policy. A launch takes as long as the
longest of the recorded launches that its requests were part of; a launch is not interrupted. So the figures
compare policies; they do not promise times.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from plumbline.contracts.requests import RequestId
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.launch import Hold, Launch
from plumbline.scheduling.policies.registry import open_policy
from plumbline.scheduling.policy import SchedulingPolicy
from plumbline.scheduling.recorded_load import OfferedRequest, RecordedLoad
from plumbline.scheduling.refusals import QueueFull

__all__ = ["PolicyResult", "TenantResult", "compare_policies", "simulate"]

_FINISH, _CANCEL, _ARRIVE, _WAKE = range(4)
"""Order of events of one moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantResult:
    """What one tenant got. `share`: of the time that streams worked until the last arrival."""

    tenant: str
    requests: int
    finished: int
    mean_latency_ns: int
    missed: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyResult:
    """What a policy made of a load. Latencies are from the first arrival to the end, of what finished.

    Attributes:
        missed: deadlines that passed before the end, with those that expired in the queue.
        refused: turned away by the full queue.
        makespan_ns: from the first arrival to the end of the last launch.
    """

    policy: str
    requests: int
    finished: int
    expired: int
    cancelled: int
    refused: int
    missed: int
    mean_latency_ns: int
    p50_latency_ns: int
    p99_latency_ns: int
    launches: int
    makespan_ns: int
    tenants: tuple[TenantResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready document."""
        names = [name for name in self.__slots__ if name != "tenants"]
        tenants = [{name: getattr(t, name) for name in t.__slots__} for t in self.tenants]
        return {name: getattr(self, name) for name in names} | {"tenants": tenants}


def compare_policies(
    load: RecordedLoad, names: Sequence[str], policy: Callable[[str], SchedulingPolicy] = open_policy
) -> list[PolicyResult]:
    """The load under each policy, in the given order.

    Raises:
        PolicyUnknown, PolicyUnusable: as `open_policy`.
    """
    opened = [(name, policy(name)) for name in names]
    return [simulate(load, made, name) for name, made in opened]


def simulate(load: RecordedLoad, policy: SchedulingPolicy, name: str = "") -> PolicyResult:
    """The load under one policy. Deterministic."""
    run = _Run(load, policy)
    run.go()
    return _result(load, run, name or policy.name)


@dataclass(slots=True)
class _Ends:
    """How each request ended."""

    finished: dict[str, int] = field(default_factory=dict)
    expired: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


class _Run:
    """One simulation. Owns the core, the virtual time and the events to come."""

    def __init__(self, load: RecordedLoad, policy: SchedulingPolicy) -> None:
        self.ends = _Ends()
        self.work_ns: Counter[str] = Counter()
        self.ended_ns = 0
        self._load = load
        self._core = DecisionCore(policy=policy, capacity=load.capacity, streams=max(load.streams) + 1)
        self._free = sorted(load.streams)
        self._running: Counter[str] = Counter()
        self._duration = {o.request.id: o.duration_ns for o in load.offered}
        self._next: dict[str, OfferedRequest] = {}
        self._events: list[tuple[int, int, int, Any]] = []
        self._count = 0
        self._wakes: set[int] = set()
        self._last_arrival_ns = max((o.at_ns for o in load.offered if o.after is None), default=0)
        for offered in load.offered:
            if offered.after is not None:
                self._next[offered.after] = offered
            else:
                self._plan(offered.at_ns, _ARRIVE, offered)

    @property
    def launches(self) -> int:
        """Made in all."""
        return self._core.launches

    def go(self) -> None:
        """Run until nothing is left to happen."""
        while self._events:
            now_ns = self._events[0][0]
            while self._events and self._events[0][0] == now_ns:
                _, kind, _, what = heapq.heappop(self._events)
                self._happen(now_ns, kind, what)
            self.ends.expired.update(request.id for request in self._core.expire(now_ns))
            self._dispatch(now_ns)
            expiry_ns = self._core.next_expiry_ns
            if expiry_ns is not None:
                self._wake(max(expiry_ns, now_ns + 1))

    def _happen(self, now_ns: int, kind: int, what: Any) -> None:
        if kind == _FINISH:
            self._finish(now_ns, what)
        elif kind == _CANCEL:
            if self._core.cancel(what, now_ns) is not None:
                self.ends.cancelled.add(what)
        elif kind == _ARRIVE:
            self._arrive(now_ns, what)
        else:
            self._wakes.discard(now_ns)

    def _arrive(self, now_ns: int, offered: OfferedRequest) -> None:
        try:
            self._core.submit(offered.request, now_ns)
        except QueueFull:
            self.ends.refused.add(offered.request.id)
            return
        if offered.cancelled_ns is not None:
            self._plan(max(now_ns, offered.cancelled_ns), _CANCEL, offered.request.id)

    def _finish(self, now_ns: int, launch: Launch) -> None:
        self._core.finish(launch.number, now_ns, {r.id: "ok" for r in launch.requests})
        self._running[launch.requests[0].graph] -= 1
        heapq.heappush(self._free, launch.stream)
        self.ended_ns = now_ns
        for request in launch.requests:
            self.ends.finished[request.id] = now_ns
            later = self._next.get(request.id)
            if later is not None:
                self._plan(now_ns + later.at_ns, _ARRIVE, later)

    def _dispatch(self, now_ns: int) -> None:
        for stream in sorted(self._free):
            busy = [
                g
                for g, n in self._running.items()
                if n >= self._load.instances.get(g, len(self._load.streams))
            ]
            answer = self._core.select(stream, now_ns, busy=busy)
            if isinstance(answer, Launch):
                self._launch(now_ns, answer)
            elif isinstance(answer, Hold):
                self._wake(max(answer.until_ns, now_ns + 1))

    def _launch(self, now_ns: int, launch: Launch) -> None:
        self._free.remove(launch.stream)
        heapq.heapify(self._free)
        duration_ns = max(self._duration[request.id] for request in launch.requests)
        self._running[launch.requests[0].graph] += 1
        if now_ns <= self._last_arrival_ns:
            for request in launch.requests:
                self.work_ns[request.tenant] += duration_ns // len(launch.requests)
        self._plan(now_ns + max(1, duration_ns), _FINISH, launch)

    def _wake(self, at_ns: int) -> None:
        if at_ns not in self._wakes:
            self._wakes.add(at_ns)
            self._plan(at_ns, _WAKE, None)

    def _plan(self, at_ns: int, kind: int, what: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_ns, kind, self._count, what))


@dataclass(frozen=True, slots=True)
class _Whole:
    """A request over all its passes."""

    tenant: str
    latency_ns: int | None
    missed: bool
    end: str


def _result(load: RecordedLoad, run: _Run, name: str) -> PolicyResult:
    wholes = _wholes(load, run)
    latencies = sorted(w.latency_ns for w in wholes if w.latency_ns is not None)
    ends = Counter(w.end for w in wholes)
    first_ns = min((o.at_ns for o in load.offered if o.after is None), default=0)
    return PolicyResult(
        policy=name,
        requests=len(wholes),
        finished=ends["finished"],
        expired=ends["expired"],
        cancelled=ends["cancelled"],
        refused=ends["refused"],
        missed=sum(w.missed for w in wholes),
        mean_latency_ns=_mean(latencies),
        p50_latency_ns=_quantile(latencies, 50),
        p99_latency_ns=_quantile(latencies, 99),
        launches=run.launches,
        makespan_ns=max(0, run.ended_ns - first_ns),
        tenants=_tenants(wholes, run),
    )


def _wholes(load: RecordedLoad, run: _Run) -> list[_Whole]:
    """Each request with its last pass that happened."""
    chains: list[list[OfferedRequest]] = []
    chain_of: dict[RequestId, list[OfferedRequest]] = {}
    for offered in load.offered:
        chain = chain_of[offered.after] if offered.after is not None else []
        if not chain:
            chains.append(chain)
        chain.append(offered)
        chain_of[offered.request.id] = chain
    return [_whole(chain, run.ends) for chain in chains]


def _whole(chain: list[OfferedRequest], ends: _Ends) -> _Whole:
    first, last = chain[0], chain[-1]
    deadline_ns = first.request.deadline_ns
    ended_ns = ends.finished.get(last.request.id)
    if ended_ns is not None:
        missed = deadline_ns is not None and ended_ns > deadline_ns
        return _Whole(first.request.tenant, ended_ns - first.at_ns, missed, "finished")
    ids = {offered.request.id for offered in chain}
    end = "expired" if ids & ends.expired else "cancelled" if ids & ends.cancelled else "refused"
    return _Whole(first.request.tenant, None, end == "expired" and deadline_ns is not None, end)


def _tenants(wholes: Sequence[_Whole], run: _Run) -> tuple[TenantResult, ...]:
    by_tenant: dict[str, list[_Whole]] = defaultdict(list)
    for whole in wholes:
        by_tenant[whole.tenant].append(whole)
    total = sum(run.work_ns.values())
    return tuple(
        TenantResult(
            tenant=tenant,
            requests=len(own),
            finished=sum(w.end == "finished" for w in own),
            mean_latency_ns=_mean([w.latency_ns for w in own if w.latency_ns is not None]),
            missed=sum(w.missed for w in own),
            share=run.work_ns[tenant] / total if total else 0.0,
        )
        for tenant, own in sorted(by_tenant.items())
    )


def _mean(values: Sequence[int]) -> int:
    return sum(values) // len(values) if values else 0


def _quantile(ordered: Sequence[int], percent: int) -> int:
    """Nearest rank; 0 of nothing."""
    if not ordered:
        return 0
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]
