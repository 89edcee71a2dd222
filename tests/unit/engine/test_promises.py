"""Promises of the engine: given or refused before anything runs; a breach is recorded (L4-65)."""

import time
from dataclasses import replace

import pytest

from plumbline.contracts.clock import FakeClock
from plumbline.contracts.inference import InferenceResult, VersionRef
from plumbline.contracts.records import Arrival, Breach, Promise, Refusal, Selection
from plumbline.engine.outcomes import VersionNotLoaded
from plumbline.engine.promises import PromiseImpossible
from plumbline.errors import Recoverability
from plumbline.scheduling.admission.orders import PolicyWithoutGuarantee
from plumbline.scheduling.admission.tasks import PeriodicTask
from plumbline.scheduling.admission.verdict import AdmissionInfeasible, AdmissionRefused
from plumbline.scheduling.policies.earliest_deadline_first import EarliestDeadlineFirstPolicy
from plumbline.scheduling.policies.fifo import FifoPolicy
from plumbline.scheduling.policies.priority import PriorityPolicy
from plumbline.testing.sessions import HANG_S, Outcomes, SlowSession, echo_call

OTHER = VersionRef(model="other", version="1")
NOW_NS = 1_000_000


class Setting:
    """An engine with one threaded lane in virtual time."""

    def __init__(self, engine):
        self.clock, self.records, self.told = FakeClock(NOW_NS), [], Outcomes()
        self.scheduler = engine(
            inline=False, clock=self.clock, policy=EarliestDeadlineFirstPolicy(),
            record=self.records.append, best_effort_segment_ns=100,
        )  # fmt: skip

    def load(self, ref, segments_ns, instances=1, gated=False):
        session = SlowSession(ref, segments=len(segments_ns), segment_ns=segments_ns, gated=gated, max_rows=0)
        self.scheduler.load(ref, session, instances=instances)
        return session

    def submit(self, name, ref, deadline=None, **parameters):
        due_ns = None if deadline is None else NOW_NS + deadline
        call = echo_call(name, ref, deadline_ns=due_ns, parameters=parameters)
        self.scheduler.submit(ref, call, self.told)

    def of(self, kind):
        return [record for record in self.records if isinstance(record, kind)]

    def wait_for(self, kind, count=1):
        limit_s = time.monotonic() + HANG_S
        while len(self.of(kind)) < count:
            assert time.monotonic() < limit_s, f"{len(self.of(kind))} of {count} {kind.__name__}"
            time.sleep(0.001)


@pytest.fixture
def setting(engine):
    return Setting(engine)


def test_what_cannot_end_in_time_even_alone_is_refused_before_it_runs(setting, ref):
    session = setting.load(ref, (50,))
    setting.scheduler.start()
    setting.submit("late", ref, deadline=49)
    (error,) = setting.told.wait()
    assert isinstance(error, AdmissionInfeasible)
    assert error.recoverability is Recoverability.PERMANENT
    assert session.launches == []
    (refusal,) = setting.of(Refusal)
    assert refusal.request.id == "late"
    assert setting.of(Arrival) == []


def test_a_promise_is_recorded_and_kept(setting, ref):
    setting.load(ref, (50,))
    setting.scheduler.start()
    setting.submit("a", ref, deadline=200)
    assert isinstance(setting.told.wait()[0], InferenceResult)
    (promise,) = setting.of(Promise)
    assert (promise.request, promise.bound_ns) == ("a", 200)
    assert promise.fields == {"exact": True, "expected_end_ns": NOW_NS + 50}
    assert setting.of(Breach) == []
    assert setting.scheduler.status().breaches == 0


def test_one_that_would_break_an_earlier_promise_is_refused_and_may_come_again(setting, ref):
    session = setting.load(ref, (50,), gated=True)
    setting.scheduler.start()
    setting.submit("running", ref, deadline=60)
    assert session.entered.wait(HANG_S)
    setting.submit("tight", ref, deadline=99)
    (error,) = setting.told.wait()
    assert isinstance(error, AdmissionRefused)
    assert error.retry_after_s > 0
    assert error.refusal["counterexample"] is not None
    setting.submit("fits", ref, deadline=100)
    setting.wait_for(Promise, 2)
    session.gate.set()
    assert [o.id for o in setting.told.wait(3)[1:]] == ["running", "fits"]


def test_best_effort_runs_only_when_no_promised_job_waits(setting, ref):
    """Its own deadline, however early, does not put it before a promise."""
    session = setting.load(ref, (50,), gated=True)
    setting.scheduler.start()
    setting.submit("running", ref, deadline=1000)
    assert session.entered.wait(HANG_S)
    setting.submit("early", ref, deadline=500, promise=False)
    setting.submit("none", ref)
    setting.submit("promised", ref, deadline=900)
    setting.wait_for(Arrival, 4)
    session.gate.set()
    assert [o.id for o in setting.told.wait(4)] == ["running", "promised", "early", "none"]


def test_a_promise_that_is_not_kept_is_answered_late_and_recorded_with_its_cause(setting, ref):
    session = setting.load(ref, (50,), gated=True)
    setting.scheduler.start()
    setting.submit("a", ref, deadline=60)
    assert session.entered.wait(HANG_S)
    setting.clock.advance(75)
    session.gate.set()
    assert isinstance(setting.told.wait()[0], InferenceResult)
    (breach,) = setting.of(Breach)
    assert (breach.request, breach.late_ns, breach.cause) == ("a", 15, "overrun")
    assert "took 75 ns" in breach.fields["causes"][0]
    assert setting.scheduler.status().breaches == 1


def test_a_promised_job_that_expires_in_the_queue_is_a_breach_too(setting, ref):
    session = setting.load(ref, (50,), gated=True)
    setting.scheduler.start()
    setting.submit("a", ref, deadline=60)
    assert session.entered.wait(HANG_S)
    setting.submit("b", ref, deadline=120)
    setting.wait_for(Promise, 2)
    setting.clock.advance(500)
    setting.wait_for(Breach, 1)
    session.gate.set()
    assert len(setting.told.wait(2)) == 2
    assert sorted(b.request for b in setting.of(Breach)) == ["a", "b"]


def test_a_cancelled_job_gives_its_promise_back(setting, ref):
    session = setting.load(ref, (50,), gated=True)
    setting.scheduler.start()
    setting.submit("a", ref, deadline=60)
    assert session.entered.wait(HANG_S)
    setting.submit("b", ref, deadline=100)
    setting.submit("c", ref, deadline=110)
    assert isinstance(setting.told.wait()[0], AdmissionRefused)
    assert setting.scheduler.cancel("b")
    setting.told.wait(2)
    setting.submit("d", ref, deadline=110)
    setting.wait_for(Promise, 3)
    session.gate.set()
    assert [getattr(o, "id", None) for o in setting.told.wait(4)[2:]] == ["a", "d"]


def test_jobs_of_a_registered_task_are_promised_and_come_no_faster_than_said(setting, ref):
    setting.load(ref, (50,))
    setting.scheduler.start()
    task = PeriodicTask(name="camera", graph=str(ref), period_ns=1000, deadline_ns=400, segments_ns=(50,))
    assert setting.scheduler.register_task(task).accepted
    greedy = PeriodicTask(name="greedy", graph=str(ref), period_ns=100, deadline_ns=100, segments_ns=(99,))
    assert not setting.scheduler.register_task(greedy).accepted
    setting.submit("a", ref, task="camera")
    assert isinstance(setting.told.wait()[0], InferenceResult)
    setting.submit("b", ref, task="camera")
    assert isinstance(setting.told.wait(2)[1], AdmissionRefused)
    setting.clock.advance(1000)
    setting.submit("c", ref, task="camera")
    assert isinstance(setting.told.wait(3)[2], InferenceResult)
    assert [p.request for p in setting.of(Promise)] == ["a", "c"]
    arrivals = {a.request.id: a.request for a in setting.of(Arrival)}
    assert (arrivals["a"].task, arrivals["a"].deadline_ns) == ("camera", NOW_NS + 400)
    setting.scheduler.remove_task("camera")
    setting.submit("d", ref, task="camera")
    assert isinstance(setting.told.wait(4)[3], PromiseImpossible)


def test_a_task_goes_with_its_version(setting, ref):
    setting.load(ref, (50,))
    setting.scheduler.start()
    task = PeriodicTask(name="camera", graph=str(ref), period_ns=1000, deadline_ns=400, segments_ns=(50,))
    setting.scheduler.register_task(task)
    setting.scheduler.unload(ref)
    with pytest.raises(PromiseImpossible):
        setting.scheduler.remove_task("camera")
    with pytest.raises(VersionNotLoaded):
        setting.scheduler.register_task(task)


@pytest.mark.parametrize(("instances", "order"), [(3, ["long", "short", "long"]), (1, ["long", "short"])])
def test_a_task_is_interrupted_between_segments_where_there_are_instances_enough(
    setting, ref, instances, order
):
    """With one instance the job is one piece, and the admission test says so."""
    session = setting.load(ref, (50, 50), instances=instances, gated=True)
    setting.load(OTHER, (10,))
    setting.scheduler.start()
    task = PeriodicTask(
        name="long", graph=str(ref), period_ns=10_000, deadline_ns=9_000, segments_ns=(50, 50)
    )
    assert setting.scheduler.register_task(task).accepted
    setting.submit("long", ref, task="long")
    assert session.entered.wait(HANG_S)
    setting.submit("hasty", OTHER, deadline=100)
    setting.submit("short", OTHER, deadline=115)
    setting.wait_for(Promise, 3 if instances == 3 else 2)
    session.gate.set()
    outcomes = setting.told.wait(3)
    hasty = next(o for o in outcomes if getattr(o, "id", getattr(o, "subject", "")) == "hasty")
    assert isinstance(hasty, InferenceResult) is (instances == 3)
    ends = [o.id for o in outcomes if isinstance(o, InferenceResult)]
    assert ends == (["hasty", "short", "long"] if instances == 3 else ["long", "short"])
    assert any(r.above is not None for r in setting.of(Selection)) is (instances == 3)


def test_a_promise_asked_for_by_name_that_cannot_be_given_is_refused(setting, ref):
    session = setting.load(ref, (50,))
    setting.load(OTHER, ())
    setting.scheduler.start()
    setting.submit("no deadline", ref, promise=True)
    setting.submit("not calibrated", OTHER, deadline=1000, promise=True)
    assert all(isinstance(o, PromiseImpossible) for o in setting.told.wait(2))
    assert session.launches == []


def test_best_effort_launches_longer_than_their_bound_exclude_promises_without_more_instances(engine, ref):
    setting = Setting(engine)
    setting.load(ref, (70, 70))
    setting.scheduler.start()
    setting.submit("a", ref, deadline=10_000, promise=True)
    (error,) = setting.told.wait()
    assert isinstance(error, PromiseImpossible)
    assert "two instances more" in error.message


@pytest.mark.parametrize("policy", [FifoPolicy(), PriorityPolicy()])
def test_a_policy_that_cannot_put_promised_work_first_makes_no_promises(engine, policy):
    with pytest.raises(PolicyWithoutGuarantee):
        engine(policy=policy, best_effort_segment_ns=100)


def test_an_engine_without_promises_says_so(engine, ref):
    scheduler = engine()
    scheduler.start()
    task = PeriodicTask(name="t", graph=str(ref), period_ns=1000, deadline_ns=400, segments_ns=(50,))
    with pytest.raises(PromiseImpossible, match="makes no promises"):
        scheduler.register_task(task)
    scheduler.load(ref, SlowSession(ref))
    with pytest.raises(PromiseImpossible, match="makes no promises"):
        scheduler.submit(ref, replace(echo_call("r", ref), parameters={"promise": True}), Outcomes())
