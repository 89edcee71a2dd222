"""Executables where the machine has no linker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import plumbline
from plumbline.compiler import build

MODEL = onnx.parser.parse_model(
    """<ir_version: 8, opset_import: ["": 17]>
    tiny (float[2, 3] x) => (float[2, 3] y) { z = Exp(x)
    y = Sin(z) }"""
).SerializeToString()


def test_executable_without_linker_is_loaded_by_llvm_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.array([[-1, 2, -3], [0.5, -5, 1]], np.float32)
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "linked"))
    with plumbline.load(MODEL) as linked:
        expected = linked.run({"x": x})["y"]
    monkeypatch.setattr(build, "find_linker", lambda: None)
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "object"))
    with plumbline.load(MODEL) as model:
        assert model.folder is not None
        assert not (model.folder / "code.so").exists()
        assert (model.folder / "code.o").exists()
        np.testing.assert_array_equal(model.run({"x": x})["y"], expected)
