"""Runs the suite: each model in a child process; one that ends its process costs its own rows only."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx

from plumbline.compiler.build import choose_target
from plumbline.hardware.host.processor import measure_processor
from plumbline.product.bench.blocks import geometric_mean
from plumbline.product.bench.engines import OURS, version_of
from plumbline.product.bench.measure import BlockOptions
from plumbline.product.bench.models import BenchModel
from plumbline.product.bench.peak import measure_peak
from plumbline.product.bench.rows import RowOptions

__all__ = ["BenchOptions", "commit_of_checkout", "machine_facts", "read_options", "run_suite"]

SCHEMA_VERSION = 1
MODEL_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What to measure.

    Attributes:
        peers: engines beside ours.
        threads: numbers of threads, one row each.
        blocks: how to measure.
        busy_core: keep one core busy with a process of our own.
        starting: called with the name of each model before it is measured.
        progress: called with one line per finished row.
    """

    peers: tuple[str, ...]
    threads: tuple[int, ...]
    blocks: BlockOptions = field(default_factory=BlockOptions)
    busy_core: bool = False
    starting: Callable[[str], None] = lambda model: None
    progress: Callable[[str], None] = lambda line: None


def run_suite(models: Sequence[BenchModel], options: BenchOptions) -> dict[str, Any]:
    """Measure every model; the document of `docs/benchmarks`.

    Raises:
        PeerMissing: a peer is unknown or not installed.
    """
    versions = {name: version_of(name) for name in (OURS, *options.peers)}
    target = choose_target(frozenset(measure_processor().flags))
    peak = measure_peak(target, options.threads)
    chosen = RowOptions(
        peers=options.peers,
        threads=options.threads,
        peak_gflops=peak,
        blocks=options.blocks,
        busy_core=options.busy_core,
    )
    rows: list[dict[str, Any]] = []
    for model in models:
        options.starting(model.name)
        rows += (found := _rows_of(model.name, chosen))
        for row in found:
            options.progress(_line(row))
    ratios = [row["ratio"] for row in rows if row.get("ratio") is not None]
    return {
        "schema_version": SCHEMA_VERSION,
        "rows": rows,
        "geomean_ratio": geometric_mean(ratios),
        "contended": options.busy_core,
        "measured_peak_gflops": {str(count): rate for count, rate in peak.items()},
        "target": target.name,
        "machine": machine_facts(),
        "versions": {**versions, "python": platform.python_version(), "onnx": onnx.__version__},
        "commit": commit_of_checkout(),
    }


def _rows_of(model: str, options: RowOptions) -> list[dict[str, Any]]:
    """Rows from a child process, or rows that say how it ended."""
    command = [sys.executable, "-m", "plumbline.product.bench.worker", model, json.dumps(asdict(options))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MODEL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return [_crashed(model, count, f"no answer in {MODEL_TIMEOUT_S:.0f} s") for count in options.threads]
    if done.returncode == 0:
        rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return rows
    words = " ".join(done.stderr.split())[-400:]
    return [_crashed(model, count, f"exit {done.returncode}: {words}") for count in options.threads]


def read_options(text: str) -> RowOptions:
    """Options from the JSON text that a child process is given."""
    document = json.loads(text)
    blocks = {**document["blocks"], "children": tuple(document["blocks"]["children"])}
    return RowOptions(
        peers=tuple(document["peers"]),
        threads=tuple(document["threads"]),
        peak_gflops={int(count): rate for count, rate in document["peak_gflops"].items()},
        blocks=BlockOptions(**blocks),
        busy_core=document["busy_core"],
    )


def _crashed(model: str, threads: int, reason: str) -> dict[str, Any]:
    return {"model": model, "threads": threads, "crashed": reason}


def _line(row: Mapping[str, Any]) -> str:
    name = f"{row['model']}, {row['threads']} threads"
    if "crashed" in row:
        return f"{name}: crashed: {row['crashed']}"
    if "ours_ms" not in row:
        return f"{name}: refused: {row['refused']['message']}"
    peers = ", ".join(f"{peer} {ms:.4f}" for peer, ms in row["peers_ms"].items())
    ratio = "no peer" if row["ratio"] is None else f"ratio {row['ratio']:.2f}"
    return f"{name}: {row['ours_ms']:.4f} ms ({peers}), {ratio}{', disturbed' if row['disturbed'] else ''}"


def machine_facts() -> dict[str, Any]:
    """The machine that a figure is a record of."""
    processor = measure_processor()
    return {
        "processor": processor.model,
        "usable_cores": processor.usable_cores,
        "vector_isa": processor.vector_isa,
        "system": f"{platform.system()} {platform.release()}",
    }


def commit_of_checkout() -> str | None:
    """The commit of the checkout that this package lies in, `+` where it differs; None outside a checkout."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/src")
    return commit if commit is None or not changed else f"{commit}+"
