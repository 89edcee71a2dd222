"""No pass changes what a graph computes, and native code computes the same (L2-04)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph, TensorID
from plumbline.compiler.graph.verify import verify
from plumbline.compiler.passes.pipeline import PASSES
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.dims import symbol
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.emit.target import AVX2, AVX512, NEON, TargetDescription
from plumbline.testing.interpreter import evaluate_graph
from plumbline.testing.models import open_model

RTOL, ATOL = 1e-4, 1e-4


@st.composite
def networks(draw: st.DrawFn) -> ExecutionGraph:
    """Chains and branches of what the passes look for: products, convolutions, scales, pools, maps, views."""
    builder = GraphBuilder("net", {"batch": 4})
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    channels = draw(st.sampled_from([3, 8, 16, 20]))
    x = builder.input("x", TensorType(DType.FLOAT32, (symbol("batch"), channels, 6, 5)))
    images = [x]
    for _ in range(draw(st.integers(1, 6))):
        images.append(_image_operator(draw, builder, rng, draw(st.sampled_from(images[-2:]))))
    last = images[-1]
    rows = builder.add1("reduce_mean", [last], {"axes": (2, 3), "keepdims": False})
    for _ in range(draw(st.integers(0, 3))):
        rows = _row_operator(draw, builder, rng, rows)
    builder.output("rows", rows)
    if draw(st.booleans()):
        builder.output("image", draw(st.sampled_from(images)))
    return builder.build()


def _constant(builder: GraphBuilder, rng: np.random.Generator, *shape: int) -> TensorID:
    scale = 1 / np.sqrt(max(int(np.prod(shape[1:])), 1))
    return builder.constant((rng.standard_normal(shape) * scale).astype(np.float32), "w")


def _image_operator(
    draw: st.DrawFn, builder: GraphBuilder, rng: np.random.Generator, x: TensorID
) -> TensorID:
    channels = builder.type_of(x).shape[1]
    assert isinstance(channels, int)
    match draw(st.integers(0, 6)):
        case 0 | 1:
            out = draw(st.sampled_from([4, 16, 17]))
            operands = [x, _constant(builder, rng, out, channels, 3, 3)]
            if draw(st.booleans()):
                operands.append(_constant(builder, rng, out))
            return builder.add1("conv", operands, conv_attributes(1))
        case 2:
            weights = _constant(builder, rng, channels, 1, 3, 3)
            return builder.add1("conv", [x, weights], conv_attributes(channels))
        case 3:
            return builder.add1("mul", [x, _constant(builder, rng, channels, 1, 1)])
        case 4:
            return builder.add1("add", [x, _constant(builder, rng, channels, 1, 1)])
        case 5:
            return builder.add1("add", [x, x])
        case _:
            return builder.add1(draw(st.sampled_from(["relu", "sigmoid", "tanh"])), [x])


def conv_attributes(groups: int) -> dict[str, object]:
    """A 3 x 3 convolution that keeps height and width."""
    return {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": groups}


def _row_operator(draw: st.DrawFn, builder: GraphBuilder, rng: np.random.Generator, x: TensorID) -> TensorID:
    columns = builder.type_of(x).shape[1]
    assert isinstance(columns, int)
    match draw(st.integers(0, 3)):
        case 0 | 1:
            return builder.add1(
                "matmul", [x, _constant(builder, rng, columns, draw(st.sampled_from([5, 16, 33])))]
            )
        case 2:
            return builder.add1("add", [x, _constant(builder, rng, columns)])
        case _:
            return builder.add1(draw(st.sampled_from(["relu", "tanh"])), [x])


def inputs_of(graph: ExecutionGraph, batch: int) -> dict[str, np.ndarray]:
    shape = [batch, *(d for d in graph.type_of(graph.inputs["x"]).shape[1:])]
    return {"x": np.random.default_rng(1).standard_normal([int(str(d)) for d in shape]).astype(np.float32)}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], what: str) -> None:
    assert found.keys() == expected.keys()
    for name, reference in expected.items():
        np.testing.assert_allclose(found[name], reference, RTOL, ATOL, err_msg=f"{what}: {name}")


@pytest.mark.parametrize("target", [AVX512, AVX2, NEON], ids=lambda t: t.name)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(graph=networks())
def test_each_pass_leaves_a_valid_graph_with_the_same_outputs(
    target: TargetDescription, graph: ExecutionGraph
) -> None:
    inputs = inputs_of(graph, 2)
    expected = evaluate_graph(graph, inputs)
    for rewrite in PASSES:
        graph = rewrite(graph, target, PassReport())
        verify(graph)
        assert_same(evaluate_graph(graph, inputs), expected, rewrite.__name__)


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(graph=networks())
def test_native_code_computes_what_the_references_compute(graph: ExecutionGraph) -> None:
    """The whole compiler against the slow twin, at several values of the symbol."""
    with tempfile.TemporaryDirectory() as folder, open_model(graph, Path(folder)) as model:
        for batch in (1, 3, 4):
            inputs = inputs_of(graph, batch)
            assert_same(model.run(inputs), evaluate_graph(graph, inputs), f"batch {batch}")
