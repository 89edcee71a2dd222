"""Rows of one model: every engine prepares it, outputs are compared, then the engines take turns."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from plumbline.errors import PlumblineError
from plumbline.product.bench.blocks import Figures, find_ratio, select_blocks
from plumbline.product.bench.busy_core import BusyCore
from plumbline.product.bench.engines import OURS, PeerRefused, Prepared, Request, prepare
from plumbline.product.bench.measure import BlockOptions, measure_engines
from plumbline.product.bench.models import BenchModel, make_inputs
from plumbline.product.bench.operations_count import count_operations

__all__ = ["RowOptions", "compare_outputs", "measure_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOptions:
    """What to measure of a model.

    Attributes:
        peers: engines beside ours.
        threads: numbers of threads, one row each.
        peak_gflops: measured peak for each number of threads.
        blocks: how to measure.
        busy_core: keep one core busy with a process of our own.
    """

    peers: tuple[str, ...]
    threads: tuple[int, ...]
    peak_gflops: Mapping[int, float]
    blocks: BlockOptions = field(default_factory=BlockOptions)
    busy_core: bool = False


def measure_model(model: BenchModel, options: RowOptions) -> list[dict[str, Any]]:
    """A row for each number of threads.

    Raises:
        PeerMissing: a peer is unknown or not installed.
    """
    with tempfile.TemporaryDirectory(prefix="plumb-bench-") as folder:
        path = Path(folder) / f"{model.name}.onnx"
        try:
            data = model.write()
        except PlumblineError as error:
            return [{"model": model.name, "threads": t, "refused": error.to_dict()} for t in options.threads]
        path.write_bytes(data)
        graph = onnx.load_from_string(data)
        inputs, operations = make_inputs(graph), count_operations(graph)
        del data, graph
        requests = [Request(path=path, inputs=inputs, threads=count) for count in options.threads]
        return [_measure_row(model, request, options, operations) for request in requests]


def _measure_row(model: BenchModel, request: Request, options: RowOptions, operations: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": model.name,
        "threads": request.threads,
        "wanted": model.wanted.get(request.threads),
        "mflop": operations / 1e6,
    }
    with ExitStack() as stack:
        engines = _prepare_all(request, options.peers, row)
        for engine in engines.values():
            stack.callback(engine.close)
        row["max_error"] = _errors(engines)
        busy = stack.enter_context(BusyCore()) if options.busy_core else None
        blocks = replace(options.blocks, children=() if busy is None else busy.processes)
        measured = measure_engines({name: engine.run for name, engine in engines.items()}, blocks)
    figures = {name: select_blocks(found, blocks.wanted) for name, found in measured.items()}
    return {**row, **_results(figures, operations, options.peak_gflops[request.threads])}


def _prepare_all(request: Request, peers: tuple[str, ...], row: dict[str, Any]) -> dict[str, Prepared]:
    """The engines that take the model; who refuses it is written into `row`."""
    engines: dict[str, Prepared] = {}
    try:
        engines[OURS] = prepare(OURS, request)
    except PlumblineError as error:
        row["refused"] = error.to_dict()
    for name in peers:
        try:
            engines[name] = prepare(name, request)
        except PeerRefused as error:
            row.setdefault("peers_refused", {})[name] = error.reason
    return engines


def _errors(engines: Mapping[str, Prepared]) -> dict[str, float]:
    """Largest difference of our outputs from each peer's, relative to the largest output of the peer."""
    for engine in engines.values():
        engine.run()
    if OURS not in engines:
        return {}
    ours = engines[OURS].outputs()
    return {name: compare_outputs(ours, engine.outputs()) for name, engine in engines.items() if name != OURS}


def compare_outputs(ours: Mapping[str, np.ndarray], peers: Mapping[str, np.ndarray]) -> float:
    """Largest absolute difference over all outputs, relative to the largest magnitude of the peer's output.

    Outputs are matched by name, or by position where a peer renames them. Different shapes, and NaN in
    different places, give infinity.
    """
    worst = 0.0
    pairs = [(ours[n], peers.get(n, other)) for n, other in zip(ours, peers.values(), strict=True)]
    for mine, theirs in pairs:
        if mine.shape != theirs.shape or not np.array_equal(np.isnan(mine), np.isnan(theirs)):
            return float("inf")
        largest = float(np.max(np.abs(theirs), initial=0.0)) or 1.0
        difference = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
        worst = max(worst, float(np.max(difference, initial=0.0)) / largest)
    return worst


def _results(figures: Mapping[str, Figures], operations: int, peak: float) -> dict[str, Any]:
    peers = {name: f for name, f in figures.items() if name != OURS}
    result: dict[str, Any] = {
        "peers_ms": {name: f.median_s * 1e3 for name, f in peers.items()},
        "p10_ms": {name: f.p10_s * 1e3 for name, f in figures.items()},
        "kept_blocks": {name: f.kept_blocks for name, f in figures.items()},
        "disturbed": any(f.disturbed for f in figures.values()),
        "peers_gflops": {name: operations / f.median_s / 1e9 for name, f in peers.items()},
    }
    ours = figures.get(OURS)
    if ours is not None:
        rate = operations / ours.median_s / 1e9
        result |= {
            "ours_ms": ours.median_s * 1e3,
            "gflops": rate,
            "peak_fraction": rate / peak,
            "ratio": find_ratio(ours.median_s, {name: f.median_s for name, f in peers.items()}),
            "p10_ratio": find_ratio(ours.p10_s, {name: f.p10_s for name, f in peers.items()}),
        }
    return result
