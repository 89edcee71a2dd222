"""Graphs and ONNX bytes as loaded models, without the product's settings and cache: for suites and tests."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from plumbline.compiler.build import BuildOptions, choose_target, compile_graph
from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.lowering.link import JitLibrary
from plumbline.engine.model import Model
from plumbline.execution.artifact import read_manifest
from plumbline.execution.code import CodeLibrary, SharedLibrary
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.host.processor import measure_processor
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["open_model", "widest_target"]


def open_model(
    graph: ExecutionGraph, folder: Path, *, threads: int = 1, target: TargetDescription | None = None
) -> Model:
    """Compile a graph into an empty folder and open it.

    Args:
        graph: verified graph.
        folder: receives the executable; it must outlive the model.
        threads: threads of one context.
        target: instruction set; default the widest of this machine.

    Raises:
        PlumblineError: whatever the compiler refuses.
    """
    compile_graph(graph, BuildOptions(target=target or widest_target(), threads=threads), folder)
    manifest = read_manifest(folder)
    path = folder / "weights.bin"
    weights = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    return Model(manifest, weights, _library(folder, manifest.name), _device(), folder=folder)


@lru_cache(maxsize=1)
def widest_target() -> TargetDescription:
    """The widest instruction set that this machine runs."""
    return choose_target(frozenset(measure_processor().flags or ()))


@lru_cache(maxsize=1)
def _device() -> CpuDevice:
    return CpuDevice(max_streams=4096)


def _library(folder: Path, name: str) -> CodeLibrary:
    shared = folder / "code.so"
    return SharedLibrary(shared) if shared.is_file() else JitLibrary((folder / "code.o").read_bytes(), name)
