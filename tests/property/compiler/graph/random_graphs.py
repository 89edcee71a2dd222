"""Random graphs of cheap operations over two symbols, with constants of every kind."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph, TensorID
from plumbline.contracts.dims import symbol
from plumbline.contracts.tensors import DType, TensorType

__all__ = ["graphs", "inputs_of"]

UNARY = ("relu", "neg", "abs", "tanh", "sigmoid")
BINARY = ("add", "mul", "sub", "maximum")


@st.composite
def graphs(draw: st.DrawFn, most: int = 12) -> ExecutionGraph:
    """A graph with inputs `x` [rows, 4] and `k` [4, 3], and one to three outputs."""
    builder = GraphBuilder(draw(st.text(max_size=5)), {"rows": 8})
    rows = symbol("rows")
    tensors: list[TensorID] = [builder.input("x", TensorType(DType.FLOAT32, (rows, 4)))]
    builder.input("k", TensorType(DType.FLOAT32, (4, 3)))
    seed = np.random.default_rng(draw(st.integers(0, 2**20)))
    for _ in range(draw(st.integers(1, most))):
        tensors.append(_operator(draw, builder, tensors, seed))
    chosen = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=3))
    for position, tensor in enumerate(chosen):
        builder.output(f"y{position}", tensor)
    return builder.build()


def _operator(
    draw: st.DrawFn, builder: GraphBuilder, tensors: list[TensorID], seed: np.random.Generator
) -> TensorID:
    a = draw(st.sampled_from(tensors))
    name = draw(st.sampled_from(["op", "op.2", 'quoted "name"', "a b/c"]))
    match draw(st.integers(0, 5)):
        case 0 | 1:
            return builder.add1(draw(st.sampled_from(UNARY)), [a], name=name)
        case 2:
            vector = builder.constant(seed.standard_normal((4,)).astype(np.float32), "w")
            return builder.add1(draw(st.sampled_from(BINARY)), [a, vector], name=name)
        case 3:
            large = builder.constant(seed.standard_normal((4, 4)).astype(np.float32).repeat(8, 0), "big")
            square = builder.add1("slice", [large], {"starts": (0, 0), "sizes": (4, 4), "steps": (1, 1)})
            return builder.add1("matmul", [a, square], name=name)
        case 4:
            other = draw(st.sampled_from(tensors))
            return builder.add1(draw(st.sampled_from(BINARY)), [a, other], name=name)
        case _:
            turned = builder.add1("transpose", [a], {"perm": (1, 0)})
            return builder.add1("transpose", [turned], {"perm": (1, 0)}, name=name)


def inputs_of(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for the inputs."""
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((rows, 4)).astype(np.float32),
        "k": rng.standard_normal((4, 3)).astype(np.float32),
    }
