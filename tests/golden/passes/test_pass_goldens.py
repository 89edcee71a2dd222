"""Each pass on small graphs: text in, text out. `PLUMBLINE_UPDATE_GOLDEN=1` writes the results anew.

A folder is a pass; files `NAME.in.graph` and `NAME.out.graph` are a case. All cases are for AVX2 (blocks of
eight channels), so that they are the same on every machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.graph.text import format_graph, parse_graph
from plumbline.compiler.graph.verify import verify
from plumbline.compiler.passes import pipeline
from plumbline.compiler.passes.report import PassReport
from plumbline.kernels.emit.target import AVX2
from plumbline.testing.interpreter import evaluate_graph

HERE = Path(__file__).parent
CASES = sorted(path.relative_to(HERE) for path in HERE.glob("*/*.in.graph"))
PASSES = {rewrite.__name__: rewrite for rewrite in pipeline.PASSES}
PREPARATION: Mapping[str, tuple[str, ...]] = {
    "fuse_epilogues": ("lay_out_images", "pack_matrix_products", "fuse_maps"),
    "assign_halos": ("lay_out_images", "fuse_maps", "fuse_epilogues"),
}
"""Passes that run before the one under test, because its input has no text of its own (packed weights)."""
_DIGEST = re.compile(r'"(derived|sha256):[0-9a-f]{64}"')


def name_of(case: Path) -> str:
    return f"{case.parent}-{case.name.removesuffix('.in.graph')}"


def rewrite(case: Path, names: tuple[str, ...]) -> tuple[ExecutionGraph, PassReport]:
    graph, report = parse_graph((HERE / case).read_text(encoding="utf-8")), PassReport()
    for name in names:
        graph = PASSES[name](graph, AVX2, report)
        verify(graph)
    return graph, report


def passes_of(case: Path) -> tuple[str, ...]:
    name = str(case.parent)
    return (*PREPARATION.get(name, ()), name)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_pass_writes_the_expected_graph(case: Path) -> None:
    graph, _ = rewrite(case, passes_of(case))
    text = _DIGEST.sub(r'"\1"', format_graph(graph))
    golden = HERE / case.with_name(case.name.replace(".in.", ".out."))
    if os.environ.get("PLUMBLINE_UPDATE_GOLDEN") == "1":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_pass_keeps_the_outputs(case: Path) -> None:
    """L2-04."""
    before, _ = rewrite(case, ())
    after, _ = rewrite(case, passes_of(case))
    rng = np.random.default_rng(0)
    shapes = {name: before.type_of(tensor).shape for name, tensor in before.inputs.items()}
    sizes = {name: tuple(d if isinstance(d, int) else 3 for d in shape) for name, shape in shapes.items()}
    inputs = {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    expected, found = evaluate_graph(before, inputs), evaluate_graph(after, inputs)
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_second_run_of_the_pass_changes_nothing(case: Path) -> None:
    once, _ = rewrite(case, passes_of(case))
    twice = PASSES[str(case.parent)](once, AVX2, PassReport())
    assert format_graph(twice) == format_graph(once)


def test_every_pass_of_the_fast_path_has_cases() -> None:
    assert {str(case.parent) for case in CASES} >= {
        "fold_channel_scales", "sink_channel_shuffles", "lay_out_images", "pack_matrix_products", "fuse_maps",
        "fuse_epilogues", "assign_halos", "gather_own_rows",
    }  # fmt: skip
