"""Compiled models behind the engine: segments, memory, and what is not waited for (L3-02, L3-07, L4-21)."""

from __future__ import annotations

import gc
import time
import weakref
from unittest import mock

import numpy as np
import pytest

from plumbline.compiler.build import BuildOptions, compile_graph
from plumbline.compiler.importers.onnx import ImportOptions, import_onnx
from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceCall, InferenceResult, VersionRef
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.lanes import LanePool
from plumbline.engine.memory import MemoryBudgetRefused
from plumbline.engine.model import InputRefused, Model
from plumbline.engine.outcomes import RequestCancelled
from plumbline.engine.scheduler import Scheduler
from plumbline.engine.sessions.model import ModelSession, SegmentBoundsRefused
from plumbline.execution.artifact import read_manifest
from plumbline.execution.code import SharedLibrary
from plumbline.hardware.cpu import CpuDevice, CpuStream
from plumbline.scheduling.policies.priority import PriorityPolicy
from plumbline.telemetry.points import KernelLaunch
from plumbline.telemetry.sinks import MemorySink
from plumbline.testing.bits import assert_same_bits, compile_network, random_perceptron
from plumbline.testing.models import widest_target
from plumbline.testing.sessions import HANG_S, EchoSession, Outcomes, echo_call

REF = VersionRef(model="network", version="1")
URGENT = VersionRef(model="urgent", version="1")


@pytest.fixture
def network():
    return random_perceptron(2, batch=4, is_batched=True)


@pytest.fixture
def model(network, tmp_path):
    return compile_network(network, tmp_path / "network")


@pytest.fixture
def scheduler():
    made = engine()
    yield made
    made.close()


def engine(**more):
    return Scheduler(policy=PriorityPolicy(), streams=LanePool(), clock=MonotonicClock(), **more)


def call(network, name, rows=(0,), **more):
    return InferenceCall(id=RequestId(name), model="network", inputs=network.select(rows), **more)


def segmented(network, folder):
    """The network in as many segments as the compiler makes of it, without contexts."""
    folder.mkdir()
    graph = import_onnx(network.model, ImportOptions(symbols={"batch": network.rows}))
    compile_graph(graph, BuildOptions(target=widest_target(), max_segment_ns=1), folder)
    weights = np.memmap(folder / "weights.bin", np.uint8, "r")
    library = SharedLibrary(folder / "code.so")
    return Model(read_manifest(folder), weights, library, CpuDevice(), contexts=0, folder=folder)


def test_the_plan_before_load_is_what_the_version_takes_and_each_instance_counts(model, scheduler):
    """L3-07: the budget is held against the same number, before an instance is opened."""
    session = ModelSession(REF, model, VersionSettings(instances=3))
    before, plan = model.contexts, model.plan
    expected = plan.weights_bytes + plan.state_bytes + (before + 3) * plan.peak_bytes
    assert session.metadata.memory_bytes == expected
    small = engine(budget_bytes=expected - 1)
    with pytest.raises(MemoryBudgetRefused, match=str(expected)):
        small.load(REF, session, instances=3)
    assert model.contexts == before
    scheduler.load(REF, session, instances=3)
    assert model.contexts == before + 3
    assert scheduler.status().memory_bytes == expected


def test_nothing_of_a_model_is_alive_after_unloading(network, tmp_path, scheduler):
    """L3-02."""
    model = compile_network(network, tmp_path / "gone")
    kept = weakref.ref(model)
    scheduler.load(REF, ModelSession(REF, model, VersionSettings()))
    del model
    scheduler.start()
    told = Outcomes()
    scheduler.submit(REF, call(network, "a"), told)
    assert isinstance(told.wait()[0], InferenceResult)
    assert kept() is not None
    scheduler.unload(REF)
    until = time.monotonic() + HANG_S
    while kept() is not None:  # the loop leaves the call in which it said that the last request was answered
        assert time.monotonic() < until
        time.sleep(0.001)
        gc.collect()
    assert scheduler.status().memory_bytes == 0


def test_inputs_are_checked_on_submission(network, model, scheduler):
    scheduler.load(REF, ModelSession(REF, model, VersionSettings()))
    scheduler.start()
    wrong = {name: array[:, :1] for name, array in network.select([0]).items()}
    with pytest.raises(InputRefused):
        scheduler.submit(REF, InferenceCall(id=RequestId("a"), model="n", inputs=wrong), Outcomes())


def test_a_model_whose_rows_are_not_proved_runs_each_request_alone_and_says_why(tmp_path, scheduler):
    """L4-62: a fixed batch has no symbol to batch along."""
    fixed = random_perceptron(2, batch=2, is_batched=False)
    model = compile_network(fixed, tmp_path / "fixed")
    alone = model.run(fixed.select([0, 1]))
    session = ModelSession(REF, model, VersionSettings(max_delay_ns=5_000_000))
    assert session.metadata.max_rows == 0
    assert session.metadata.unbatched_because
    scheduler.load(REF, session)
    scheduler.start()
    told = Outcomes()
    for number in range(5):
        scheduler.submit(REF, call(fixed, str(number), rows=(0, 1)), told)
    for outcome in told.wait(5):
        assert outcome.timing.batched == 1
        assert_same_bits(outcome.outputs, alone, outcome.id)


def test_between_segments_of_a_model_others_run_and_it_can_be_cancelled(network, tmp_path):
    """The bits do not change when another launch comes in between."""
    sink = MemorySink()
    scheduler = engine(sink=sink)
    model = segmented(network, tmp_path / "segments")
    assert len(model.manifest.segments) >= 2
    scheduler.load(REF, ModelSession(REF, model, VersionSettings()))
    scheduler.load(URGENT, EchoSession(URGENT))
    told = Outcomes()
    context = scheduler._versions[REF].stages[0].instances[0]._context
    calm = tuple(context.segment_runs)

    def submit_urgent():
        calm[0]()
        if not any(isinstance(o, InferenceResult) and o.id == "urgent" for o in told.all):
            scheduler.submit(URGENT, echo_call("urgent", URGENT, priority=9), told)

    context._runs = (submit_urgent, *calm[1:])
    scheduler.start()
    scheduler.submit(REF, call(network, "a", rows=(1, 2), priority=1), told)
    first, second = told.wait(2)
    assert (first.id, second.id) == ("urgent", "a")
    launches = [point.request_id for point in sink.points if isinstance(point, KernelLaunch)]
    assert launches == ["a", "urgent"]
    context._runs = calm
    scheduler.submit(REF, call(network, "again", rows=(1, 2)), told)
    assert_same_bits(told.wait(3)[2].outputs, second.outputs, "with and without interruption")

    def cancel():
        calm[0]()
        scheduler.cancel("gone")

    context._runs = (cancel, *calm[1:])
    scheduler.submit(REF, call(network, "gone"), told)
    assert isinstance(told.wait(4)[3], RequestCancelled)
    scheduler.close()


def test_a_request_waits_for_no_stream_event_or_device(network, model, scheduler):
    """L4-21: the declared number of host-device synchronisations of a request on one stream is 0."""
    scheduler.load(REF, ModelSession(REF, model, VersionSettings()))
    scheduler.start()
    told = Outcomes()
    names = ("synchronize", "quiesce", "wait")
    with mock.patch.multiple(CpuStream, **dict.fromkeys(names, mock.DEFAULT)) as waits:
        for number in range(20):
            scheduler.submit(REF, call(network, str(number), rows=(number % 4,)), told)
        told.wait(20)
        assert [waits[name].call_count for name in names] == [0, 0, 0]


def test_bounds_of_another_number_of_segments_are_refused(model):
    with pytest.raises(SegmentBoundsRefused, match="bound 7"):
        ModelSession(REF, model, VersionSettings(segment_bounds_ns=(5,) * 7))
    admitted = ModelSession(REF, model, VersionSettings(segment_bounds_ns=(5,))).admit(
        {name: array[:1] for name, array in ModelSession(REF, model, VersionSettings()).example().items()},
        {}, "local",
    )  # fmt: skip
    assert (admitted.cost_bound_ns, admitted.segment_bounds_ns) == (5, (5,))


def test_the_example_fills_the_bounds_and_runs(network, model):
    session = ModelSession(REF, model, VersionSettings())
    admitted = session.admit(session.example(), {}, "local")
    assert admitted.batch.units == admitted.batch.max_units == network.rows
    (outputs,) = session.open_instance().run([admitted], lambda segment: True)
    assert all(np.isfinite(array).all() for array in outputs.values())
    session.close()


def test_a_model_without_contexts_refuses_to_run_instead_of_waiting_for_one() -> None:
    """X-30: nobody would ever give one back."""
    import plumbline
    from plumbline.engine.model import ModelWithoutContexts
    from plumbline.product.demo_models.networks import ECHO_WIDTH, write_echo

    with plumbline.load(write_echo(), symbols={"rows": 2}) as model:
        bare = type(model)(model.manifest, model._weights, model._library, model._device, contexts=0)
        with bare, pytest.raises(ModelWithoutContexts):
            bare.run({"x": np.zeros((1, ECHO_WIDTH), np.float32)})
