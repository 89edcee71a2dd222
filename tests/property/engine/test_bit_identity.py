"""A result has the bits that it would have alone, whatever it shared a launch with (U3, L4-62)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from plumbline.compiler.build import BuildOptions, compile_graph
from plumbline.compiler.importers.onnx import ImportOptions, import_onnx
from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceCall, VersionRef
from plumbline.contracts.records import Selection
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.lanes import LanePool
from plumbline.engine.model import Model
from plumbline.engine.scheduler import Scheduler
from plumbline.engine.sessions.model import BatchingRefused, ModelSession
from plumbline.execution.artifact import read_manifest
from plumbline.execution.code import SharedLibrary
from plumbline.hardware.cpu import CpuDevice
from plumbline.scheduling.policies.priority import PriorityPolicy
from plumbline.testing.bits import (
    assert_same_bits,
    compile_network,
    random_attention_network,
    random_image_network,
    random_map_network,
    random_perceptron,
)
from plumbline.testing.models import widest_target
from plumbline.testing.sessions import Outcomes

REF = VersionRef(model="network", version="1")
BOUND = 6
CASES = (
    (random_perceptron, 1),
    (random_image_network, 1),
    (random_map_network, 0),
    (random_attention_network, 0),
)


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def network(request):
    make, seed = request.param
    return make(seed, batch=BOUND, is_batched=True)


@pytest.fixture
def model(network, tmp_path) -> Model:
    return compile_network(network, tmp_path / "network")


@pytest.fixture(params=[1, 2], ids=["one stream", "two streams"])
def engine(request) -> Iterator[Scheduler]:
    scheduler = Scheduler(policy=PriorityPolicy(), streams=LanePool(request.param), clock=MonotonicClock())
    yield scheduler
    scheduler.close()


def test_every_mix_of_rows_gives_each_request_the_bits_that_it_has_alone(network, model, engine):
    rng = np.random.default_rng(5)
    session = ModelSession(REF, model, VersionSettings(max_delay_ns=1_000_000))
    assert session.metadata.max_rows == BOUND, session.metadata.unbatched_because
    mixes = [[int(row) for row in rng.integers(0, BOUND, rng.integers(1, 4))] for _ in range(60)]
    alone = [model.run(network.select(rows)) for rows in mixes]
    engine.load(REF, session)
    engine.start()
    told = Outcomes()
    for number, rows in enumerate(mixes):
        call = InferenceCall(
            id=RequestId(str(number)), model=REF.model, inputs=network.select(rows), priority=number % 10
        )
        engine.submit(REF, call, told)
    outcomes = told.wait(len(mixes))
    for outcome in outcomes:
        assert_same_bits(outcome.outputs, alone[int(outcome.id)], f"request {outcome.id}")
    assert max(outcome.timing.batched for outcome in outcomes) > 1
    assert engine.status().launches < len(mixes)


def segmented(network, folder):
    """The network in many segments, without contexts."""
    folder.mkdir()
    graph = import_onnx(network.model, ImportOptions(symbols={"batch": network.rows}))
    compile_graph(graph, BuildOptions(target=widest_target(), max_segment_ns=1), folder)
    path = folder / "weights.bin"
    weights = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    library = SharedLibrary(folder / "code.so")
    return Model(read_manifest(folder), weights, library, CpuDevice(), contexts=0, folder=folder)


def test_interrupted_launches_give_the_bits_of_uninterrupted_ones(network, model, tmp_path):
    """Requests of rising priority arrive at every boundary and go in between, on other instances."""
    rng = np.random.default_rng(7)
    mixes = [[int(row) for row in rng.integers(0, BOUND, rng.integers(1, 4))] for _ in range(40)]
    with model:
        alone = [model.run(network.select(rows)) for rows in mixes]
    records, told, waiting = [], Outcomes(), list(range(len(mixes)))
    scheduler = Scheduler(
        policy=PriorityPolicy(), streams=LanePool(), clock=MonotonicClock(), record=records.append
    )
    pieces = segmented(network, tmp_path / "segmented")
    if len(pieces.manifest.segments) == 1:
        pytest.skip("the compiler makes one segment of it")
    scheduler.load(REF, ModelSession(REF, pieces, VersionSettings()), instances=4)

    def submit_next():
        if waiting:
            number = waiting.pop(0)
            call = InferenceCall(
                id=RequestId(str(number)), model=REF.model, inputs=network.select(mixes[number]),
                priority=number % 10,
            )  # fmt: skip
            scheduler.submit(REF, call, told)

    def watched(run):
        def run_and_submit():
            run()
            submit_next()

        return run_and_submit

    for instance in scheduler._versions[REF].stages[0].instances:
        instance._context._runs = tuple(watched(run) for run in instance._context.segment_runs)
    scheduler.start()
    submit_next()
    for outcome in told.wait(len(mixes)):
        assert_same_bits(outcome.outputs, alone[int(outcome.id)], f"request {outcome.id}")
    assert any(isinstance(r, Selection) and r.above is not None for r in records)
    scheduler.close()


ONE = pytest.mark.parametrize("network", CASES[:1], indirect=True, ids=["perceptron"])


@ONE
def test_batching_along_a_symbol_that_is_not_proved_is_refused_by_name(model):
    with model, pytest.raises(BatchingRefused, match=r"'tokens'.*'batch'"):
        ModelSession(REF, model, VersionSettings(batch_symbol="tokens"))


@ONE
def test_tenants_share_launches_unless_the_version_says_no(network, model):
    with model:
        inputs = network.select([0])
        shared = ModelSession(REF, model, VersionSettings())
        apart = ModelSession(REF, model, VersionSettings(separate_tenants=True))
        for session, equal in ((shared, True), (apart, False)):
            keys = {session.admit(inputs, {}, tenant).batch.key for tenant in ("a", "b")}
            assert (len(keys) == 1) is equal
