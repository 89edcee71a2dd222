"""Which pipelines and classes are promised anything, and what is said where none can be (L4-65)."""

import pytest

from plumbline.contracts.clock import FakeClock
from plumbline.contracts.inference import InferenceResult, VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.contracts.records import Breach, Promise, Selection
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.promises import PromiseImpossible
from plumbline.engine.sessions.pipeline import PipelineRefused, PipelineSession, PipelineStage
from plumbline.scheduling.admission.tasks import PeriodicTask
from plumbline.scheduling.admission.verdict import AdmissionInfeasible
from plumbline.scheduling.policies.earliest_deadline_first import EarliestDeadlineFirstPolicy
from plumbline.scheduling.policies.rate_monotonic import RateMonotonicPolicy
from plumbline.testing.sessions import HANG_S, Outcomes, SlowSession, echo_call

NOW_NS = 1_000_000
LINE = VersionRef(model="line", version="1")
OTHER = VersionRef(model="other", version="1")
BOUNDS = (50, 30)


class Setting:
    """An engine in virtual time with a pipeline of two stages; the first has two segments."""

    def __init__(
        self, engine, *, policy=None, kinds=(VersionKind.MODEL,) * 2, bounds=BOUNDS, instances=2, lanes=1
    ):
        self.records, self.told = [], Outcomes()
        self.clock = FakeClock(NOW_NS)
        self.scheduler = engine(
            inline=False, clock=self.clock, policy=policy or EarliestDeadlineFirstPolicy(), lanes=lanes,
            record=self.records.append, best_effort_segment_ns=100,
        )  # fmt: skip
        self.stages = [
            SlowSession(
                VersionRef(model=f"s{n}", version="1"), segments=2 - n, segment_ns=(), gated=n == 0,
                kind=kind, max_rows=8,
            )
            for n, kind in enumerate(kinds)
        ]  # fmt: skip
        wired = [
            PipelineStage(session=self.stages[0], outputs={"y": "middle"}),
            PipelineStage(session=self.stages[1], inputs={"x": "middle"}, outputs={"y": "end"}),
        ]
        settings = VersionSettings(segment_bounds_ns=bounds, cost_bound_ns=sum(bounds))
        self.scheduler.load(LINE, PipelineSession(LINE, wired, settings=settings), instances=instances)
        self.other = SlowSession(OTHER, segment_ns=(10,), max_rows=0)
        self.scheduler.load(OTHER, self.other)
        self.scheduler.start()

    def submit(self, name, ref=LINE, deadline=None, **parameters):
        due_ns = None if deadline is None else NOW_NS + deadline
        self.scheduler.submit(ref, echo_call(name, ref, deadline_ns=due_ns, parameters=parameters), self.told)

    def of(self, kind):
        return [record for record in self.records if isinstance(record, kind)]

    def open(self):
        self.stages[0].gate.set()


def refusal_of(setting, **parameters):
    setting.open()
    setting.submit("a", deadline=10_000, promise=True, **parameters)
    (error,) = setting.told.wait()
    assert isinstance(error, PromiseImpossible)
    return error.message


def test_a_calibrated_pipeline_is_promised_the_sum_of_its_stages(engine):
    setting = Setting(engine)
    setting.open()
    setting.submit("a", deadline=200)
    assert isinstance(setting.told.wait()[0], InferenceResult)
    (promise,) = setting.of(Promise)
    assert promise.fields == {"exact": True, "expected_end_ns": NOW_NS + 80}
    assert setting.of(Breach) == []


def test_a_pipeline_that_its_stages_together_make_late_is_refused_before_it_runs(engine):
    """Each stage alone would end in time."""
    setting = Setting(engine)
    setting.submit("a", deadline=79)
    assert isinstance(setting.told.wait()[0], AdmissionInfeasible)
    assert setting.stages[0].launches == []


def test_between_two_stages_a_promised_job_with_an_earlier_deadline_goes_first(engine):
    """And within a stage it does not, though the stage has two segments."""
    setting = Setting(engine)
    setting.submit("line", deadline=300)
    assert setting.stages[0].entered.wait(HANG_S)
    setting.submit("other", OTHER, deadline=200)
    setting.open()
    assert [o.id for o in setting.told.wait(2)] == ["other", "line"]
    assert [s.requests for s in setting.of(Selection)] == [("line",), ("other",), ("line",)]
    assert all(s.above is None for s in setting.of(Selection))
    assert setting.of(Breach) == []


def test_a_pipeline_that_keeps_a_stage_too_long_is_a_breach_with_its_cause(engine):
    setting = Setting(engine)
    setting.submit("a", deadline=90)
    assert setting.stages[0].entered.wait(HANG_S)
    setting.clock.advance(120)
    setting.open()
    setting.told.wait()
    (breach,) = setting.of(Breach)
    assert breach.cause == "overrun"
    assert "took 120 ns, its bound is 50" in breach.fields["causes"][0]


def test_best_effort_requests_of_a_pipeline_wait_for_promised_ones_at_every_stage(engine):
    setting = Setting(engine)
    setting.submit("plain")
    assert setting.stages[0].entered.wait(HANG_S)
    setting.submit("promised", deadline=1000)
    setting.open()
    assert [o.id for o in setting.told.wait(2)] == ["promised", "plain"]


def test_a_task_of_a_pipeline_is_named_by_its_version_and_bounds_each_stage(engine):
    setting = Setting(engine)
    setting.open()
    terms = {"name": "t", "graph": str(LINE), "period_ns": 1000, "deadline_ns": 400}
    with pytest.raises(PromiseImpossible, match="1 bounds are given, line@1 has 2 stages"):
        setting.scheduler.register_task(PeriodicTask(**terms, segments_ns=(80,)))
    assert setting.scheduler.register_task(PeriodicTask(**terms, segments_ns=BOUNDS)).accepted
    setting.submit("a", task="t")
    assert isinstance(setting.told.wait()[0], InferenceResult)
    assert [p.request for p in setting.of(Promise)] == ["a"]
    setting.scheduler.remove_task("t")
    setting.submit("b", task="t")
    assert isinstance(setting.told.wait(2)[1], PromiseImpossible)


# -- refusals ------------------------------------------------------------------------------------------------


def test_a_pipeline_with_a_class_in_it_says_which_stage_is_in_the_way(engine):
    setting = Setting(engine, kinds=(VersionKind.MODEL, VersionKind.PYTHON))
    assert "stage 1 of line@1 is a Python class" in refusal_of(setting)


def test_a_class_gets_no_promise_and_is_told_why(engine, ref):
    setting = Setting(engine)
    session = SlowSession(ref, segment_ns=(10,), kind=VersionKind.PYTHON)
    setting.scheduler.load(ref, session)
    setting.submit("a", ref, deadline=10_000, promise=True)
    (error,) = setting.told.wait()
    assert isinstance(error, PromiseImpossible)
    assert "echo@1 is a Python class" in error.message
    assert "no cost bound" in error.message
    assert session.launches == []


def test_without_being_asked_for_a_promise_they_are_served_as_well_as_possible(engine):
    setting = Setting(engine, kinds=(VersionKind.MODEL, VersionKind.PYTHON))
    setting.open()
    setting.submit("a", deadline=10_000)
    assert isinstance(setting.told.wait()[0], InferenceResult)
    assert setting.of(Promise) == []


def test_a_pipeline_that_is_not_calibrated_as_a_whole_gets_no_promise(engine):
    """Bounds of its stages alone do not count what leads from one to the next."""
    assert "line@1 no calibrated cost" in refusal_of(Setting(engine, bounds=()))


def test_a_pipeline_of_stages_with_one_instance_says_what_to_do(engine):
    message = refusal_of(Setting(engine, instances=1))
    assert "stage 0 of line@1 has one instance" in message
    assert "instances in version.toml" in message


def test_an_order_of_fixed_ranks_promises_nothing_to_a_pipeline(engine):
    message = refusal_of(Setting(engine, policy=RateMonotonicPolicy()))
    assert "arrive anew at each stage" in message
    assert "edf can promise" in message


def test_a_pipeline_bound_to_no_stream_among_several_gets_no_promise(engine):
    assert "line@1 is bound to no stream" in refusal_of(Setting(engine, lanes=2))


@pytest.mark.parametrize("settings", [{"segment_bounds_ns": (1, 2, 3)}, {"cost_bound_ns": 5}])
def test_bounds_of_other_stages_than_a_pipeline_has_are_refused_when_it_is_opened(settings):
    stages = [
        PipelineStage(session=SlowSession(OTHER), outputs={"y": "middle"}),
        PipelineStage(session=SlowSession(OTHER), inputs={"x": "middle"}),
    ]
    with pytest.raises(PipelineRefused, match="calibrate the pipeline again"):
        PipelineSession(LINE, stages, settings=VersionSettings(**settings))
