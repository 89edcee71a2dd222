"""Random loads on a real engine in virtual time: whatever it promises, it keeps (L4-65, U2)."""

from __future__ import annotations

import random
import threading
import time

import pytest

from plumbline.contracts.clock import FakeClock
from plumbline.contracts.inference import InferenceResult, VersionRef
from plumbline.contracts.records import Breach, Promise, Refusal
from plumbline.engine.lanes import LanePool
from plumbline.engine.scheduler import Scheduler
from plumbline.scheduling.admission.tasks import PeriodicTask
from plumbline.scheduling.policies.earliest_deadline_first import EarliestDeadlineFirstPolicy
from plumbline.scheduling.policies.rate_monotonic import RateMonotonicPolicy
from plumbline.testing.sessions import HANG_S, EchoSession, Outcomes, echo_call

LONGEST_NS = 40


class VirtualSession(EchoSession):
    """Segments that take virtual time: at most their bound. What arrives meanwhile arrives meanwhile."""

    def __init__(self, ref, load, segment_ns, max_rows):
        super().__init__(ref, segment_ns=segment_ns, max_rows=max_rows, max_delay_ns=7)
        self.load, self.bounds = load, segment_ns

    def segment(self, index):
        self.load.pass_time(self.load.rng.randint(self.bounds[index] // 2, self.bounds[index]))


class Load:
    """Arrivals in virtual time. The clock moves only inside segments, and over idle times."""

    def __init__(self, seed, policy):
        self.rng, self.clock, self.records, self.told = random.Random(seed), FakeClock(1000), [], Outcomes()
        self.scheduler = Scheduler(
            policy=policy, streams=LanePool(), clock=self.clock, record=self.records.append,
            best_effort_segment_ns=LONGEST_NS, capacity=10_000, debug=True,
        )  # fmt: skip
        self.refs, self.arrivals, self.sent = [], [], 0
        for number in range(3):
            ref = VersionRef(model=f"m{number}", version="1")
            pieces = self.rng.choice([1, 1, 2, 4])
            segments_ns = tuple(self.rng.randint(2, LONGEST_NS // pieces) for _ in range(pieces))
            instances, max_rows = self.rng.choice([1, 2, 5]), self.rng.choice([0, 3])
            session = VirtualSession(ref, self, segments_ns, max_rows)
            self.scheduler.load(ref, session, instances=instances)
            self.refs.append((ref, segments_ns))

    def plan(self, jobs):
        moment = 1001
        for number in range(jobs):
            moment += self.rng.choice([0, 1, 3, 10, 60, 200])
            ref, segments_ns = self.rng.choice(self.refs)
            kind = self.rng.random()
            if kind < 0.5:
                deadline = moment + sum(segments_ns) + self.rng.randint(0, 300)
                more = {"deadline_ns": deadline}
            elif kind < 0.75:
                more = {"deadline_ns": moment + 5000, "parameters": {"promise": False}}
            else:
                more = {"task": True}
            self.arrivals.append((moment, f"j{number}", ref, more))

    def register(self):
        self.tasks = {}
        for ref, segments_ns in self.refs:
            period = self.rng.randint(100, 600)
            task = PeriodicTask(
                name=f"t-{ref.model}", graph=str(ref), period_ns=period, segments_ns=segments_ns,
                deadline_ns=self.rng.randint(period // 2, period * 2),
            )  # fmt: skip
            if self.scheduler.register_task(task).accepted:
                self.tasks[ref] = task.name

    def pass_time(self, duration_ns):
        end_ns = self.clock.now_ns() + duration_ns
        while self.arrivals and self.arrivals[0][0] <= end_ns:
            self.clock.advance(max(self.arrivals[0][0] - self.clock.now_ns(), 0))
            self.submit_first()
        self.clock.advance(end_ns - self.clock.now_ns())

    def submit_first(self):
        _, name, ref, more = self.arrivals.pop(0)
        if more.pop("task", False):
            more["parameters"] = {"task": self.tasks[ref]} if ref in self.tasks else {}
        self.scheduler.submit(ref, echo_call(name, ref, **more), self.told)
        self.sent += 1

    def run(self):
        """Idle times are jumped over: when everything that was sent is answered, the next arrival comes."""
        while self.arrivals:
            self.clock.advance(max(self.arrivals[0][0] - self.clock.now_ns(), 0))
            self.submit_first()
            self.settle()

    def settle(self):
        until = time.monotonic() + HANG_S
        while time.monotonic() < until:
            sent = self.sent
            try:
                self.told.wait(sent, 0.002)
            except TimeoutError:
                self.scheduler._intake.post(self.advance_if_at_rest, self.scheduler._loop)
                continue
            if self.sent == sent:
                return
        raise TimeoutError("the engine does not come to rest")

    def advance_if_at_rest(self, loop):
        """On the orchestration thread: time passes while something waits for company, and for nothing else.

        A thread that the machine lets wait takes no virtual time.
        """
        if loop._until_ns is not None and not loop.running:
            self.clock.advance(1)


def run_load(seed, policy, jobs):
    load = Load(seed, policy)
    load.scheduler.start()
    load.register()
    load.plan(jobs)
    load.run()
    load.scheduler.stop(drain=True, timeout_s=HANG_S)
    load.scheduler.close()
    return load


@pytest.mark.parametrize("policy", [EarliestDeadlineFirstPolicy, RateMonotonicPolicy])
@pytest.mark.parametrize("seed", range(8))
def test_no_promise_is_broken_while_segments_keep_their_bounds(seed, policy):
    before = set(threading.enumerate())
    load = run_load(seed, policy(), jobs=120)
    breaches = [record for record in load.records if isinstance(record, Breach)]
    assert breaches == []
    promised = {record.request: record for record in load.records if isinstance(record, Promise)}
    assert len(promised) > 10
    assert any(isinstance(record, Refusal) for record in load.records)
    for outcome in load.told.all:
        if isinstance(outcome, InferenceResult) and outcome.id in promised:
            took_ns = outcome.timing.finished_ns - outcome.timing.queued_ns
            assert took_ns <= promised[outcome.id].bound_ns, outcome.id
    answered = {getattr(outcome, "id", None) for outcome in load.told.all}
    assert set(promised) <= answered
    assert not [t for t in threading.enumerate() if t not in before and t.name.startswith("plumbline")]
