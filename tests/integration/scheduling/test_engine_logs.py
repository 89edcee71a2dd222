"""What a real engine records replays, explains every request and can be simulated (L4-17, L4-18, L4-24)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceResult, VersionRef
from plumbline.contracts.records import Boundary, Selection
from plumbline.engine.lanes import LanePool
from plumbline.engine.outcomes import DeadlineMissed
from plumbline.engine.scheduler import Scheduler
from plumbline.scheduling.comparison import simulate
from plumbline.scheduling.explanation import explain
from plumbline.scheduling.explanation_text import explanation_lines
from plumbline.scheduling.policies.registry import open_policy
from plumbline.scheduling.recorded_load import recorded_load
from plumbline.scheduling.replay import replay
from plumbline.telemetry.decision_log import DecisionLog
from plumbline.telemetry.decision_log_reader import read_log
from plumbline.testing.sessions import EchoSession, Outcomes, SlowSession, echo_call

ECHO, SLOW = VersionRef(model="echo", version="1"), VersionRef(model="slow", version="1")
COUNT = 150


def run_engine(folder: Path, policy: str, lanes: int) -> list[InferenceResult]:
    """150 calls of two versions, some cancelled, some with deadlines that may pass; what was answered."""
    journal = DecisionLog(folder, "engine", segment_bytes=8192)
    scheduler = Scheduler(
        policy=open_policy(policy), streams=LanePool(lanes), clock=MonotonicClock(), journal=journal
    )
    outcomes, random_ = Outcomes(), random.Random(1)
    scheduler.load(ECHO, EchoSession(ECHO, max_rows=4, max_delay_ns=300_000))
    scheduler.load(SLOW, SlowSession(SLOW, segments=3, segment_s=0.0002, max_rows=0))
    scheduler.start()
    now_ns, refused = MonotonicClock().now_ns(), 0
    for number in range(COUNT):
        ref = SLOW if random_.random() < 0.3 else ECHO
        late = now_ns + 20_000_000 if random_.random() < 0.2 else None
        call = echo_call(
            f"call-{number}",
            ref,
            priority=random_.randrange(10),
            tenant=f"tenant-{number % 3}",
            deadline_ns=None if late is None else max(late, MonotonicClock().now_ns() + 1_000_000),
        )
        try:
            scheduler.submit(ref, call, outcomes)
        except DeadlineMissed:  # its millisecond was over before it was accepted
            refused += 1
            continue
        if random_.random() < 0.1:
            scheduler.cancel(f"call-{random_.randrange(number + 1)}")
    done = outcomes.wait(COUNT - refused)
    scheduler.stop(drain=True, timeout_s=60.0)
    scheduler.close()
    journal.close()
    assert len(done) == COUNT - refused
    return [result for result in done if isinstance(result, InferenceResult)]


@pytest.mark.parametrize(("policy", "lanes"), [("fifo", 1), ("priority", 1), ("fair", 2), ("edf", 2)])
def test_the_log_of_an_engine_replays_and_explains_every_request(
    policy: str, lanes: int, tmp_path: Path
) -> None:
    answered = run_engine(tmp_path, policy, lanes)
    assert len(answered) > COUNT // 2
    log = read_log(tmp_path, "engine")
    result = replay(log.bodies)
    assert result.digest == log.digest
    assert result.core is not None
    assert (result.core.depth, result.core.running) == (0, {})
    records = log.records()
    assert any(isinstance(r, Boundary) for r in records)
    assert any(isinstance(r, Selection) and len(r.requests) > 1 for r in records)
    for answer in answered[::10]:
        explanation = explain(log.bodies, answer.id)
        assert explanation_lines(explanation)[-1].endswith("finished: ok")
        (passage,) = explanation.passages
        assert passage.arrived is not None
        assert passage.selection is not None
        assert passage.selection["launch"] == answer.timing.launch
        assert passage.selection["stream"] == answer.timing.stream
        assert len(passage.selection["requests"]) == answer.timing.batched
    load = recorded_load(records)
    assert len(load.streams) <= lanes
    simulated = simulate(load, open_policy("fifo"))
    assert simulated.requests <= COUNT
    assert simulated.finished > COUNT // 2
