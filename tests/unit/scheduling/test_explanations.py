"""Explanations, losers, spans and simulation of small loads whose right answer is known (L4-17, L4-24)."""

from __future__ import annotations

from typing import Any

import pytest

from plumbline.contracts.records import (
    START_DIGEST,
    Expiry,
    Record,
    Routing,
    Segment,
    Selection,
    Snapshot,
    decode_record,
    encode_record,
)
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.scheduling.comparison import simulate
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.explanation import RequestNotLogged, explain
from plumbline.scheduling.explanation_text import explanation_lines
from plumbline.scheduling.launch import Launch
from plumbline.scheduling.losers import LossReason, losers
from plumbline.scheduling.policies.registry import open_policy
from plumbline.scheduling.recorded_load import OfferedRequest, RecordedLoad, recorded_load
from plumbline.scheduling.refusals import QueueFull
from plumbline.scheduling.replay import ReplayDiverged, replay
from plumbline.scheduling.request import BatchTerms, ExecutionRequest
from plumbline.scheduling.spans import read_spans


class Recorded:
    """A core with its records."""

    def __init__(self, policy: str = "fifo", capacity: int = 20, streams: int = 2) -> None:
        self.records: list[Record] = []
        self.core = DecisionCore(
            policy=open_policy(policy), capacity=capacity, streams=streams, record=self.records.append
        )
        self.begin()

    def begin(self, now_ns: int = 0) -> None:
        self.records.append(Segment(now_ns, 1, "w", 0, len(self.records), 0, True))
        self.records.append(Snapshot(now_ns, self.core.snapshot()))

    def submit(self, name: str, now_ns: int = 0, graph: str = "m@1", **more: Any) -> ExecutionRequest:
        request = ExecutionRequest(id=RequestId(name), graph=graph, tenant=TenantId("t"), **more)
        self.core.submit(request, now_ns)
        return request

    def launch(self, stream: int, now_ns: int, **more: Any) -> Launch:
        launch = self.core.select(stream, now_ns, **more)
        assert isinstance(launch, Launch)
        self.core.launched(launch.number, now_ns)
        return launch

    def end(self, launch: Launch, now_ns: int) -> None:
        self.core.finish(launch.number, now_ns, {r.id: "ok" for r in launch.requests})

    @property
    def bodies(self) -> list[bytes]:
        return [encode_record(record) for record in self.records]

    def text(self, name: str) -> str:
        return "\n".join(explanation_lines(explain(self.bodies, name)))


def test_every_way_to_lose_is_named() -> None:
    run = Recorded("priority")
    terms = BatchTerms(key="m@1", units=1, max_units=2, max_requests=2)
    waiting = BatchTerms(key="w@1", units=1, max_units=2, max_requests=2, max_delay_ns=1000)
    run.submit("held", graph="w@1", priority=9, batch=waiting)
    run.submit("busy", graph="b@1", priority=9)
    run.submit("elsewhere", stream=1, priority=9)
    for name in ("head", "mate", "no room"):
        run.submit(name, priority=8, batch=terms)
    run.submit("behind", priority=1)
    found: dict[str, LossReason] = {}

    def watch(number: int, record: Record, core: DecisionCore | None) -> None:
        if isinstance(record, Selection) and core is not None:
            found.update({loser.request: loser.reason for loser in losers(core, record)})
            assert [x.request for x in losers(core, record, most=2)] == ["held", "busy"]

    assert [r.id for r in run.launch(0, 1, busy=["b@1"]).requests] == ["head", "mate"]
    replay(run.bodies, watch=watch)
    assert found == {
        "held": LossReason.HELD,
        "busy": LossReason.GRAPH_BUSY,
        "elsewhere": LossReason.BOUND_ELSEWHERE,
        "no room": LossReason.LAUNCH_FULL,
        "behind": LossReason.BEHIND,
    }


def test_waiting_for_company_is_explained() -> None:
    run = Recorded()
    terms = BatchTerms(key="m@1", units=1, max_units=2, max_requests=2, max_delay_ns=2_000_000)
    run.submit("a", batch=terms)
    run.core.select(1, 500_000)
    run.launch(1, 2_000_000)
    text = run.text("a")
    assert "+0.500 ms stream 1 waited for company of it, until +2.000 ms at the latest" in text
    assert "why now: nothing more was waited for" in text


def test_ends_other_than_finishing_are_explained() -> None:
    run = Recorded(capacity=3)
    run.submit("late", deadline_ns=1_000_000)
    run.submit("dropped")
    run.submit("fills")
    with pytest.raises(QueueFull):
        run.submit("turned away", 100)
    run.core.cancel("dropped", 300_000)
    run.core.expire(1_000_000)
    refused = ExecutionRequest(id=RequestId("no promise"), graph="m@1", tenant=TenantId("t"))
    run.core.refuse(refused, 2_000_000, "not_schedulable", {"bound_ns": 7})
    assert "expired in the queue: deadline was +1.000 ms; it never ran" in run.text("late")
    assert "+0.300 ms cancelled in the queue; it never ran" in run.text("dropped")
    assert "refused: queue_full (depth 3)" in run.text("turned away")
    assert "refused: not_schedulable (bound_ns 7)" in run.text("no promise")
    with pytest.raises(RequestNotLogged):
        run.text("stranger")


def test_promises_breaches_and_routes_are_explained() -> None:
    run = Recorded()
    run.records.append(Routing(0, "a", "m", ("1", "2"), (("1", "retired"),), "2", "only_one_left", {}))
    request = run.submit("a")
    run.core.promise(request, 0, 5_000_000)
    launch = run.launch(0, 0)
    run.end(launch, 9_000_000)
    run.core.breach(request, 9_000_000, 4_000_000, "slow_launch", {"launch": 0})
    text = run.text("a")
    assert "routed to 2 (only_one_left); not 1: retired" in text
    assert "promised within 5.000 ms" in text
    (passage,) = explain(run.bodies, "a").passages[-1:]
    assert passage.breach == {"late_ns": 4_000_000, "cause": "slow_launch", "fields": {"launch": 0}}
    assert "PROMISE BROKEN: 4.000 ms late, cause slow_launch" in text


def test_a_request_that_passes_twice_is_explained_twice() -> None:
    """Each stage of a pipeline is scheduled by itself."""
    run = Recorded()
    for now_ns in (0, 1_000_000):
        run.submit("a", now_ns)
        run.end(run.launch(0, now_ns), now_ns + 500_000)
    text = run.text("a")
    assert "pass 1 of 2" in text
    assert text.count("finished: ok") == 2


def test_what_a_dead_worker_had_is_said_to_have_ended_with_it() -> None:
    run = Recorded()
    run.submit("a")
    run.core = DecisionCore(policy=open_policy("fifo"), capacity=5, streams=1, record=run.records.append)
    run.begin(7_000_000)
    run.submit("b", 7_000_000)
    assert "its worker ended before it did" in run.text("a")
    assert replay(run.bodies).records == len(run.records)


def test_records_without_a_snapshot_before_them_are_refused() -> None:
    run = Recorded()
    run.submit("a")
    with pytest.raises(ReplayDiverged, match="no snapshot"):
        replay(run.bodies[2:])


def test_replay_may_begin_between_two_expiries_of_one_moment() -> None:
    run = Recorded()
    run.submit("a", deadline_ns=10)
    run.submit("b", deadline_ns=10)
    middle: list[int] = []

    def record(record: Record) -> None:
        run.records.append(record)
        if isinstance(record, Expiry):
            middle.append(len(run.records))
            run.records.append(run.core.snapshot_record(10))

    run.core.record = record
    run.core.expire(10)
    assert len(middle) == 2
    for start in (0, *middle):
        result = replay(run.bodies[start:])
        assert result.core is not None
        assert result.core.depth == 0
        assert result.digest != START_DIGEST


def test_time_of_an_interrupted_launch_is_its_own_time() -> None:
    run = Recorded("priority", streams=1)
    run.submit("long", priority=1)
    long = run.launch(0, 0)
    run.submit("short", 10, priority=9)
    short = run.launch(0, 40, above=long.key)
    run.end(short, 65)
    run.end(long, 100)
    spans = read_spans(decode_record(body) for body in run.bodies)
    assert [launch.own_ns for launch in spans.launches] == [75, 25]
    load = recorded_load(run.records)
    assert [offered.duration_ns for offered in load.offered] == [75, 25]
    assert (load.streams, load.policy) == ((0,), "priority")


def test_an_interruption_under_a_stricter_bound_is_explained_with_the_key_of_the_launch() -> None:
    """The bound may be the begin of a key: equal urgency does not interrupt."""
    run = Recorded("edf", streams=2)
    run.submit("running", deadline_ns=9_000_000)
    running = run.launch(0, 0)
    run.submit("equal", 1, deadline_ns=9_000_000)
    assert run.core.select(0, 2, above=running.key[:1]) is None
    run.submit("urgent", 3, deadline_ns=5_000_000)
    run.core.boundary(running.number, 4, 4)
    run.launch(0, 4, above=running.key[:1])
    text = run.text("running")
    assert "interrupted before segment 4 by launch 1 (urgent): its deadline is 4.000 ms later" in text
    (passed,) = explain(run.bodies, "equal").passages[0].passed_over
    assert passed["reason"] == LossReason.NOT_ABOVE
    assert (
        "before the running launch: equal deadline, it arrived later (arrival 1 after 0)" in passed["because"]
    )


def load_of(*rows: tuple[str, int, int, dict[str, Any]], streams: int = 1) -> RecordedLoad:
    """Rows: name, arrival, duration, further fields of the request."""
    offered = tuple(
        OfferedRequest(
            request=ExecutionRequest(
                id=RequestId(name), graph="m@1", arrived_ns=at_ns, **({"tenant": TenantId("t")} | more)
            ),
            at_ns=at_ns,
            after=None,
            duration_ns=duration_ns,
            cancelled_ns=None,
        )
        for name, at_ns, duration_ns, more in rows
    )
    return RecordedLoad(
        offered=offered, streams=tuple(range(streams)), capacity=50, policy="fifo", instances={}
    )


def test_a_simulation_gives_the_latencies_that_one_counts_by_hand() -> None:
    load = load_of(
        ("a", 0, 100, {"priority": 1}), ("b", 10, 100, {"priority": 1}), ("c", 20, 100, {"priority": 9})
    )
    fifo, priority = (simulate(load, open_policy(name)) for name in ("fifo", "priority"))
    assert fifo.mean_latency_ns == (100 + 190 + 280) // 3
    assert priority.mean_latency_ns == (100 + 180 + 290) // 3
    assert fifo.p99_latency_ns == 280
    assert priority.p99_latency_ns == 290
    assert fifo.makespan_ns == priority.makespan_ns == 300


def test_earliest_deadline_first_meets_in_the_simulation_what_fifo_misses() -> None:
    load = load_of(
        ("a", 0, 100, {"deadline_ns": 1000}), ("b", 1, 100, {}), ("c", 2, 100, {"deadline_ns": 210})
    )
    assert simulate(load, open_policy("fifo")).missed == 1
    assert simulate(load, open_policy("edf")).missed == 0


def test_a_later_pass_arrives_after_the_pass_before_it() -> None:
    run = Recorded(streams=1)
    run.submit("a", 0)
    run.end(run.launch(0, 0), 100)
    run.submit("a", 130)
    run.end(run.launch(0, 130), 180)
    result = simulate(recorded_load(run.records), open_policy("fifo"))
    assert (result.requests, result.finished, result.mean_latency_ns) == (1, 1, 180)


def test_fair_shares_in_a_simulation_are_equal_while_both_tenants_wait() -> None:
    """L4-08, seen through the comparison: 10:1 load, and what was served until the last arrival."""
    rows = [(f"h{n}", n, 100, {"tenant": TenantId("heavy"), "cost_bound_ns": 100}) for n in range(400)]
    rows += [(f"l{n}", n * 100, 100, {"tenant": TenantId("light"), "cost_bound_ns": 100}) for n in range(40)]
    load = RecordedLoad(
        **{f: getattr(load_of(*rows), f) for f in ("offered", "streams", "policy", "instances")},
        capacity=1000,
    )
    fair, fifo = (simulate(load, open_policy(name)) for name in ("fair", "fifo"))
    share = {t.tenant: t.share for t in fair.tenants}
    assert share["light"] == pytest.approx(0.5, abs=0.05)
    assert next(t.share for t in fifo.tenants if t.tenant == "light") < 0.2
