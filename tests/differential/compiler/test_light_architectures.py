"""The light architectures of the `onnx` package, with seeded random weights, against ONNX Runtime (L2-02).

Their stored outputs are one repeated value and prove little, so weights are drawn from a seed: a wrong
layout, pad, stride or channel order shows in every element.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import plumbline
from plumbline.product.bench.light import LIGHT_NAMES, light_input, write_light
from plumbline.testing.models import widest_target

SLOW = ("zfnet512", "alexnet", "vgg19")
"""Hundreds of megabytes of weights each."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For model and cache; removed at once, because weights are large."""
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def assert_matches_onnxruntime(name: str, folder: Path, target: str | None = None) -> None:
    path = folder / f"{name}.onnx"
    path.write_bytes(write_light(name, seed=11))
    label, shape = light_input(onnx.load(path, load_external_data=False))
    image = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    expected = dict(zip(names, session.run(None, {label: image}), strict=True))
    with plumbline.load(path, target=target) as model:
        found = model.run({label: image})
    assert found.keys() == expected.keys()
    for output, reference in expected.items():
        largest = float(np.abs(reference).max())
        assert np.ptp(reference) > 1e-3 * largest, "the oracle gives one repeated value"
        np.testing.assert_allclose(found[output], reference, rtol=1e-3, atol=1e-4 * largest)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in LIGHT_NAMES]
)
def test_light_architecture_matches_onnxruntime(name: str, folder: Path) -> None:
    assert_matches_onnxruntime(name, folder)


@pytest.mark.skipif(widest_target().name != "avx512", reason="the widest target is tested above")
@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_light_architecture_matches_onnxruntime_with_narrower_vectors(name: str, folder: Path) -> None:
    assert_matches_onnxruntime(name, folder, "avx2")
