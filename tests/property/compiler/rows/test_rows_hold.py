"""What the proof says of rows holds in runs, bit for bit (L4-62)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.property.compiler.rows.networks import BOUND, INDEPENDENT, LONGEST, MIXED

from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.passes.pipeline import run_passes
from plumbline.compiler.rows import RowProof, prove_rows
from plumbline.testing.models import open_model, widest_target

TRULY_MIXED = (
    "softmax", "reduce", "reshape", "cumulative", "numbers", "count", "backwards", "rows written",
    "histogram", "numbered columns", "images by number", "largest by number", "next row", "unpooled",
)  # fmt: skip


def proof_of(graph: ExecutionGraph) -> RowProof:
    return prove_rows(run_passes(graph, widest_target())[0])


def batch(graph: ExecutionGraph, rows: int, seed: int) -> np.ndarray:
    type_ = graph.type_of(graph.inputs["x"])
    shape = tuple(rows if i == 0 else d if isinstance(d, int) else LONGEST for i, d in enumerate(type_.shape))
    rng = np.random.default_rng(seed)
    if type_.dtype.is_float:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(0, 11, shape)


def damaged(x: np.ndarray, row: int) -> np.ndarray:
    """The same row among others that would show: NaN, infinities, other ids."""
    other = x.copy()
    keep = np.arange(len(x)) != row
    other[keep] = (np.nan if row % 2 else np.inf) if x.dtype.kind == "f" else 10 - x[keep]
    return other


@pytest.mark.parametrize("name", INDEPENDENT)
def test_proved_rows_have_the_same_bits_alone_and_in_any_company(name: str, tmp_path: Path) -> None:
    """Whatever the other rows hold and however many there are."""
    graph = INDEPENDENT[name]
    proof = proof_of(graph)
    assert (proof.symbol, dict(proof.inputs)) == ("N", {"x": 0}), proof.refused_because
    assert set(proof.outputs) == set(graph.outputs)
    with open_model(graph, tmp_path) as model:
        assert model.manifest.batch_symbol == "N"
        assert not model.manifest.unbatched_because
        x = batch(graph, BOUND, 3)
        alone = [model.run({"x": x[i : i + 1]}) for i in range(BOUND)]
        for rows in (BOUND, 2):
            together = model.run({"x": x[:rows]})
            for i in range(rows):
                beside = model.run({"x": damaged(x[:rows], i)})
                for output, value in alone[i].items():
                    assert together[output][i : i + 1].tobytes() == value.tobytes(), (name, rows, i)
                    assert beside[output][i : i + 1].tobytes() == value.tobytes(), (name, rows, i)


@pytest.mark.parametrize("name", MIXED)
def test_mixed_rows_are_refused_with_the_operator_named(name: str) -> None:
    graph, operation = MIXED[name]
    proof = proof_of(graph)
    assert proof.symbol == ""
    assert not proof.inputs
    assert not proof.outputs
    assert proof.refused_because.startswith("operator ")
    assert f"({operation})" in proof.refused_because


@pytest.mark.parametrize("name", TRULY_MIXED)
def test_refused_rows_do_change_with_their_company(name: str, tmp_path: Path) -> None:
    """The negative examples are true ones: a refusal that nothing bears out would hide a broken test."""
    graph, _ = MIXED[name]
    with open_model(graph, tmp_path) as model:
        x = batch(graph, BOUND, 5)
        together = model.run({"x": x})["y0"]
        rows = [model.run({"x": x[i : i + 1]})["y0"] for i in range(BOUND)]
        assert any(together[i : i + 1].tobytes() != row.tobytes() for i, row in enumerate(rows))
        assert model.manifest.batch_symbol == ""
        assert model.manifest.unbatched_because
