"""Compiled graphs of two branches, opened by hand so that a test chooses device and streams."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plumbline.compiler.build import BuildOptions, compile_graph
from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.lowering.link import JitLibrary
from plumbline.contracts.tensors import DType, TensorType
from plumbline.execution.artifact import Manifest
from plumbline.testing.models import widest_target

ROWS, WIDTH = 16, 48


@pytest.fixture
def two_branches() -> ExecutionGraph:
    """x -> a -> a2 and x -> b -> b2, joined by y = a2 + b2. All are returned: no memory is reused."""
    rng = np.random.default_rng(7)
    builder = GraphBuilder("two_branches")
    x = builder.input("x", TensorType(DType.FLOAT32, (ROWS, WIDTH)))
    ends = []
    for branch in ("a", "b"):
        tensor = x
        for number, activation in enumerate(("relu", "tanh")):
            weight = builder.constant(
                rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 7, f"w{branch}{number}"
            )
            product = builder.add1("matmul", [tensor, weight], name=f"{branch}{number}_product")
            tensor = builder.add1(activation, [product], name=f"{branch}{number}")
            builder.output(f"{branch}{number}", tensor)
        ends.append(tensor)
    builder.output("y", builder.add1("add", ends, name="y"))
    return builder.build()


class Compiled:
    """An executable with its code and weights in memory."""

    def __init__(self, manifest: Manifest, folder: Path, report: object) -> None:
        self.manifest, self.report = manifest, report
        self.library = JitLibrary((folder / "code.o").read_bytes(), manifest.name)
        self.weights = np.memmap(folder / "weights.bin", np.uint8, "r")  # page-aligned, as code expects
        self.entries = tuple(self.library.address(plain) for plain, _ in manifest.segments)


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Compiled]:
    def make(graph: ExecutionGraph, *, threads: int = 1, max_segment_ns: int | None = None) -> Compiled:
        folder = tmp_path / f"{threads}-{max_segment_ns}"
        folder.mkdir()
        options = BuildOptions(target=widest_target(), threads=threads, max_segment_ns=max_segment_ns)
        build = compile_graph(graph, options, folder)
        return Compiled(build.manifest, folder, build.passes)

    return make
