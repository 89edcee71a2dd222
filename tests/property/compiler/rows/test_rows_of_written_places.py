"""Operations that write and read by number, over random shapes: what is accepted keeps its bits (L4-62)."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from tests.property.compiler.rows.networks import ALIGN, BOUND, F32, N, boxes, graph_of, weight

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph, TensorID
from plumbline.compiler.passes.pipeline import run_passes
from plumbline.compiler.rows import RowProof, check_rows, prove_rows
from plumbline.contracts.dims import Dim, mul, symbol
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.registry import get_operation, operations
from plumbline.kernels.rows import NeverRows, RowCall, Rows, no_row_rule
from plumbline.testing.models import open_model, widest_target

SEEDS = range(12)
REDUCTIONS = ("none", "add", "mul", "max", "min")


def proof_of(graph: ExecutionGraph) -> RowProof:
    return prove_rows(run_passes(graph, widest_target())[0])


def assert_rows_apart(graph: ExecutionGraph, folder: Path, seed: int) -> None:
    """Every row alone has the bits that it has among others, among NaN, and among fewer."""
    proof = proof_of(graph)
    assert proof.symbol == "N", proof.refused_because
    shape = tuple(BOUND if d == N else int(d) for d in graph.type_of(graph.inputs["x"]).shape)  # type: ignore[arg-type]
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    with open_model(graph, folder) as model:
        for i in range(0, BOUND, 3):
            alone = model.run({"x": x[i : i + 1]})
            beside = np.full_like(x, np.nan)
            beside[i] = x[i]
            for company in (x, beside, x[: i + 1]):
                together = model.run({"x": company})
                for name, value in alone.items():
                    assert together[name][i : i + 1].tobytes() == value.tobytes(), (seed, name, i)


def slices_written(seed: int, *, row_axis: str) -> ExecutionGraph:
    """`scatter_nd` of any depth, with the batch on an axis of the slice, or on one that indices name."""
    choose = random.Random(seed)
    rank, depth = choose.randint(2, 4), 0
    depth = choose.randint(1, rank - 1)
    at = choose.randrange(depth, rank) if row_axis == "slice" else choose.randrange(depth)
    extents: list[Dim] = [choose.choice([1, 2, 3, 5, 70]) if a >= depth else 4 for a in range(rank)]
    tail = tuple(int(d) for a, d in enumerate(extents) if a != at)  # type: ignore[arg-type]
    extents[at] = N
    count = tuple(choose.randint(1, 3) for _ in range(choose.randint(0, 2)))
    rng = np.random.default_rng(seed)
    chosen = rng.integers(-4, 4, (*count, depth)) if row_axis == "slice" else np.zeros((*count, depth), int)

    def body(b: GraphBuilder, x: TensorID) -> TensorID:
        there = [a for a in range(1, rank) if a <= at] + [0] + [a for a in range(1, rank) if a > at]
        turned = b.add1("transpose", [x], {"perm": tuple(there)})
        part = weight(b, *count, *(d for d in extents[depth:] if isinstance(d, int)))
        if row_axis == "slice":
            cut: tuple[Dim, ...] = tuple(1 if a < depth else d for a, d in enumerate(extents))
            first = {"starts": (0,) * rank, "sizes": cut, "steps": (1,) * rank}
            part = b.add1("slice", [b.add1("tanh", [turned])], first)
            part = b.add1("reshape", [part], {"shape": (*(1 for _ in count), *extents[depth:])})
            part = b.add1("expand", [part], {"shape": (*count, *extents[depth:])})
        reduction = {"reduction": choose.choice(REDUCTIONS)}
        written = b.add1("scatter_nd", [turned, b.constant(chosen.astype(np.int64)), part], reduction)
        return b.add1("transpose", [written], {"perm": tuple(int(p) for p in np.argsort(there))})

    return graph_of(body, *tail)


@pytest.mark.parametrize("seed", SEEDS)
def test_slices_written_inside_rows_keep_their_bits(seed: int, tmp_path: Path) -> None:
    """Any rank, depth, number of places (equal ones too) and reduction."""
    assert_rows_apart(slices_written(seed, row_axis="slice"), tmp_path, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_slices_written_by_the_number_of_a_row_are_refused(seed: int) -> None:
    proof = proof_of(slices_written(seed, row_axis="place"))
    assert not proof.symbol
    assert "(scatter_nd)" in proof.refused_because


@pytest.mark.parametrize("seed", range(6))
def test_regions_of_fixed_images_keep_their_bits(seed: int, tmp_path: Path) -> None:
    """Both operations, any number of images and channels, any size of the result."""
    choose = random.Random(seed)
    channels, height, width = choose.randint(1, 9), choose.randint(1, 4), choose.randint(1, 7)
    align = {**ALIGN, "height": height, "width": width, "mode": choose.choice(["avg", "max"]),
             "sampling_ratio": choose.randint(0, 2), "half_pixel": choose.random() < 0.5}  # fmt: skip

    def body(b: GraphBuilder, x: TensorID) -> tuple[TensorID, ...]:
        images = weight(b, 4, channels, 6, 6)
        number = b.add1("arg_max", [x], {"axis": 1, "keepdims": True})
        joined = b.add1("concat", [b.add1("cast", [number], {"to": F32}), boxes(x, b)], {"axis": 1})
        flat = b.add1("reshape", [number], {"shape": (N,)})
        return (
            b.add1("roi_align", [images, boxes(x, b), flat], align),
            b.add1("max_roi_pool", [images, joined], {"pooled": (height, width), "spatial_scale": 0.7}),
        )

    assert_rows_apart(graph_of(body, 4), tmp_path, seed)


@pytest.mark.parametrize("name", ["adagrad", "adam", "momentum"])
@pytest.mark.parametrize("seed", range(3))
def test_optimiser_steps_keep_the_bits_of_a_row(name: str, seed: int, tmp_path: Path) -> None:
    choose = random.Random(f"{name}{seed}")
    tail = tuple(choose.choice([1, 3, 8, 37]) for _ in range(choose.randint(0, 3)))

    def body(b: GraphBuilder, x: TensorID) -> tuple[TensorID, ...]:
        rate, count = b.constant(np.float32([0.1])), b.constant(np.array([seed], np.int64))
        squares = [b.add1("mul", [x, x])] * (2 if name == "adam" else 1)
        return b.add(name, [rate, count, x, b.add1("tanh", [x]), *squares], {"norm_coefficient": 0.01})

    assert_rows_apart(graph_of(body, *tail), tmp_path, seed)


# -- rules asked directly ------------------------------------------------------------------------------------


def answers(
    name: str, shapes: list[tuple[Dim, ...]], carried: list[Rows | None], result: tuple[Dim, ...]
) -> list[Rows | str]:
    types = [TensorType(DType.FLOAT32, shape) for shape in shapes]
    call = RowCall(
        operation=name, inputs=tuple(types), outputs=(TensorType(DType.FLOAT32, result),), attributes={},
        carried=tuple(carried), symbols=frozenset({"N"}),
    )  # fmt: skip
    return list(check_rows(call, get_operation(name).rows(call)))


ROW = Rows(symbol="N", axis=0)
REFUSED: dict[str, tuple[str, list[tuple[Dim, ...]], list[Rows | None], tuple[Dim, ...]]] = {
    "parameters and gradient merged in another order": (
        "momentum", [(1,), (1,), (mul(N, 4),), (mul(N, 4),), (mul(N, 4),)],
        [None, None, Rows(symbol="N", axis=0, inner=4), Rows(symbol="N", axis=0, outer=4),
         Rows(symbol="N", axis=0, inner=4)], (mul(N, 4),),
    ),
    "a learning rate of each row": (
        "momentum", [(N,), (1,), (N,), (N,), (N,)], [ROW, None, ROW, ROW, ROW], (N,),
    ),
    "updates of other rows": (
        "scatter_nd", [(3, mul(N, 4)), (2, 1), (2, mul(N, 4))],
        [Rows(symbol="N", axis=1, inner=4), None, Rows(symbol="N", axis=1, outer=4)], (3, mul(N, 4)),
    ),
    "updates whose rows lie beside those of the data": (
        "scatter_nd", [(3, N, 2), (2, 1), (2, N, 2)],
        [ROW.at(1), None, ROW.at(0)], (3, N, 2),
    ),
    "places of each row": (
        "scatter_nd", [(3, N), (N, 1), (N, N)], [ROW.at(1), ROW, ROW.at(1)], (3, N),
    ),
    "updates by row into data of all": (
        "scatter_nd", [(9, 2), (N, 1), (N, 2)], [None, ROW, ROW], (9, 2),
    ),
    "a slice of the whole that is written by row": (
        "scatter_nd", [(9,), (N, 0), (N, 9)], [None, None, ROW], (9,),
    ),
    "regions whose images are numbered in another order": (
        "roi_align", [(2, 1, 6, 6), (mul(N, 2), 4), (mul(N, 2),)],
        [None, Rows(symbol="N", axis=0, inner=2), Rows(symbol="N", axis=0, outer=2)], (mul(N, 2), 1, 2, 2),
    ),
    "images by row": ("max_roi_pool", [(N, 1, 6, 6), (N, 5)], [ROW, ROW], (N, 1, 2, 2)),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_meet_in_an_operation_are_refused(case: str) -> None:
    found = answers(*REFUSED[case])
    assert all(isinstance(answer, str) and answer for answer in found), found


NEVER = ("eye", "max_unpool", "mel_weight_matrix", "range", "symbolic_value")
"""The operations for which no rule is sound."""


def test_every_operation_has_a_rule_or_says_why_none_can_be_sound() -> None:
    refusing = {o.name: o.rows for o in operations() if isinstance(o.rows, NeverRows)}
    assert tuple(refusing) == NEVER
    assert no_row_rule not in refusing.values()
    assert all(rule.reason for rule in refusing.values())


@pytest.mark.parametrize("name", NEVER)
def test_operation_without_a_sound_rule_refuses_rows_wherever_they_are(name: str) -> None:
    for axis in range(3):
        shape: tuple[Dim, ...] = tuple(symbol("N") if a == axis else 4 for a in range(3))
        for carried in ([ROW.at(axis)], [None]):
            (found,) = answers(name, [shape], carried, shape)
            assert isinstance(found, str)
