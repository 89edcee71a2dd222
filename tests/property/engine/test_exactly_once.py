"""Whatever is submitted, cancelled and stopped at once: one outcome for each request (L4-14, L4-20)."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceResult, VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.contracts.records import Arrival, Cancellation, Expiry, Finish, Selection
from plumbline.engine.lanes import LanePool
from plumbline.engine.scheduler import Scheduler
from plumbline.engine.sessions.pipeline import PipelineSession, PipelineStage
from plumbline.errors import PlumblineError
from plumbline.scheduling.policies.priority import PriorityPolicy
from plumbline.testing.sessions import EchoSession, FailingSession, SlowSession, echo_call

SUBMITTERS, EACH = 10, 60
MODELS = ("echo", "slow", "python", "pipeline", "failing")


class Counting:
    """One entry for each outcome, and which request it was for."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self.wrong: list[str] = []

    def of(self, name: str, value: float):
        def on_done(completion):
            self.told[name] += 1
            if isinstance(completion, InferenceResult):
                if completion.id != name or float(completion.outputs["y"][0, 0]) != value:
                    self.wrong.append(name)
            elif not isinstance(completion, PlumblineError):
                self.wrong.append(name)
            if value % 7 == 0:
                raise RuntimeError("callbacks may raise")

        return on_done


def sessions():
    def ref(name):
        return VersionRef(model=name, version="1")

    stages = [
        PipelineStage(session=EchoSession(ref("one")), outputs={"y": "z"}),
        PipelineStage(session=EchoSession(ref("two"), kind=VersionKind.PYTHON), inputs={"x": "z"}),
    ]
    return {
        ref("echo"): EchoSession(ref("echo"), max_rows=4, max_delay_ns=200_000),
        ref("slow"): SlowSession(ref("slow"), segments=3, segment_s=0.0005, max_rows=3),
        ref("python"): EchoSession(ref("python"), kind=VersionKind.PYTHON),
        ref("pipeline"): PipelineSession(ref("pipeline"), stages),
        ref("failing"): FailingSession(ref("failing"), lambda: ValueError("always")),
    }


def submit_many(scheduler, seed, counting, accepted):
    rng = random.Random(seed)
    for number in range(EACH):
        name, value = f"{seed}-{number}", float(rng.randrange(100))
        version = VersionRef(model=rng.choice(MODELS), version="1")
        more = {"priority": rng.randrange(10)}
        if rng.random() < 0.2:
            more["deadline_ns"] = time.monotonic_ns() + rng.randrange(1, 5_000_000)
        try:
            scheduler.submit(version, echo_call(name, version, value=value, **more), counting.of(name, value))
        except PlumblineError:
            continue
        accepted.append(name)
        if rng.random() < 0.3:
            scheduler.cancel(rng.choice(accepted))
        if rng.random() < 0.1:
            time.sleep(0.001)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("drain", [True, False])
def test_ten_threads_of_submits_cancels_and_a_stop_give_each_accepted_request_one_outcome(lanes, drain):
    records = []
    scheduler = Scheduler(
        policy=PriorityPolicy(), streams=LanePool(lanes), clock=MonotonicClock(), capacity=200,
        record=records.append, debug=True,
    )  # fmt: skip
    for version, session in sessions().items():
        scheduler.load(version, session, instances=2)
    counting = Counting()
    accepted: list[str] = []
    for life in range(2):
        scheduler.start()
        threads = [
            threading.Thread(target=submit_many, args=(scheduler, 100 * life + seed, counting, accepted))
            for seed in range(SUBMITTERS)
        ]
        for thread in threads:
            thread.start()
        enough = len(accepted) + 20
        while len(accepted) < enough and any(thread.is_alive() for thread in threads):
            time.sleep(0.001)
        scheduler.stop(drain=drain, timeout_s=60)
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert counting.wrong == []
    assert set(counting.told) == set(accepted)
    assert set(counting.told.values()) == {1}
    assert len(accepted) > 20
    status = scheduler.status()
    assert (status.queued, status.running) == (0, 0)
    assert scheduler.failed is None
    scheduler.close()
    verify_records(records)


def verify_records(records):
    """Every arrival left the queue in exactly one way, and every launch that was selected finished."""
    arrived = Counter(r.request.id for r in records if isinstance(r, Arrival))
    left = Counter(i for r in records if isinstance(r, Selection) for i in r.requests)
    left += Counter(r.request for r in records if isinstance(r, Expiry))
    left += Counter(r.request for r in records if isinstance(r, Cancellation) and r.launch is None)
    assert arrived == left
    launched = [r.launch for r in records if isinstance(r, Selection)]
    finished = [r.launch for r in records if isinstance(r, Finish)]
    assert sorted(launched) == sorted(finished)
