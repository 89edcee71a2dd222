"""One graph over two backends: results, copies, records and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.partitioning import (
    NativeBackend,
    OperationUnplaced,
    PartitionOptions,
    PlacementRefused,
    partition_graph,
)
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.tensors import DType, TensorType
from plumbline.errors import PlumblineError
from plumbline.execution.backend import RetargetPath
from plumbline.execution.backend_refusals import BackendConflict, BackendUnknown, DispatchRefused
from plumbline.execution.backend_registry import BackendRegistry
from plumbline.execution.backend_simulated import SimulatedBackend
from plumbline.execution.partitioned import PartitionedInputRefused
from plumbline.execution.partitioned_record import CopyKind
from plumbline.hardware.faults import FaultClass, FaultPlan
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.kernels.emit.target import AVX2, TARGETS
from plumbline.testing.interpreter import evaluate_graph

from .conftest import BATCH, WIDTH

SPLITS = (
    {},
    {"active": "simulated"},
    {"soft": "simulated", "side": "simulated"},
    {"hidden": "simulated", "soft": "simulated"},
    dict.fromkeys(("hidden", "active", "soft", "side", "joined"), "simulated"),
)


@pytest.mark.parametrize("forced", SPLITS, ids=["none", "middle", "two ends", "alternating", "all"])
def test_a_forced_split_gives_the_outputs_of_a_single_backend(graph, registry, simulated, x, forced):
    """L2-06: outputs agree, and every copy is listed and counted."""
    backends = registry.choose(["cpu", "simulated"])
    expected = evaluate_graph(graph, {"x": x})
    with partition_graph(graph, backends, PartitionOptions(forced=forced)) as model:
        before = simulated.device.copies.copies, simulated.device.copies.copied_bytes
        run = model.run({"x": x})
        made = simulated.device.copies.copies - before[0], simulated.device.copies.copied_bytes - before[1]
        for name, array in expected.items():
            np.testing.assert_allclose(run.outputs[name], array, rtol=1e-5, atol=1e-6)
        assert made == (len(run.record.copies), sum(c.size_bytes for c in run.record.copies))
        planned = [(c.tensor, c.source, c.target, c.kind) for c in model.record.copies]
        assert [(c.tensor, c.source, c.target, c.kind) for c in run.record.copies] == planned
        assert all(c.size_bytes % BATCH == 0 for c in model.record.copies)
        where = {node: part.backend for part in model.record.parts for node in part.nodes}
        assert where == {node: forced.get(node, "cpu") for node in where}
    assert simulated.device.registry.live_by_kind().get("buffer", 0) == 0


def test_a_split_in_the_middle_copies_one_tensor_there_and_one_back(graph, registry, x):
    """L2-06: sizes are real in a run, and at the bound in the plan."""
    options = PartitionOptions(forced={"active": "simulated"})
    with partition_graph(graph, registry.choose(["cpu", "simulated"]), options) as model:
        run = model.run({"x": x})
        there, back = run.record.boundary_copies
        assert (there.tensor, there.source, there.target) == ("hidden", "host", "simulated")
        assert (back.tensor, back.source, back.target) == ("active", "simulated", "host")
        assert there.size_bytes == x.shape[0] * WIDTH * 4
        assert model.record.boundary_bytes == 2 * BATCH * WIDTH * 4
        assert len(model.record.parts) == 4


def test_inputs_and_outputs_of_a_foreign_memory_are_copies_of_their_own_kind(graph, registry, x):
    with partition_graph(graph, registry.choose(["simulated"])) as model:
        kinds = [c.kind for c in model.run({"x": x}).record.copies]
        assert kinds == [CopyKind.INPUT, CopyKind.OUTPUT, CopyKind.OUTPUT]
        assert model.record.boundary_bytes == 0


def test_every_decision_is_recorded_with_its_losers(graph, cpu):
    """L1-06: the record holds operations, precision, limits, failure modes and each backend's reason."""
    few = SimulatedBackend(SimulatedDevice(), operations={"matmul", "softmax"})
    report = PassReport()
    with partition_graph(graph, [few, cpu], report=report) as model:
        document = json.loads(json.dumps(model.record.to_dict()))
    few.close()
    placed = {p["node"]: p for p in document["placements"]}
    assert {n: p["backend"] for n, p in placed.items()} == {
        "hidden": "simulated", "active": "cpu", "soft": "simulated", "side": "cpu", "joined": "cpu",
    }  # fmt: skip
    assert placed["side"]["candidates"] == [
        {"backend": "simulated", "refusal": "the operation is not among its capabilities"},
        {"backend": "cpu", "refusal": None},
    ]
    offered = {b["name"]: b for b in document["backends"]}
    assert set(offered["simulated"]["operations"]) == {"matmul", "softmax"}
    for backend in offered.values():
        assert {"operations", "limits", "failure_modes", "specialisation"} <= backend.keys()
    assert {r.kind for r in report.rewrites} == {"partitioned", "refused"}
    assert any("not among its capabilities" in r.detail for r in report.rewrites)


def test_the_order_of_preference_decides(graph, registry):
    for first, second in (("cpu", "simulated"), ("simulated", "cpu")):
        with partition_graph(graph, registry.choose([first, second])) as model:
            assert {part.backend for part in model.record.parts} == {first}


def test_an_operation_that_no_allowed_backend_runs_is_refused_by_name(graph, registry):
    """L1-06: another registered backend that could is no way out unless it is allowed."""
    few = SimulatedBackend(SimulatedDevice(), name="few", operations={"matmul", "relu", "softmax", "add"})
    registry.register(few)
    with pytest.raises(OperationUnplaced, match=r"'side' \(tanh.*few: the operation is not among") as refused:
        partition_graph(graph, registry.choose(["few"]))
    assert refused.value.node == "side"
    few.close()


def test_an_unfit_backend_cannot_be_forced(graph, cpu):
    """L1-06: choosing an unfit backend is impossible."""
    few = SimulatedBackend(SimulatedDevice(), operations={"matmul"})
    refused = {"soft": "simulated"}, {"soft": "nowhere"}, {"no such node": "cpu"}
    for forced in refused:
        with pytest.raises(PlacementRefused):
            partition_graph(graph, [cpu, few], PartitionOptions(forced=forced))
    few.close()


def test_an_element_type_can_decide_too(cpu, simulated):
    """bfloat16 is not simulated, so its nodes go to the processor although it is the second choice."""
    builder = GraphBuilder("types")
    x = builder.input("x", TensorType(DType.FLOAT32, (4,)))
    small = builder.add1("cast", [x], {"to": "bfloat16"}, name="small")
    back = builder.add1("cast", [small], {"to": "float32"}, name="back")
    builder.output("y", builder.add1("neg", [back], name="negated"))
    with partition_graph(builder.build(), [simulated, cpu]) as model:
        where = {p.node: p.backend for p in model.record.placements}
        y = model.run({"x": np.float32([1, 2, 1 / 3, 5])}).outputs["y"]
    assert where == {"small": "cpu", "back": "cpu", "negated": "simulated"}
    np.testing.assert_allclose(y, [-1, -2, -1 / 3, -5], rtol=2**-7)


def test_dispatch_and_specialisation_are_separate_decisions(graph, registry, simulated, x):
    """L1-07: another dispatch leaves the specialisation, another target leaves the dispatch."""
    allowed = registry.choose(["cpu", "simulated"])
    options = PartitionOptions(forced={"active": "simulated"}, alternatives=("cpu", "simulated"))
    with partition_graph(graph, allowed, options) as model:
        built = model.record
        plain = model.run({"x": x})
        moved = model.run({"x": x}, dispatch={part.name: "cpu" for part in built.parts})
        assert {d.backend for d in moved.record.dispatch} == {"cpu"}
        assert {d.backend for d in plain.record.dispatch} == {"cpu", "simulated"}
        assert moved.record.copies == ()
        assert model.record.specialisation == built.specialisation
        for name, array in plain.outputs.items():
            np.testing.assert_allclose(moved.outputs[name], array, rtol=1e-5, atol=1e-6)
        cpu = registry.get("cpu")
        narrow = NativeBackend(cpu.device, other_target(cpu))
        with partition_graph(graph, [narrow, simulated], options) as other:
            assert other.record.dispatch == built.dispatch
            assert other.record.specialisation != built.specialisation
        narrow.close()


def other_target(backend: NativeBackend):
    same = [t for t in TARGETS.values() if t.architecture == backend.target.architecture]
    found = [t for t in same if t is not backend.target]
    if not found:
        pytest.skip("this architecture has one target description")
    return found[0] if backend.target is not AVX2 else next(t for t in found if t is not AVX2)


def test_one_model_for_two_targets_records_the_path_of_each(graph, cpu, simulated):
    """L2-09: code for one family of processors, or one implementation for all."""
    paths = {}
    for backend in (cpu, simulated):
        with partition_graph(graph, [backend]) as model:
            made = {s for found in model.record.specialisation.values() for s in found}
        paths[backend.name] = {(s.path, s.target) for s in made}
    assert paths["cpu"] == {(RetargetPath.VENDOR, cpu.target.name)}
    assert paths["simulated"] == {(RetargetPath.PORTABLE, "reference")}


def test_a_part_runs_only_where_it_was_compiled(graph, cpu, simulated, x):
    with partition_graph(graph, [cpu, simulated]) as model:
        part = model.record.parts[0].name
        for dispatch in ({part: "simulated"}, {part: "nowhere"}, {"no such part": "cpu"}):
            with pytest.raises(DispatchRefused):
                model.run({"x": x}, dispatch=dispatch)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, "missing"),
        ({"x": np.zeros((2, WIDTH), np.float64)}, "was given for"),
        ({"x": np.zeros((2, WIDTH + 1), np.float32)}, "does not fit"),
        ({"x": np.zeros((BATCH + 1, WIDTH), np.float32)}, "does not fit"),
        ({"x": np.zeros((2, WIDTH), np.float32), "z": np.zeros(1)}, "no such input"),
    ],
)
def test_a_wrong_input_is_refused_by_name(graph, cpu, inputs, reason):
    with partition_graph(graph, [cpu]) as model, pytest.raises(PartitionedInputRefused, match=reason):
        model.run(inputs)


def test_outputs_that_no_node_makes_are_returned(cpu, simulated):
    builder = GraphBuilder("through")
    x = builder.input("x", TensorType(DType.FLOAT32, (3,)))
    builder.output("same", x)
    builder.output("fixed", builder.constant(np.float32([7, 8]), "fixed"))
    builder.output("y", builder.add1("neg", [x], name="y"))
    with partition_graph(builder.build(), [simulated, cpu]) as model:
        outputs = model.run({"x": np.float32([1, 2, 3])}).outputs
    assert {name: array.tolist() for name, array in outputs.items()} == {
        "same": [1, 2, 3], "fixed": [7, 8], "y": [-1, -2, -3],
    }  # fmt: skip


def test_names_of_backends_are_explicit(cpu, simulated):
    """X-69: registered by hand, known by one name, and never guessed."""
    registry = BackendRegistry([cpu])
    with pytest.raises(BackendUnknown, match="registered: cpu"):
        registry.choose(["simulated"])
    with pytest.raises(BackendConflict):
        registry.register(cpu)
    registry.register(simulated)
    assert [b.name for b in registry.choose(["simulated", "cpu", "simulated"])] == ["simulated", "cpu"]


def test_a_failing_device_fails_the_run_and_keeps_nothing(graph, cpu, x):
    """L1-06: a failure mode that was declared arrives as the error that it names."""
    faults = FaultPlan(faults={("launch", 2): FaultClass.LAUNCH_FAILURE})
    backend = SimulatedBackend(SimulatedDevice(faults=faults))
    declared = {mode.code for mode in backend.failure_modes}
    with partition_graph(graph, [backend, cpu]) as model:
        held = backend.device.registry.live_by_kind().get("buffer", 0)
        with pytest.raises(PlumblineError) as failed:
            model.run({"x": x})
        assert failed.value.code in declared
        assert backend.device.registry.live_by_kind().get("buffer", 0) == held
        model.run({"x": x})
    backend.close()
