"""Any placement over two backends splits into parts that run in order and give the same numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.partitioning import PartitionOptions, partition_graph
from plumbline.compiler.partitioning.parts import as_graph
from plumbline.compiler.partitioning.selection import select_backends
from plumbline.contracts.tensors import DType, TensorType
from plumbline.execution.backend_simulated import SimulatedBackend
from plumbline.execution.partitioned_record import CopyKind
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.testing.interpreter import evaluate_graph

NAMES = ("near", "far")


@st.composite
def placed_graphs(draw):
    builder = GraphBuilder("random")
    tensors = [
        builder.input(f"x{i}", TensorType(DType.FLOAT32, (3,))) for i in range(draw(st.integers(1, 2)))
    ]
    tensors.append(builder.constant(np.float32([1, -2, 3]), "fixed"))
    forced = {}
    for number in range(draw(st.integers(1, 10))):
        operation = draw(st.sampled_from(["add", "mul", "neg", "relu"]))
        wanted = 2 if operation in ("add", "mul") else 1
        operands = [draw(st.sampled_from(tensors)) for _ in range(wanted)]
        if all(t == "fixed" or t.startswith("folded") for t in operands):
            operands[0] = tensors[0]
        tensors.append(builder.add1(operation, operands, name=f"n{number}"))
        forced[tensors[-1]] = draw(st.sampled_from(NAMES))
    builder.output("last", tensors[-1])
    for index in draw(st.sets(st.integers(0, len(tensors) - 1), max_size=3)):
        builder.output(f"out{index}", tensors[index])
    graph = builder.build()
    alive = {node.name for node in graph.nodes}
    return graph, {name: backend for name, backend in forced.items() if name in alive}


@settings(max_examples=60)
@given(placed_graphs())
def test_every_split_computes_the_graph_and_counts_its_copies(drawn):
    """L2-06: also when parts go back and forth; plan, run and both devices agree on the copies."""
    graph, forced = drawn
    backends = [SimulatedBackend(SimulatedDevice(label=name), name=name) for name in NAMES]
    inputs = {name: np.float32([i, -1.5, 2]) for i, name in enumerate(graph.inputs)}
    expected = evaluate_graph(graph, inputs)
    with partition_graph(graph, backends, PartitionOptions(forced=forced)) as model:
        before = sum(b.device.copies.copies for b in backends)
        run = model.run(inputs)
        made = sum(b.device.copies.copies for b in backends) - before
        for name, array in expected.items():
            np.testing.assert_array_equal(run.outputs[name], array)
        assert made == len(run.record.copies)
        assert run.record.copies == model.record.copies
        crossing = [c for c in run.record.copies if c.kind is CopyKind.BOUNDARY]
        assert len({(c.tensor, c.source, c.target) for c in crossing}) == len(crossing)
    for backend in backends:
        assert backend.device.registry.live_by_kind().get("buffer", 0) == 0
        backend.close()


@settings(max_examples=60)
@given(placed_graphs())
def test_parts_are_connected_cover_the_graph_and_never_wait_in_a_circle(drawn):
    """L2-06."""
    graph, forced = drawn
    backends = [SimulatedBackend(SimulatedDevice(label=name), name=name) for name in NAMES]
    with partition_graph(graph, backends, PartitionOptions(forced=forced)) as model:
        parts = model.parts
        assert model.record.placements == select_backends(graph, backends, forced)
    for backend in backends:
        backend.close()
    assert sorted(n.name for p in parts for n in p.part.nodes) == sorted(n.name for n in graph.nodes)
    known = {*graph.inputs.values(), *graph.constants}
    for placed in parts:
        assert set(placed.part.inputs) <= known, "everything that a part reads was made by an earlier one"
        known |= set(placed.part.outputs)
        assert len(as_graph(placed.part).nodes) == len(placed.part.nodes)
        assert _is_connected(placed.part)
        assert {forced[n.name] for n in placed.part.nodes} == {placed.backend}


def _is_connected(part) -> bool:
    reached, grown = {part.nodes[0].name}, True
    while grown:
        inside = {t for n in part.nodes if n.name in reached for t in n.outputs}
        read = {t for n in part.nodes if n.name in reached for t in n.inputs}
        more = {n.name for n in part.nodes if inside & {*n.inputs} or read & {*n.outputs}} - reached
        reached |= more
        grown = bool(more)
    return len(reached) == len(part.nodes)
