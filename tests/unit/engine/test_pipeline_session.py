"""Pipelines: wires, and two requests in different stages at once (L4-63)."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from plumbline.contracts.inference import InferenceCall, InferenceResult, VersionRef
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.model import InputRefused
from plumbline.engine.outcomes import QueueFull, RequestCancelled
from plumbline.engine.sessions.pipeline import PipelineRefused, PipelineSession, PipelineStage
from plumbline.engine.sessions.python import ClassFailed, PythonSession
from plumbline.telemetry.points import KernelLaunch
from plumbline.telemetry.sinks import MemorySink
from plumbline.testing.sessions import HANG_S, EchoSession, Outcomes, SlowSession, echo_call

SETTINGS = VersionSettings()


class Split:
    """Text into numbers: one for each letter."""

    inputs = {"text": ("BYTES", (-1,))}  # noqa: RUF012
    outputs = {"numbers": ("FP32", (-1, 4))}  # noqa: RUF012

    def run(self, inputs, parameters):
        return {"numbers": np.stack([np.frombuffer(t, np.uint8)[:4] for t in inputs["text"]]).astype("f4")}


class Pool:
    inputs = {"vectors": ("FP32", (-1, 4)), "text": ("BYTES", (-1,))}  # noqa: RUF012
    outputs = {"pooled": ("FP32", (-1,)), "echoed": ("BYTES", (-1,))}  # noqa: RUF012

    def run(self, inputs, parameters):
        return {"pooled": inputs["vectors"].mean(axis=1), "echoed": inputs["text"]}


def stage(name, cls, **wires):
    session = PythonSession(VersionRef(model=name, version="1"), cls, SETTINGS)
    return PipelineStage(session=session, **wires)


def text_pipeline(ref, middle=None):
    middle = middle or EchoSession(VersionRef(model="middle", version="1"))
    return PipelineSession(
        ref,
        [
            stage("split", Split),
            PipelineStage(session=middle, inputs={"x": "numbers"}, outputs={"y": "vectors"}),
            stage("pool", Pool),
        ],
    )


def text_call(name, *texts, **more):
    inputs = {"text": np.array(texts, object)}
    return InferenceCall(id=RequestId(name), model="pipeline", inputs=inputs, **more)


def test_text_goes_through_three_stages_and_tensors_are_found_by_name(engine, ref):
    scheduler = engine()
    session = text_pipeline(ref)
    assert [s.name for s in session.metadata.inputs] == ["text"]
    assert [s.name for s in session.metadata.outputs] == ["pooled", "echoed"]
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, text_call("r", b"abcd", b"zzzz"), told)
    (result,) = told.wait()
    assert isinstance(result, InferenceResult)
    assert result.outputs["pooled"].tolist() == [98.5, 122.0]
    assert result.outputs["echoed"].tolist() == [b"abcd", b"zzzz"]


def test_a_pipeline_of_one_stage_gives_its_own_names(engine, ref):
    """L4-63: also the last stage of a pipeline is the first."""
    scheduler = engine()
    only = PipelineStage(
        session=EchoSession(VersionRef(model="only", version="1")), inputs={"x": "in"}, outputs={"y": "out"}
    )
    scheduler.load(ref, PipelineSession(ref, [only]))
    scheduler.start()
    told = Outcomes()
    call = echo_call("r", ref, value=3)
    scheduler.submit(ref, replace(call, inputs={"in": call.inputs["x"]}), told)
    (result,) = told.wait()
    assert isinstance(result, InferenceResult)
    assert result.outputs["out"].tolist() == [[3.0] * 4]


class Wide(Pool):
    inputs = {"vectors": ("FP32", (-1, 5)), "text": ("BYTES", (-1,))}  # noqa: RUF012


def test_stages_whose_shapes_cannot_meet_are_refused_with_pipeline_stage_and_both_shapes(ref):
    """L4-63: found at load, not by the first request."""
    stages = [stage("split", Split, outputs={"numbers": "vectors"}), stage("pool", Wide)]
    with pytest.raises(PipelineRefused, match="it wants 'vectors' as FP32") as refused:
        PipelineSession(ref, stages)
    assert (refused.value.version, refused.value.stage) == (str(ref), 1)
    assert "(-1, 5)" in refused.value.reason
    assert "(-1, 4)" in refused.value.reason


class Open(Split):
    outputs = {"numbers": ("FP32", (-1, -1))}  # noqa: RUF012


def test_a_stage_that_makes_what_the_next_one_does_not_take_is_named(engine, ref):
    """Where the extent is known only when the stage has run."""
    scheduler = engine()
    stages = [stage("split", Open, outputs={"numbers": "vectors"}), stage("pool", Wide)]
    scheduler.load(ref, PipelineSession(ref, stages))
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, text_call("r", b"abcd"), told)
    (refused,) = told.wait()
    assert isinstance(refused, InputRefused)
    assert refused.model == f"{ref}, stage 1 (pool@1)"
    assert refused.reason == "shape (1, 4), expected (-1, 5)"


class Overlap(EchoSession):
    """Each stage waits until the other one is inside too, once: only two at the same time can get out."""

    def __init__(self, ref, meeting):
        super().__init__(ref, max_rows=0)
        self.meeting, self.seen = meeting, 0

    def segment(self, index):
        self.seen += 1
        if self.seen == (2 if self.metadata.ref.model == "first" else 1):
            self.meeting.wait(HANG_S)


def test_two_requests_are_in_different_stages_at_once(engine, ref):
    """L4-63: with two streams the second request is in stage one while the first is in stage two."""
    meeting, sink = threading.Barrier(2), MemorySink()
    first, second = (Overlap(VersionRef(model=name, version="1"), meeting) for name in ("first", "second"))
    stages = [
        PipelineStage(session=first, outputs={"y": "between"}),
        PipelineStage(session=second, inputs={"x": "between"}),
    ]
    scheduler = engine(lanes=2, sink=sink)
    scheduler.load(ref, PipelineSession(ref, stages))
    scheduler.start()
    told = Outcomes()
    for number in range(2):
        scheduler.submit(ref, echo_call(f"r{number}", ref, value=number), told)
    outcomes = {o.id: o for o in told.wait(2)}
    for number in range(2):
        assert outcomes[f"r{number}"].outputs["y"].tolist() == [[float(number)] * 4]
    launches = [(p.operator, p.request_id) for p in sink.points if isinstance(p, KernelLaunch)]
    assert sorted(launches[1:3]) == [("echo@1/0", "r1"), ("echo@1/1", "r0")]
    assert launches[3] == ("echo@1/1", "r1")


def test_a_stage_that_fails_is_the_outcome_and_the_place_in_the_queue_is_free_again(engine, ref):
    class Broken(Split):
        def run(self, inputs, parameters):
            raise ValueError("no")

    second = stage("second", Split, outputs={"numbers": "again"})
    session = PipelineSession(ref, [stage("split", Broken), second])
    scheduler = engine(capacity=1)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    for number in range(5):
        scheduler.submit(ref, text_call(f"r{number}", b"abcd"), told)
        assert isinstance(told.wait(number + 1)[-1], ClassFailed)
    assert scheduler.status().queued == 0


def test_requests_between_two_stages_still_count_against_the_bound(engine, ref):
    second = SlowSession(VersionRef(model="second", version="1"), gated=True, max_rows=0)
    scheduler = engine(lanes=2, capacity=2)
    scheduler.load(ref, text_pipeline(ref, second))
    scheduler.start()
    told = Outcomes()
    accepted, refused = 0, 0
    while refused < 50:
        try:
            scheduler.submit(ref, text_call(f"r{accepted}", b"abcd"), told)
            accepted += 1
        except QueueFull:
            refused += 1
            threading.Event().wait(0.001)
    assert accepted == 2
    assert scheduler.cancel("r1")
    second.gate.set()
    outcomes = told.wait(2)
    assert {type(o) for o in outcomes} <= {InferenceResult, RequestCancelled}


def test_a_pipeline_loaded_and_unloaded_closes_every_stage_once(engine, ref):
    middle = EchoSession(VersionRef(model="middle", version="1"))
    scheduler = engine()
    scheduler.load(ref, text_pipeline(ref, middle), instances=2)
    scheduler.unload(ref)
    assert (middle.opened, middle.closed_instances, middle.closed) == (2, 2, 1)


def test_inputs_of_a_pipeline_are_checked(ref):
    session = text_pipeline(ref)
    with pytest.raises(InputRefused, match="missing"):
        session.admit({}, {}, "local")
    with pytest.raises(InputRefused, match="unknown"):
        session.admit({"text": np.array([b"a"], object), "numbers": np.ones(1)}, {}, "local")


def test_a_wrong_input_of_a_pipeline_is_refused_at_submission(engine, ref):
    """X-27: by name, not as a fault of its first stage."""
    scheduler = engine()
    scheduler.load(ref, text_pipeline(ref))
    call = InferenceCall(id=RequestId("wrong"), model="pipeline", inputs={"txt": np.array([b"a"], object)})
    with pytest.raises(InputRefused, match="txt"):
        scheduler.submit(ref, call, lambda completion: None)


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ([], "no stages"),
        ([("split", Split, {}), ("again", Split, {})], "there already"),
        ([("split", Split, {}), ("pool", Pool, {"inputs": {"vectors": "text"}})], "BYTES"),
        ([("split", Split, {"inputs": {"words": "text"}})], "no tensor 'words'"),
        ([("free", type("Free", (), {"run": lambda self, inputs, parameters: {}}), {})], "declare"),
    ],
)
def test_stages_that_do_not_fit_are_refused(ref, stages, reason):
    with pytest.raises(PipelineRefused, match=reason):
        PipelineSession(ref, [stage(name, cls, **wires) for name, cls, wires in stages])


def test_an_output_that_nobody_makes_is_refused(ref):
    with pytest.raises(PipelineRefused, match="pooled"):
        PipelineSession(ref, [stage("split", Split)], outputs=["pooled"])


def test_a_pipeline_in_a_pipeline_is_refused(ref):
    with pytest.raises(PipelineRefused, match="cannot be a pipeline"):
        PipelineSession(ref, [PipelineStage(session=text_pipeline(ref))])


def test_a_pipeline_adds_up_what_its_stages_state_and_names_those_that_do_not(ref):
    class Sized(Pool):
        memory_bytes = 50

    middle = EchoSession(VersionRef(model="middle", version="1"), memory_bytes=1024)
    stages = [
        stage("split", Split),
        PipelineStage(session=middle, inputs={"x": "numbers"}, outputs={"y": "vectors"}),
        stage("pool", Sized),
    ]
    metadata = PipelineSession(ref, stages).metadata
    assert metadata.memory_unstated == ("stage0.objects",)
    assert dict(metadata.memory) == {"stage1.arenas": 1024, "stage2.objects": 50}
    assert metadata.stated_memory_bytes == metadata.memory_bytes == 1074
    assert PipelineSession(ref, [stage("split", Split)]).metadata.stated_memory_bytes is None
