"""The models of the suite: right outputs, tight plans (issue 2, sections 3 and 6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from plumbline.compiler.build import plan_graph
from plumbline.config.settings import read_settings
from plumbline.product.bench.engines import OURS, Request, prepare
from plumbline.product.bench.light import LIGHT_NAMES
from plumbline.product.bench.models import MODELS, make_inputs
from plumbline.product.bench.rows import compare_outputs
from plumbline.product.compose import LoadOptions, build_options, read_graph

SLOW = ("alexnet", "vgg19", "zfnet512")
"""Hundreds of megabytes of weights."""
TOLERANCE = 2e-5
"""Largest difference, relative to the largest output: float32 sums in another order, 120 layers deep."""
EVERY = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MODELS]


def write(name: str, folder: Path) -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(MODELS[name].write())
    return path


def test_the_suite_holds_every_light_architecture() -> None:
    assert set(LIGHT_NAMES) <= set(MODELS)


@pytest.mark.parametrize("name", EVERY)
def test_outputs_match_onnxruntime_on_one_and_on_two_threads_bit_for_bit_between_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    path = write(name, tmp_path)
    inputs = make_inputs(onnx.load(path), seed=11)
    found: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for engine, threads in ((OURS, 1), (OURS, 2), ("onnxruntime", 1)):
        prepared = prepare(engine, Request(path=path, inputs=inputs, threads=threads))
        prepared.run()
        found[engine, threads] = prepared.outputs()
        prepared.close()
    one, two = found[OURS, 1], found[OURS, 2]
    assert {n: a.tobytes() for n, a in one.items()} == {n: a.tobytes() for n, a in two.items()}
    assert compare_outputs(one, found["onnxruntime", 1]) < TOLERANCE


@pytest.mark.parametrize("name", EVERY)
def test_a_plan_is_within_a_twentieth_of_its_lower_bound(name: str, tmp_path: Path) -> None:
    """L2-18; no weight is read for a plan."""
    options = LoadOptions(threads=2)
    graph = read_graph(str(write(name, tmp_path)), options)
    plan = plan_graph(graph, build_options(options, read_settings()))[2].allocation
    assert plan.lower_bound_bytes <= plan.peak_bytes <= 1.05 * plan.lower_bound_bytes
