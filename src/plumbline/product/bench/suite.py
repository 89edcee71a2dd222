"""Runs the suite: for each model and number of threads one row."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from plumbline.compiler.build import choose_target
from plumbline.errors import PlumblineError
from plumbline.hardware.host.processor import measure_processor
from plumbline.product.bench.blocks import Figures, find_ratio, geometric_mean, select_blocks
from plumbline.product.bench.busy_core import BusyCore
from plumbline.product.bench.engines import OURS, Prepared, Request, prepare, version_of
from plumbline.product.bench.measure import BlockOptions, measure_engines
from plumbline.product.bench.models import BenchModel, make_inputs
from plumbline.product.bench.operations_count import count_operations
from plumbline.product.bench.peak import measure_peak

__all__ = ["BenchOptions", "compare_outputs", "run_suite"]

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What to measure.

    Attributes:
        peers: engines beside ours.
        threads: numbers of threads, one row each.
        blocks: how to measure.
        busy_core: keep one core busy with a process of our own.
        progress: called with one line per finished row.
    """

    peers: tuple[str, ...]
    threads: tuple[int, ...]
    blocks: BlockOptions = field(default_factory=BlockOptions)
    busy_core: bool = False
    progress: Callable[[str], None] = lambda line: None


def run_suite(models: Sequence[BenchModel], options: BenchOptions) -> dict[str, Any]:
    """Measure every model; the document of `docs/benchmarks`.

    Raises:
        PeerMissing: a peer is unknown or not installed.
    """
    versions = {name: version_of(name) for name in (OURS, *options.peers)}
    target = choose_target(frozenset(measure_processor().flags))
    peak = measure_peak(target, options.threads)
    rows: list[dict[str, Any]] = []
    for model in models:
        for row in _measure_model(model, options, peak):
            rows.append(row)
            options.progress(_line(row))
        gc.collect()
    ratios = [row["ratio"] for row in rows if row.get("ratio") is not None]
    return {
        "schema_version": SCHEMA_VERSION,
        "rows": rows,
        "geomean_ratio": geometric_mean(ratios),
        "contended": options.busy_core,
        "measured_peak_gflops": {str(count): rate for count, rate in peak.items()},
        "target": target.name,
        "machine": _machine(),
        "versions": {**versions, "python": platform.python_version(), "onnx": onnx.__version__},
        "commit": _commit(),
    }


def _measure_model(
    model: BenchModel, options: BenchOptions, peak: Mapping[int, float]
) -> list[dict[str, Any]]:
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
        return [
            _measure_row(
                model, Request(path=path, inputs=inputs, threads=count), options, operations, peak[count]
            )
            for count in options.threads
        ]


def _measure_row(
    model: BenchModel, request: Request, options: BenchOptions, operations: int, peak: float
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": model.name,
        "threads": request.threads,
        "wanted": model.wanted.get(request.threads),
        "mflop": operations / 1e6,
    }
    with ExitStack() as stack:
        engines: dict[str, Prepared] = {}
        for name in (OURS, *options.peers):
            try:
                engines[name] = prepare(name, request)
                stack.callback(engines[name].close)
            except PlumblineError as error:
                row["refused"] = error.to_dict()
                if name != OURS:
                    raise
        row["max_error"] = _errors(engines)
        busy = stack.enter_context(BusyCore()) if options.busy_core else None
        figures = _figures(engines, options.blocks, () if busy is None else busy.processes)
    return {**row, **_results(figures, operations, peak)}


def _figures(
    engines: Mapping[str, Prepared], blocks: BlockOptions, children: tuple[int, ...]
) -> dict[str, Figures]:
    chosen = BlockOptions(
        wanted=blocks.wanted,
        rounds=blocks.rounds,
        block_s=blocks.block_s,
        settle_s=blocks.settle_s,
        children=children,
    )
    measured = measure_engines({name: engine.run for name, engine in engines.items()}, chosen)
    return {name: select_blocks(found, blocks.wanted) for name, found in measured.items()}


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
        }
    return result


def _line(row: Mapping[str, Any]) -> str:
    name = f"{row['model']}, {row['threads']} threads"
    if "ours_ms" not in row:
        return f"{name}: refused: {row['refused']['message']}"
    peers = ", ".join(f"{peer} {ms:.4f}" for peer, ms in row["peers_ms"].items())
    ratio = "no peer" if row["ratio"] is None else f"ratio {row['ratio']:.2f}"
    return f"{name}: {row['ours_ms']:.4f} ms ({peers}), {ratio}{', disturbed' if row['disturbed'] else ''}"


def _machine() -> dict[str, Any]:
    processor = measure_processor()
    return {
        "processor": processor.model,
        "usable_cores": processor.usable_cores,
        "vector_isa": processor.vector_isa,
        "system": f"{platform.system()} {platform.release()}",
    }


def _commit() -> str | None:
    """The commit of the checkout that this package lies in, `+` where it differs; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src")
    return commit if commit is None or not changed else f"{commit}+"
