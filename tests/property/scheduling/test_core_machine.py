"""Whatever is called in any order: nobody is lost, everybody ends once, replay equals the run (L4-17)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from plumbline.contracts.records import Record, Snapshot, decode_record, encode_record
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.launch import Hold, Launch
from plumbline.scheduling.policies.registry import open_policy, policy_names
from plumbline.scheduling.refusals import QueueFull
from plumbline.scheduling.replay import replay
from plumbline.scheduling.request import BatchTerms, ExecutionRequest

GRAPHS = st.sampled_from(["a@1", "b@1"])
BUSY = st.sets(GRAPHS)
later = st.none() | st.integers(min_value=1, max_value=200)


class CoreMachine(RuleBasedStateMachine):
    """Owns a core and a plain model of it: who is queued, who runs, how often each ended."""

    CAPACITY, STREAMS = 6, 2

    @initialize(policy=st.sampled_from(policy_names()))
    def begin(self, policy: str) -> None:
        self.bodies: list[bytes] = []
        self.core = DecisionCore(
            policy=open_policy(policy),
            capacity=self.CAPACITY,
            streams=self.STREAMS,
            record=self.record,
        )
        self.now_ns = 0
        self.count = 0
        self.queued: dict[str, ExecutionRequest] = {}
        self.running: dict[int, Launch] = {}
        self.ended: Counter[str] = Counter()
        self.snapshot()

    def record(self, record: Record) -> None:
        """A segment may end after any record: its snapshot must be what the records say until then."""
        self.bodies.append(encode_record(record))
        self.snapshot()

    @rule()
    def snapshot(self) -> None:
        self.bodies.append(encode_record(Snapshot(self.now_ns, self.core.snapshot())))

    @rule(step=st.integers(min_value=1, max_value=60))
    def wait(self, step: int) -> None:
        self.now_ns += step

    @rule(
        graph=GRAPHS,
        tenant=st.sampled_from(["x", "y"]),
        priority=st.integers(min_value=0, max_value=9),
        deadline=later,
        start_by=later,
        cost=st.integers(min_value=0, max_value=50),
        period=st.none() | st.integers(min_value=1, max_value=99),
        stream=st.none() | st.integers(min_value=0, max_value=1),
        units=st.none() | st.integers(min_value=0, max_value=4),
        delay=st.sampled_from([0, 0, 30]),
    )
    def submit(
        self,
        graph: str,
        deadline: int | None,
        start_by: int | None,
        units: int | None,
        delay: int,
        **more: Any,
    ) -> None:
        batch = None
        if units is not None:
            batch = BatchTerms(key=graph, units=units, max_units=4, max_requests=3, max_delay_ns=delay)
        request = ExecutionRequest(
            id=RequestId(f"r{self.count}"),
            graph=graph,
            tenant=TenantId(more["tenant"]),
            priority=more["priority"],
            arrived_ns=self.now_ns,
            deadline_ns=None if deadline is None else self.now_ns + deadline,
            start_by_ns=None if start_by is None else self.now_ns + start_by,
            cost_bound_ns=more["cost"],
            period_ns=more["period"],
            stream=more["stream"],
            batch=batch,
        )
        self.count += 1
        try:
            self.core.submit(request, self.now_ns)
        except QueueFull:
            assert len(self.queued) == self.CAPACITY
        else:
            self.queued[request.id] = request

    @rule(stream=st.integers(min_value=0, max_value=1), busy=BUSY, nested=st.booleans())
    def select(self, stream: int, busy: set[str], nested: bool) -> None:
        on_stream = [launch for launch in self.running.values() if launch.stream == stream]
        above = on_stream[-1].key if nested and on_stream else None
        answer = self.core.select(stream, self.now_ns, busy=busy, above=above)
        self.fetch_expired()
        if isinstance(answer, Hold):
            assert answer.until_ns > self.now_ns
            assert above is None
        if not isinstance(answer, Launch):
            return
        assert answer.stream == stream
        assert above is None or answer.key < above
        first = answer.requests[0]
        assert first.graph not in busy
        assert len(answer.requests) <= (first.batch.max_requests if first.batch else 1)
        assert first.batch is None or sum(r.batch.units for r in answer.requests if r.batch) <= 4
        for request in answer.requests:
            assert self.queued.pop(request.id) == request
            assert request.graph == first.graph
            assert request.stream in (None, stream)
            assert request.start_by_ns is None or request.start_by_ns > self.now_ns
            assert request.deadline_ns is None or request.deadline_ns > self.now_ns
        self.running[answer.number] = answer
        self.core.launched(answer.number, self.now_ns)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["ok", "failed", "cancelled"]))
    def finish(self, data: st.DataObject, outcome: str) -> None:
        launch = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        self.core.boundary(launch.number, 1, self.now_ns)
        self.core.finish(launch.number, self.now_ns, {r.id: outcome for r in launch.requests})
        self.ended.update(r.id for r in launch.requests)

    @precondition(lambda self: self.count)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = f"r{data.draw(st.integers(min_value=0, max_value=self.count))}"
        found = self.core.cancel(name, self.now_ns)
        assert (found is not None) == (name in self.queued)
        if found is not None:
            del self.queued[name]
            self.ended[name] += 1

    @rule()
    def fetch_expired(self) -> None:
        for request in self.core.expire(self.now_ns):
            del self.queued[request.id]
            self.ended[request.id] += 1

    @invariant()
    def nobody_is_lost_or_ends_twice(self) -> None:
        if not hasattr(self, "core"):
            return
        assert self.core.depth == len(self.queued)
        assert set(self.core.running) == set(self.running)
        assert all(count == 1 for count in self.ended.values())

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        self.drain()
        starts = [n for n, body in enumerate(self.bodies) if isinstance(decode_record(body), Snapshot)]
        for start in {0, *starts[:: max(1, len(starts) // 8)]}:
            result = replay(self.bodies[start:])
            assert result.core is not None
            assert result.core.state_digest == self.core.state_digest
            assert result.core.snapshot() == self.core.snapshot()

    def drain(self) -> None:
        for _ in range(3 * self.CAPACITY):
            self.now_ns += 40
            for stream in range(self.STREAMS):
                self.select(stream=stream, busy=set(), nested=False)
            for launch in list(self.running.values()):
                self.core.finish(launch.number, self.now_ns, {r.id: "ok" for r in launch.requests})
                self.ended.update(r.id for r in launch.requests)
            self.running.clear()
        assert self.core.depth == 0
        assert not self.queued


CoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestCore = CoreMachine.TestCase
