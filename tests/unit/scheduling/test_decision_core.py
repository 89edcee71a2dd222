"""The decision core: bounds, refusals, batches, holds, streams, expiry (L4-11, L4-12, L4-16, L4-66)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plumbline.contracts.records import Held, Record, Refusal, Selection
from plumbline.contracts.requests import PriorityRefused, RequestId, TenantId
from plumbline.errors import Recoverability
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.execution_limits import verify_execution_request
from plumbline.scheduling.launch import Hold, Launch, SelectionReason
from plumbline.scheduling.policies.earliest_deadline_first import EarliestDeadlineFirstPolicy
from plumbline.scheduling.policies.fifo import FifoPolicy
from plumbline.scheduling.policies.priority import PriorityPolicy
from plumbline.scheduling.policies.registry import PolicyUnknown, PolicyUnusable, open_policy, policy_names
from plumbline.scheduling.refusals import (
    DuplicateRequest,
    ExecutionRequestRefused,
    LaunchUnknown,
    OutcomesIncomplete,
    QueueFull,
    StreamUnknown,
)
from plumbline.scheduling.request import BatchTerms, ExecutionRequest
from plumbline.scheduling.snapshot import SnapshotRefused


def request(name: str, graph: str = "m@1", **more: Any) -> ExecutionRequest:
    return ExecutionRequest(id=RequestId(name), graph=graph, tenant=TenantId("t"), **more)


def terms(units: int = 1, delay_ns: int = 0, max_units: int = 4, max_requests: int = 4) -> BatchTerms:
    return BatchTerms(
        key="m@1", units=units, max_units=max_units, max_requests=max_requests, max_delay_ns=delay_ns
    )


def core_of(policy: Any = None, records: list[Record] | None = None, **more: Any) -> DecisionCore:
    record = None if records is None else records.append
    return DecisionCore(
        policy=policy or FifoPolicy(), record=record, **({"capacity": 8, "streams": 2} | more)
    )


def launched(core: DecisionCore, stream: int = 0, now_ns: int = 0, **more: Any) -> Launch:
    answer = core.select(stream, now_ns, **more)
    assert isinstance(answer, Launch)
    return answer


def ids(launch: Launch) -> list[str]:
    return [r.id for r in launch.requests]


def end(core: DecisionCore, launch: Launch, now_ns: int = 0) -> None:
    core.finish(launch.number, now_ns, {r.id: "ok" for r in launch.requests})


def test_one_request_above_the_bound_is_refused_as_transient_and_nothing_changes() -> None:
    """L4-12."""
    records: list[Record] = []
    core = core_of(records=records, capacity=3)
    for n in range(3):
        core.submit(request(f"r{n}"), n)
    before = core.state_digest
    with pytest.raises(QueueFull) as refused:
        core.submit(request("one more"), 5)
    assert refused.value.recoverability is Recoverability.TRANSIENT
    assert refused.value.depth == 3
    assert 0.001 <= refused.value.retry_after_s <= 30
    assert core.state_digest == before
    assert isinstance(records[-1], Refusal)
    assert records[-1].reason == "queue_full"
    launched(core)
    core.submit(request("one more"), 6)


def test_a_full_queue_refuses_without_comparing_a_key() -> None:
    """L4-12: constant time, whatever is queued."""

    class Untouched(FifoPolicy):
        def enter(self, request: ExecutionRequest, arrival: int) -> tuple[int, ...]:
            assert arrival < 100
            return super().enter(request, arrival)

    core = core_of(policy=Untouched(), capacity=100)
    for n in range(100):
        core.submit(request(f"r{n}"), n)
    for n in range(1000):
        with pytest.raises(QueueFull):
            core.submit(request(f"more{n}"), 100)
    assert core.depth == 100


def test_the_time_to_try_again_follows_the_rate_of_departures() -> None:
    waits = []
    for gap_ns in (1_000_000, 50_000_000):
        core = core_of(capacity=20)
        for n in range(60):
            core.submit(request(f"r{n}"), n * gap_ns)
            if n >= 19:
                end(core, launched(core, now_ns=n * gap_ns))
        core.submit(request("last"), 60 * gap_ns)
        with pytest.raises(QueueFull) as refused:
            core.submit(request("more"), 60 * gap_ns)
        waits.append(refused.value.retry_after_s)
    assert waits[0] == pytest.approx(2 * 0.001, rel=0.1), "a tenth of the queue, 2 requests, one each 1 ms"
    assert waits[1] == pytest.approx(2 * 0.05, rel=0.1)


def test_an_id_that_is_queued_or_running_is_refused_and_free_again_after_its_end() -> None:
    """L4-03: ids are unique among the living."""
    core = core_of()
    core.submit(request("a"), 0)
    with pytest.raises(DuplicateRequest, match="queued"):
        core.submit(request("a"), 1)
    launch = launched(core)
    with pytest.raises(DuplicateRequest, match="running"):
        core.submit(request("a"), 2)
    end(core, launch)
    core.submit(request("a"), 3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"arrived_ns": 100, "deadline_ns": 100}, "deadline_ns"),
        ({"arrived_ns": 100, "deadline_ns": 7}, "deadline_ns"),
        ({"deadline_ns": 1.5}, "deadline_ns"),
        ({"deadline_ns": True}, "deadline_ns"),
        ({"deadline_ns": 1 << 63}, "deadline_ns"),
        ({"arrived_ns": -1}, "arrived_ns"),
        ({"arrived_ns": 9, "start_by_ns": 9}, "start_by_ns"),
        ({"cost_bound_ns": -1}, "cost_bound_ns"),
        ({"cost_bound_ns": 1 << 50}, "cost_bound_ns"),
        ({"cost_bound_ns": 5, "segment_bounds_ns": (1, 2)}, "segment_bounds_ns"),
        ({"period_ns": 0}, "period_ns"),
        ({"batch": terms(units=9)}, "max_units"),
        ({"batch": terms(max_requests=0)}, "max_requests"),
        ({"batch": terms(delay_ns=-1)}, "max_delay_ns"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    """L4-03: a bad deadline is refused."""
    core = core_of()
    with pytest.raises(ExecutionRequestRefused, match=named):
        core.submit(request("a", **change), 200)
    assert core.depth == 0


def test_a_request_that_its_submitter_looked_at_enters_as_any_other_and_keeps_the_other_bounds() -> None:
    """L4-03: one look at the numbers is enough; ids, streams and room are the business of the core."""
    core, other = core_of(), core_of()
    verified = verify_execution_request(request("a", deadline_ns=900))
    assert verified == request("a", deadline_ns=900)
    core.enter(verified, 5)
    other.submit(request("a", deadline_ns=900), 5)
    assert core.snapshot() == other.snapshot()
    with pytest.raises(DuplicateRequest):
        core.enter(verified, 6)
    with pytest.raises(StreamUnknown):
        core.enter(verify_execution_request(request("b", stream=7)), 6)
    for number in range(core.capacity - 1):
        core.enter(verify_execution_request(request(f"r{number}")), 7)
    with pytest.raises(QueueFull):
        core.enter(verify_execution_request(request("last")), 8)


@pytest.mark.parametrize("priority", [-1, 10, 2.0, True])
def test_a_priority_outside_its_range_is_refused(priority: Any) -> None:
    """L4-11."""
    with pytest.raises(PriorityRefused):
        core_of().submit(request("a", priority=priority), 0)


def test_a_stream_that_is_not_there_is_refused() -> None:
    core = core_of()
    with pytest.raises(StreamUnknown):
        core.submit(request("a", stream=2), 0)
    with pytest.raises(StreamUnknown):
        core.select(-1, 0)


def test_fifo_order_is_the_order_of_arrival_whatever_else_differs() -> None:
    """L4-06: priority, deadline, cost, model and tenant do not move a request."""
    core = core_of(FifoPolicy())
    core.submit(request("first", "slow@1", priority=0, cost_bound_ns=10**9), 0)
    core.submit(request("second", "m@1", priority=9), 0)
    core.submit(request("third", "other@2", priority=9, deadline_ns=50), 1)
    core.submit(request("fourth", "m@1", priority=0), 1)
    assert [ids(launched(core, now_ns=2))[0] for _ in range(4)] == ["first", "second", "third", "fourth"]


def test_higher_priority_goes_first_and_equal_priority_in_order_of_arrival() -> None:
    """L4-07, L4-11: 9 is the most urgent."""
    core = core_of(PriorityPolicy())
    for name, priority in (("low", 0), ("default", 5), ("high", 9), ("second", 5)):
        core.submit(request(name, priority=priority), 0)
    assert [ids(launched(core))[0] for _ in range(4)] == ["high", "default", "second", "low"]


def test_a_low_priority_waits_as_long_as_higher_ones_keep_arriving() -> None:
    """L4-07: the declared behaviour."""
    assert PriorityPolicy.starves
    core = core_of(PriorityPolicy())
    core.submit(request("low", priority=0), 0)
    for n in range(500):
        core.submit(request(f"high{n}", priority=1), n)
        launch = launched(core, now_ns=n)
        assert ids(launch) == [f"high{n}"]
        end(core, launch)
    assert ids(launched(core, now_ns=500)) == ["low"]


def test_earlier_deadlines_go_first_and_none_goes_last() -> None:
    """L4-66."""
    core = core_of(EarliestDeadlineFirstPolicy())
    for name, deadline_ns in (("none", None), ("late", 900), ("soon", 300), ("none too", None)):
        core.submit(request(name, deadline_ns=deadline_ns), 0)
    assert [ids(launched(core))[0] for _ in range(4)] == ["soon", "late", "none", "none too"]


def test_priority_decides_among_those_without_a_deadline_and_no_other() -> None:
    """L4-66: it breaks no tie between deadlines, where the admission tests count on the order of arrival."""
    core = core_of(EarliestDeadlineFirstPolicy())
    for name, priority, deadline_ns in (
        ("low", 1, None), ("high", 9, None), ("soon, low", 0, 300), ("soon, high", 9, 300),
        ("high too", 9, None),
    ):  # fmt: skip
        core.submit(request(name, priority=priority, deadline_ns=deadline_ns), 0)
    order = [ids(launched(core))[0] for _ in range(5)]
    assert order == ["soon, low", "soon, high", "high", "high too", "low"]


@pytest.mark.parametrize("field", ["deadline_ns", "start_by_ns"])
def test_a_request_that_expired_in_the_queue_never_runs_and_is_given_once(field: str) -> None:
    """L4-66."""
    core = core_of()
    core.submit(request("gone", **{field: 100}), 0)
    core.submit(request("stays"), 0)
    assert core.next_expiry_ns == 100
    assert core.expire(99) == ()
    assert ids(launched(core, now_ns=100)) == ["stays"], "select looks at the time by itself"
    assert core.next_expiry_ns == 0
    assert [r.id for r in core.expire(100)] == ["gone"]
    assert core.expire(101) == ()
    assert core.next_expiry_ns is None


def test_requests_of_one_key_share_a_launch_up_to_its_units() -> None:
    core = core_of(capacity=20)
    for n in range(6):
        core.submit(request(f"r{n}", batch=terms()), 0)
    launch = launched(core)
    assert ids(launch) == ["r0", "r1", "r2", "r3"]
    assert launch.reason is SelectionReason.FILLED
    rest = launched(core)
    assert ids(rest) == ["r4", "r5"]
    assert rest.reason is SelectionReason.DUE


def test_the_first_that_does_not_fit_ends_the_launch_so_nobody_overtakes() -> None:
    core = core_of()
    for name, units in (("a", 2), ("large", 3), ("c", 1)):
        core.submit(request(name, batch=terms(units)), 0)
    assert ids(launched(core)) == ["a"]
    assert ids(launched(core)) == ["large", "c"]


def test_another_key_graph_or_binding_never_shares_a_launch() -> None:
    core = core_of()
    core.submit(request("a", batch=terms()), 0)
    core.submit(request("key", batch=replace(terms(), key="other")), 0)
    core.submit(request("graph", graph="n@1", batch=terms()), 0)
    core.submit(request("bound", stream=0, batch=terms()), 0)
    core.submit(request("alone"), 0)
    assert [ids(launched(core)) for _ in range(5)] == [["a"], ["key"], ["graph"], ["bound"], ["alone"]]


def test_an_unfilled_launch_is_held_until_its_oldest_request_is_due() -> None:
    records: list[Record] = []
    core = core_of(records=records)
    core.submit(request("a", batch=terms(delay_ns=100)), 10)
    core.submit(request("b", batch=terms(delay_ns=100)), 50)
    assert core.select(0, 60) == Hold(until_ns=110)
    assert core.select(1, 70) == Hold(until_ns=110)
    assert sum(isinstance(r, Held) for r in records) == 1, "told once"
    assert ids(launched(core, now_ns=110)) == ["a", "b"]


def test_a_held_launch_goes_at_once_when_it_is_filled() -> None:
    core = core_of()
    core.submit(request("a", batch=terms(3, delay_ns=100)), 0)
    assert isinstance(core.select(0, 1), Hold)
    core.submit(request("b", batch=terms(1, delay_ns=100)), 2)
    assert ids(launched(core, now_ns=2)) == ["a", "b"]


def test_others_run_while_a_launch_is_held() -> None:
    core = core_of()
    core.submit(request("a", batch=terms(delay_ns=100)), 0)
    core.submit(request("b", graph="n@1"), 0)
    assert ids(launched(core, now_ns=1)) == ["b"]
    assert core.select(0, 2) == Hold(until_ns=100)


def test_nobody_is_held_for_more_than_half_of_its_slack() -> None:
    core = core_of()
    core.submit(request("a", deadline_ns=50, cost_bound_ns=10, batch=terms(delay_ns=1000)), 0)
    assert core.select(0, 1) == Hold(until_ns=20)
    core.submit(request("b", start_by_ns=12, batch=terms(delay_ns=1000)), 2)
    assert core.select(0, 3) == Hold(until_ns=7)
    core.cancel("b", 4)
    assert core.select(0, 5) == Hold(until_ns=20)
    assert ids(launched(core, now_ns=20)) == ["a"]


def test_a_request_bound_to_a_stream_runs_only_there() -> None:
    core = core_of()
    core.submit(request("a", stream=1), 0)
    assert core.select(0, 0) is None
    assert ids(launched(core, stream=1)) == ["a"]


def test_a_graph_without_a_free_instance_is_passed_over() -> None:
    records: list[Record] = []
    core = core_of(records=records)
    core.submit(request("a"), 0)
    core.submit(request("b", graph="n@1"), 0)
    assert ids(launched(core, busy={"m@1"})) == ["b"]
    assert core.select(0, 0, busy={"m@1"}) is None
    chosen = [r for r in records if isinstance(r, Selection)]
    assert chosen[0].busy == ("m@1",)


def test_only_what_goes_before_the_running_launch_interrupts_it() -> None:
    core = core_of(PriorityPolicy())
    core.submit(request("running", priority=5), 0)
    running = launched(core)
    core.submit(request("same", priority=5, batch=terms()), 1)
    assert core.select(0, 1, above=running.key) is None
    core.submit(request("urgent", priority=8, batch=terms()), 2)
    assert ids(launched(core, now_ns=2, above=running.key)) == ["urgent"], "nobody rides along"
    assert core.select(0, 3, above=running.key) is None


def test_a_hold_is_no_answer_at_a_segment_boundary() -> None:
    core = core_of(PriorityPolicy())
    core.submit(request("running", priority=1), 0)
    running = launched(core)
    core.submit(request("held", priority=9, batch=terms(delay_ns=100)), 1)
    assert core.select(0, 2, above=running.key) is None


def test_the_same_calls_give_the_same_streams_and_launches() -> None:
    """L4-16."""

    def run() -> list[tuple[int, int, list[str]]]:
        core = core_of(PriorityPolicy(), capacity=100, streams=3)
        seen = []
        for n in range(60):
            core.submit(request(f"r{n}", priority=n * 7 % 10, stream=(None, 0, 2)[n % 3]), n)
        for n in range(90):
            answer = core.select(n % 3, 100 + n)
            if isinstance(answer, Launch):
                seen.append((answer.number, answer.stream, ids(answer)))
        assert core.depth == 0
        return seen

    assert run() == run()


def test_a_cancelled_request_leaves_the_queue_and_a_running_one_stays_in_its_launch() -> None:
    core = core_of()
    core.submit(request("a"), 0)
    core.submit(request("b"), 0)
    cancelled = core.cancel("b", 1)
    assert cancelled is not None
    assert cancelled.id == "b"
    launch = launched(core)
    assert core.cancel("a", 2) is None
    assert core.cancel("stranger", 2) is None
    core.finish(launch.number, 3, {RequestId("a"): "cancelled"})
    assert core.depth == 0


def test_a_launch_ends_once_and_with_the_outcomes_of_its_own_requests() -> None:
    core = core_of()
    core.submit(request("a"), 0)
    launch = launched(core)
    for outcomes in ({}, {RequestId("b"): "ok"}, {RequestId("a"): "ok", RequestId("b"): "ok"}):
        with pytest.raises(OutcomesIncomplete):
            core.finish(launch.number, 1, outcomes)
    end(core, launch)
    for call in (
        lambda: end(core, launch),
        lambda: core.launched(launch.number, 1),
        lambda: core.boundary(7, 1, 1),
    ):
        with pytest.raises(LaunchUnknown):
            call()


def test_numbers_of_arrivals_and_launches_are_never_given_twice() -> None:
    records: list[Record] = []
    core = core_of(records=records)
    for n in range(2000):
        core.submit(request(f"r{n}"), n)
        end(core, launched(core, now_ns=n))
    assert core.arrivals == core.launches == 2000


def test_the_state_digest_depends_on_content_and_not_on_order() -> None:
    first, second = core_of(PriorityPolicy()), core_of(PriorityPolicy())
    empty = first.state_digest
    for core in (first, second):
        core.submit(request("a"), 0)
        core.submit(request("b"), 0)
    assert first.state_digest == second.state_digest != empty
    first.cancel("a", 1)
    assert first.state_digest != second.state_digest


def test_a_snapshot_goes_only_into_a_fresh_core_of_the_same_policy() -> None:
    core = core_of()
    core.submit(request("a", batch=terms()), 0)
    state = core.snapshot()
    fresh = core_of()
    fresh.restore(state)
    assert fresh.snapshot() == state
    for refusing in (fresh, core_of(PriorityPolicy())):
        with pytest.raises(SnapshotRefused):
            refusing.restore(state)
    for damage in ({}, state | {"queued": 5}, state | {"running": [[0, [], [1], "no reason", 0]]}):
        with pytest.raises(SnapshotRefused):
            core_of().restore(damage)


def test_an_unknown_policy_is_refused_with_the_names() -> None:
    with pytest.raises(PolicyUnknown) as refused:
        open_policy("nope")
    for name in ("fifo", "priority", "fair", "edf", "rate_monotonic"):
        assert name in policy_names()
        assert name in refused.value.message
        assert open_policy(name).name == name


@pytest.mark.parametrize("name", ["no.such.module:X", "json:NoSuch", "json:JSONDecoder", ":", "a:"])
def test_something_that_is_no_policy_is_refused(name: str) -> None:
    with pytest.raises(PolicyUnusable):
        open_policy(name)
