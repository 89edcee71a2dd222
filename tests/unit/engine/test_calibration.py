"""Cost bounds from measured runs (L4-65, U2): coverage, margin, held-out runs, load, failures."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.engine.calibration import (
    CalibrationFailed,
    CalibrationOptions,
    CalibrationTermsRefused,
    bound_from_samples,
    calibrate,
    runs_needed,
    tolerance_rank,
)
from plumbline.engine.sessions.pipeline import PipelineSession, PipelineStage
from plumbline.testing.sessions import HANG_S, EchoSession, FailingSession, SlowSession

REF = VersionRef(model="echo", version="1")
FEW = CalibrationOptions(runs=60, held_out=20, coverage=0.9, confidence=0.95, loaders=1)


def test_the_bound_covers_its_share_as_often_as_it_says() -> None:
    """Over many calibrations of a heavy-tailed time, the true quantile is below the bound in 95 %."""
    rng = np.random.default_rng(1)
    options = CalibrationOptions(runs=300, held_out=1, coverage=0.98, confidence=0.95, margin=0)
    true = 1_000_000 / (1 - 0.98) ** 0.5
    covered = 0
    for _ in range(600):
        samples = (1_000_000 / rng.random((300, 1)) ** 0.5).astype(np.int64)
        covered += bound_from_samples(samples, samples[:1], options).segment_bounds_ns[0] >= true
    assert covered >= 600 * 0.93
    assert tolerance_rank(300, 0.98, 0.95) < 300, "it is an order statistic, not just the largest"


def test_too_few_runs_are_refused_with_the_number_that_is_needed() -> None:
    assert runs_needed(0.999, 0.95) == 2995
    with pytest.raises(CalibrationTermsRefused, match="2995 are needed"):
        CalibrationOptions(runs=2994)


@pytest.mark.parametrize(
    "terms", [{"coverage": 1.0}, {"confidence": 0}, {"margin": -1}, {"runs": 0}, {"held_out": 0}]
)
def test_terms_that_make_no_sense_are_refused(terms) -> None:
    with pytest.raises(CalibrationTermsRefused):
        CalibrationOptions(**terms)


def test_held_out_runs_above_the_bound_are_counted_and_said() -> None:
    samples = np.full((100, 2), 1000, np.int64)
    held_out = np.array([[1000, 1000], [1300, 1000], [1000, 9000]], np.int64)
    options = CalibrationOptions(runs=100, held_out=3, coverage=0.9, margin=0.2)
    bound = bound_from_samples(samples, held_out, options)
    assert bound.segment_bounds_ns == (1201, 1201)
    assert bound.cost_bound_ns == 2402
    assert bound.held_out_exceedances == 2
    assert "Of 3 held-out runs 2 exceeded a bound" in bound.condition
    assert bound.worst_ns == (1300, 9000)


def test_each_segment_is_measured_and_the_document_says_what_it_holds_under() -> None:
    session = SlowSession(REF, segments=3, segment_s=0.001)
    bound = calibrate(session, FEW)
    assert len(bound.segment_bounds_ns) == 3
    assert all(median >= 1_000_000 for median in bound.median_ns)
    assert bound.cost_bound_ns == sum(bound.segment_bounds_ns)
    document = json.loads(json.dumps(bound.document()))
    assert document["schema_version"] == 1
    assert "Measured, not proved" in document["condition"]
    assert "1 launch of other work" in document["condition"]


def test_other_work_runs_meanwhile_and_has_ended_afterwards() -> None:
    before = set(threading.enumerate())
    load = SlowSession(REF, segment_s=0.0005)
    moved = threading.Event()

    class Measured(EchoSession):
        """Its launches wait until the load has been launched once more since the first of them."""

        def segment(self, index: int) -> None:
            began = len(load.order)
            limit_s = time.monotonic() + HANG_S
            while not moved.is_set() and len(load.order) == began and time.monotonic() < limit_s:
                time.sleep(0.0005)
            moved.set()

    calibrate(Measured(REF), FEW, load=load)
    assert load.opened == 1
    assert len(load.order) > 1
    assert not [t for t in threading.enumerate() if t not in before and t.name.startswith("plumbline")]


def test_a_launch_that_fails_ends_the_calibration_with_its_reason() -> None:
    for each in (False, True):
        session = FailingSession(REF, lambda: ValueError("broken"), each=each)
        with pytest.raises(CalibrationFailed, match="ValueError: broken"):
            calibrate(session, CalibrationOptions(runs=60, held_out=20, coverage=0.9, loaders=0))
        with pytest.raises(CalibrationFailed, match="load"):
            calibrate(EchoSession(REF), FEW, load=session)


def test_every_stage_of_a_pipeline_is_measured_as_one_piece_with_what_leads_to_the_next() -> None:
    """A stage of two segments counts once; admitting the next stage counts with the stage before."""

    class LateToAdmit(SlowSession):
        def admit(self, inputs, parameters, tenant):
            time.sleep(0.002)
            return super().admit(inputs, parameters, tenant)

    stages = [
        PipelineStage(session=SlowSession(REF, segments=2, segment_s=0.001), outputs={"y": "middle"}),
        PipelineStage(session=LateToAdmit(REF), inputs={"x": "middle"}, outputs={"y": "end"}),
    ]
    for loaders in (0, 1):
        terms = {"runs": 30, "held_out": 5, "coverage": 0.9, "loaders": loaders}
        bound = calibrate(PipelineSession(REF, stages), CalibrationOptions(**terms))
        assert len(bound.segment_bounds_ns) == 2
        assert bound.median_ns[0] >= 4_000_000
    assert [stage.session.opened for stage in stages] == [3, 3]
    assert [stage.session.closed_instances for stage in stages] == [3, 3]


def test_a_class_is_not_measured_alone_or_in_a_pipeline() -> None:
    code = EchoSession(REF, kind=VersionKind.PYTHON)
    for session in (code, PipelineSession(REF, [PipelineStage(session=code)])):
        with pytest.raises(CalibrationTermsRefused, match="is a Python class"):
            calibrate(session, FEW)
    assert code.opened == 0
