"""The suite that every scheduling policy passes (L4-05, X-70). Inherit it and say how to make the policy:

    class TestMyPolicy(PolicyConformance):
        def make_policy(self) -> SchedulingPolicy:
            return MyPolicy()

Beyond the port a policy declares `starves` (may a request wait for ever while others keep arriving?) and
`starvation`, the same in plain words.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import replace
from itertools import pairwise

import msgspec

from plumbline.contracts.records import Record, Snapshot, encode_record
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.launch import Launch
from plumbline.scheduling.policy import Key, SchedulingPolicy
from plumbline.scheduling.replay import replay
from plumbline.scheduling.request import BatchTerms, ExecutionRequest

__all__ = ["PolicyConformance", "RecordedRun", "generated_requests", "recorded_run"]

MOST_OVERTAKERS = 500
"""A policy that does not starve selects the least favoured request after at most this many others."""


def generated_requests(count: int, seed: int = 0, tenants: int = 3) -> list[ExecutionRequest]:
    """Different priorities, deadlines, costs, periods, graphs, streams and batch terms; equal for a seed."""
    random_ = random.Random(seed)
    made, now_ns = [], 0
    for number in range(count):
        now_ns += random_.randrange(1, 2000)
        graph = f"model-{random_.randrange(3)}@1"
        made.append(
            ExecutionRequest(
                id=RequestId(f"request-{number}"),
                graph=graph,
                tenant=TenantId(f"tenant-{random_.randrange(tenants)}"),
                priority=random_.randrange(10),
                arrived_ns=now_ns,
                deadline_ns=now_ns + random_.randrange(5000, 500_000) if random_.random() < 0.5 else None,
                start_by_ns=now_ns + random_.randrange(5000, 100_000) if random_.random() < 0.3 else None,
                cost_bound_ns=random_.choice((0, 500, 2000)),
                period_ns=random_.choice((None, 10_000, 50_000)),
                stream=random_.choice((None, None, 0, 1)),
                batch=_terms(random_, graph) if random_.random() < 0.7 else None,
            )
        )
    return made


def _terms(random_: random.Random, graph: str) -> BatchTerms:
    delay_ns = random_.choice((0, 0, 3000))
    return BatchTerms(
        key=graph, units=random_.randrange(1, 4), max_units=6, max_requests=4, max_delay_ns=delay_ns
    )


class RecordedRun:
    """A run of a core in virtual time with its records. `ended` counts the ends of each request."""

    def __init__(self, policy: SchedulingPolicy, capacity: int = 64, streams: int = 2) -> None:
        self.bodies: list[bytes] = []
        self.core = DecisionCore(policy=policy, capacity=capacity, streams=streams, record=self._record)
        self.ended: dict[str, list[str]] = {}
        self.running: list[Launch] = []
        self.snapshot(0)

    def _record(self, record: Record) -> None:
        self.bodies.append(encode_record(record))

    def snapshot(self, now_ns: int) -> None:
        """Write a snapshot between two records, as a log does when a segment begins."""
        self.bodies.append(encode_record(Snapshot(now_ns, self.core.snapshot())))

    def select(self, stream: int, now_ns: int, busy: tuple[str, ...] = ()) -> Launch | None:
        """Select, and begin what was chosen."""
        answer = self.core.select(stream, now_ns, busy=busy)
        self.expire(now_ns)
        if not isinstance(answer, Launch):
            return None
        self.core.launched(answer.number, now_ns)
        self.running.append(answer)
        return answer

    def finish(self, now_ns: int) -> None:
        """End the launch that runs longest."""
        launch = self.running.pop(0)
        self.core.finish(launch.number, now_ns, {r.id: "ok" for r in launch.requests})
        for request in launch.requests:
            self.end(request.id, "ok")

    def expire(self, now_ns: int) -> None:
        """Fetch what expired."""
        for request in self.core.expire(now_ns):
            self.end(request.id, "expired")

    def end(self, request_id: str, how: str) -> None:
        """Note an end."""
        self.ended.setdefault(request_id, []).append(how)


def recorded_run(policy: SchedulingPolicy, requests: list[ExecutionRequest], seed: int = 0) -> RecordedRun:
    """Submit, select, cancel, finish in an order drawn from `seed`, until everything has ended."""
    run, random_ = RecordedRun(policy, capacity=len(requests) + 1), random.Random(seed)
    now_ns = 0
    for request in requests:
        now_ns = max(now_ns, request.arrived_ns)
        run.core.submit(request, now_ns)
        if random_.random() < 0.1:
            chosen = requests[random_.randrange(len(requests))].id
            if run.core.cancel(chosen, now_ns) is not None:
                run.end(chosen, "cancelled")
        if random_.random() < 0.6:
            run.select(random_.randrange(2), now_ns, ("model-1@1",) if random_.random() < 0.3 else ())
        if run.running and random_.random() < 0.5:
            run.finish(now_ns)
        if random_.random() < 0.05:
            run.snapshot(now_ns)
    while run.core.depth or run.running:
        now_ns += 1000
        for stream in range(2):
            run.select(stream, now_ns)
        while run.running:
            run.finish(now_ns)
    return run


class PolicyConformance(ABC):
    """What the queue, the log and replay rely on."""

    @abstractmethod
    def make_policy(self) -> SchedulingPolicy:
        """A fresh policy."""

    def test_keys_are_unique_and_end_with_the_arrival(self) -> None:
        """Two keys never tie, and fit into a record."""
        policy = self.make_policy()
        keys = [policy.enter(request, n) for n, request in enumerate(generated_requests(200))]
        assert [key[-1] for key in keys] == list(range(200))
        assert len(set(keys)) == 200
        assert all(type(part) is int and -(1 << 63) <= part < 1 << 63 for key in keys for part in key)

    def test_equal_calls_give_equal_keys(self) -> None:
        """A policy is deterministic."""
        assert self._keys(self.make_policy(), 0, 200) == self._keys(self.make_policy(), 0, 200)

    def test_a_restored_policy_goes_on_as_the_first_one(self) -> None:
        """`state` holds everything, as plain values."""
        first, second = self.make_policy(), self.make_policy()
        self._keys(first, 0, 100)
        second.restore(msgspec.json.decode(msgspec.json.encode(first.state())))
        assert second.state() == first.state()
        assert self._keys(second, 100, 200) == self._keys(first, 100, 200)

    def test_reasons_are_sentences_with_values(self) -> None:
        """People can read why."""
        policy = self.make_policy()
        requests = generated_requests(20)
        keys = [policy.enter(request, n) for n, request in enumerate(requests)]
        order = sorted(zip(keys, requests, strict=True), key=lambda pair: pair[0])
        assert policy.reason(order[0][1], order[0][0]).strip()
        for (winner, _), (loser, _) in pairwise(order):
            assert policy.compare(winner, loser).strip()

    def test_starvation_is_declared_and_as_declared(self) -> None:
        """Who says that nobody starves selects even the least favoured request within a bound."""
        policy = self.make_policy()
        starves, words = getattr(policy, "starves", None), getattr(policy, "starvation", "")
        assert isinstance(starves, bool), "declare `starves`"
        assert words.strip(), "say it in plain words: `starvation`"
        if not starves:
            for favoured in _favoured_streams():
                assert self._waits_behind(favoured) <= MOST_OVERTAKERS

    def test_nobody_is_lost_and_everybody_ends_once(self) -> None:
        """Each submitted request ends exactly once."""
        requests = generated_requests(300, seed=4)
        run = recorded_run(self.make_policy(), requests, seed=5)
        assert {i: len(ends) for i, ends in run.ended.items()} == {r.id: 1 for r in requests}

    def test_replay_gives_the_same_records_and_the_same_state(self) -> None:
        """Every decision comes out again, from the first record and from every snapshot."""
        run = recorded_run(self.make_policy(), generated_requests(300, seed=7), seed=8)
        starts = [n for n, body in enumerate(run.bodies) if b"snapshot" in body[:12]]
        for start in starts:
            result = replay(run.bodies[start:], policy=lambda _: self.make_policy())
            assert result.core is not None
            assert result.core.state_digest == run.core.state_digest
            assert result.core.snapshot() == run.core.snapshot()

    def _keys(self, policy: SchedulingPolicy, begin: int, end: int) -> list[Key]:
        """Keys of requests of which every second one leaves at once."""
        keys = []
        for number, request in enumerate(generated_requests(200)[begin:end], start=begin):
            key = policy.enter(request, number)
            keys.append(key)
            if number % 2:
                policy.leave(request, key, selected=number % 4 == 1)
        return keys

    def _waits_behind(self, favoured: ExecutionRequest) -> int:
        """How many favoured newcomers go before one request that nothing favours."""
        core = DecisionCore(policy=self.make_policy(), capacity=1000, streams=1)
        victim = ExecutionRequest(
            id=RequestId("victim"),
            graph="model@1",
            tenant=TenantId("patient"),
            priority=0,
            cost_bound_ns=2000,
        )
        core.submit(replace(favoured, id=RequestId("first")), 1)
        core.submit(victim, 1)
        for turn in range(MOST_OVERTAKERS + 1):
            core.submit(replace(favoured, id=RequestId(f"newcomer-{turn}")), 2 + turn)
            launch = core.select(0, 2 + turn)
            assert isinstance(launch, Launch)
            core.finish(launch.number, 2 + turn, {launch.requests[0].id: "ok"})
            if launch.requests[0].id == "victim":
                return turn
        return MOST_OVERTAKERS + 1


def _favoured_streams() -> list[ExecutionRequest]:
    """Newcomers that one rule or another might always put first."""
    plain = ExecutionRequest(
        id=RequestId("x"), graph="model@1", tenant=TenantId("pushing"), cost_bound_ns=1000
    )
    return [
        replace(plain, priority=9),
        replace(plain, deadline_ns=1_000_000),
        replace(plain, period_ns=10),
        replace(plain, cost_bound_ns=1),
    ]
