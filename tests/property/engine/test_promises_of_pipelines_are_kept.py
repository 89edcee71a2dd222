"""Pipelines among models and tasks under random loads in virtual time: promises are kept (L4-65, U2)."""

from __future__ import annotations

import pytest
from tests.property.engine.test_promises_are_kept import LONGEST_NS, Load, VirtualSession

from plumbline.contracts.inference import InferenceResult, VersionRef
from plumbline.contracts.records import Breach, Promise, Refusal, Selection
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.sessions.pipeline import PipelineSession, PipelineStage
from plumbline.scheduling.admission.tasks import PeriodicTask
from plumbline.scheduling.policies.earliest_deadline_first import EarliestDeadlineFirstPolicy
from plumbline.testing.sessions import HANG_S

PIPELINE = VersionRef(model="line", version="1")


class PipelineLoad(Load):
    """The load of the other test, and a pipeline of one to four stages of one to three segments each."""

    def __init__(self, seed: int, policy: EarliestDeadlineFirstPolicy) -> None:
        super().__init__(seed, policy)
        stages, tensor, bounds = [], "x", []
        for number in range(self.rng.randint(2, 4)):
            pieces = self.rng.choice([1, 1, 3])
            segments_ns = tuple(self.rng.randint(2, LONGEST_NS // pieces) for _ in range(pieces))
            ref = VersionRef(model=f"stage{number}", version="1")
            session = VirtualSession(ref, self, segments_ns, self.rng.choice([0, 3]))
            made = f"t{number}"
            stages.append(PipelineStage(session=session, inputs={"x": tensor}, outputs={"y": made}))
            tensor = made
            bounds.append(sum(segments_ns))
        self.bounds = tuple(bounds)
        session = PipelineSession(PIPELINE, stages, settings=VersionSettings(segment_bounds_ns=self.bounds))
        self.scheduler.load(PIPELINE, session, instances=self.rng.choice([2, 3]))
        self.refs.append((PIPELINE, self.bounds))

    def plan(self, jobs: int) -> None:
        super().plan(jobs)
        self.arrivals = [(m, n, ref, self._as_pipeline(m, ref, more)) for m, n, ref, more in self.arrivals]

    def _as_pipeline(self, moment: int, ref: VersionRef, more: dict[str, object]) -> dict[str, object]:
        """Some of its requests come with a deadline that just fits, so that the bound is put to the proof."""
        if ref == PIPELINE and "deadline_ns" in more and self.rng.random() < 0.5:
            more = {**more, "deadline_ns": moment + sum(self.bounds) + self.rng.randint(0, LONGEST_NS)}
        return more


def run_load(seed: int, jobs: int) -> PipelineLoad:
    load = PipelineLoad(seed, EarliestDeadlineFirstPolicy())
    load.scheduler.start()
    load.register()
    load.plan(jobs)
    load.run()
    load.scheduler.stop(drain=True, timeout_s=HANG_S)
    load.scheduler.close()
    return load


def requests_of(load: PipelineLoad, kind: type) -> list[str]:
    return [str(record.request) for record in load.records if isinstance(record, kind)]


@pytest.mark.parametrize("seed", range(10))
def test_no_promise_is_broken_by_or_to_a_pipeline(seed: int) -> None:
    verify_load(seed)


@pytest.mark.slow
def test_no_promise_is_broken_in_a_campaign_of_loads_with_pipelines() -> None:
    for seed in range(1000, 1100):
        verify_load(seed)


def verify_load(seed: int) -> None:
    """Every promise of a load is kept, and some were made to the pipeline."""
    load = run_load(seed, jobs=150)
    assert [record for record in load.records if isinstance(record, Breach)] == []
    promised = {str(r.request): r for r in load.records if isinstance(r, Promise)}
    lines = {o.id for o in load.told.all if isinstance(o, InferenceResult) and o.served_by == PIPELINE}
    assert len(promised) > 10
    assert lines & set(promised), f"no pipeline was promised anything under seed {seed}"
    for outcome in load.told.all:
        if isinstance(outcome, InferenceResult) and outcome.id in promised:
            took_ns = outcome.timing.finished_ns - outcome.timing.queued_ns
            assert took_ns <= promised[outcome.id].bound_ns, outcome.id
    answered = {getattr(outcome, "id", None) for outcome in load.told.all}
    assert set(promised) <= answered


def test_promised_stages_run_alone_and_every_promised_request_passes_all_of_them() -> None:
    """Bounds of stages are those of one request, so company would break what they say."""
    load = run_load(3, jobs=200)
    promised = set(requests_of(load, Promise))
    launches = [r for r in load.records if isinstance(r, Selection)]
    done = {o.id for o in load.told.all if isinstance(o, InferenceResult) and o.served_by == PIPELINE}
    for name in done & promised:
        mine = [launch for launch in launches if name in launch.requests]
        assert len(mine) == len(load.bounds)
        assert all(launch.requests == (name,) for launch in mine)
    assert done & promised


def test_pipelines_that_ask_for_too_much_are_refused_with_what_must_be_done() -> None:
    refused = [
        record
        for seed in range(4)
        for record in run_load(seed, jobs=100).records
        if isinstance(record, Refusal) and record.request.graph == f"{PIPELINE}/0"
    ]
    late = [record for record in refused if record.reason == "demand"]
    assert late
    assert all(record.fields["bound_ns"] > record.fields["limit_ns"] for record in late)


def test_a_task_of_a_pipeline_states_a_bound_for_each_stage() -> None:
    load = PipelineLoad(1, EarliestDeadlineFirstPolicy())
    load.scheduler.start()
    task = PeriodicTask(
        name="line", graph=str(PIPELINE), period_ns=5000, deadline_ns=4000, segments_ns=load.bounds
    )
    assert load.scheduler.register_task(task).accepted
    load.scheduler.remove_task("line")
    load.scheduler.stop(drain=True, timeout_s=HANG_S)
    load.scheduler.close()
