"""Sources of plug-ins take part in the key of cached executables."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from plumbline.compiler.cache import source_fingerprint
from plumbline.compiler.importers.onnx import registry as converters
from plumbline.kernels import registry
from plumbline.product.compose import load

SOURCE = """
from plumbline.compiler.importers.onnx.registry import converts
from plumbline.kernels.contract import OperationContract, Precision, Work
from plumbline.kernels.registry import register

class Kernel:
    def work(self, signature, target):
        return Work(units=1)

    def emit(self, call):
        b, x, y = call.builder, call.input(0), call.output()
        with b.when(b.compare("eq", b.index(call.begin), b.index(0))), b.range(0, x.elements) as i:
            y.store_flat(x.load_flat(i) * FACTOR, i)

def infer(inference):
    return (inference.type(0),)

def reference(inputs, attributes):
    return (inputs[0] * inputs[0].dtype.type(FACTOR),)

register(OperationContract(name="plugged_scale", infer=infer, reference=reference, kernel=Kernel(),
                           precision=Precision()))

@converts("PluggedScale", domain="com.test")
def convert(node):
    return node.add1("plugged_scale", [node.input(0)])
"""
MODEL = """<ir_version: 8, opset_import: ["": 17, "com.test": 1]>
scales (float[3] x) => (float[3] y) { y = com.test.PluggedScale(x) }"""


@pytest.fixture(autouse=True)
def restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    registry.operations()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    yield
    _forget()


def _forget() -> None:
    registry._contracts.pop("plugged_scale", None)
    converters._converters.pop(("com.test", "PluggedScale"), None)
    sys.modules.pop("plugged_module", None)


def plug_in(folder: Path, factor: float, time_ns: int) -> ModuleType:
    """Write the plug-in and import it as a new process would."""
    _forget()
    path = folder / "plugged_module.py"
    path.write_text(SOURCE.replace("FACTOR", str(factor)))
    os.utime(path, ns=(time_ns, time_ns))
    importlib.invalidate_caches()
    return importlib.import_module("plugged_module")


def run() -> list[float]:
    model = load(onnx.parser.parse_model(MODEL).SerializeToString())
    return list(model.run({"x": np.array([1, 2, 3], np.float32)})["y"])


def test_changed_kernel_of_a_plugin_gives_a_new_executable(tmp_path: Path) -> None:
    """Same model, same operation name: only the source of the plug-in differs."""
    plug_in(tmp_path, 2.0, 10**18)
    before = source_fingerprint()
    assert run() == [2, 4, 6]
    plug_in(tmp_path, 3.0, 10**18 + 10**10)
    assert source_fingerprint() != before
    assert run() == [3, 6, 9]


def test_unchanged_plugin_keeps_the_fingerprint(tmp_path: Path) -> None:
    plug_in(tmp_path, 2.0, 10**18)
    before = source_fingerprint()
    plug_in(tmp_path, 2.0, 10**18)
    assert source_fingerprint() == before
    _forget()
    assert source_fingerprint() != before


def test_plugin_without_a_source_file_shares_nothing_with_another_definition() -> None:
    found = []
    for factor in ("2.0", "3.0"):
        _forget()
        exec(compile(SOURCE.replace("FACTOR", factor), "<prompt>", "exec"), {"__name__": "prompt"})
        found.append((source_fingerprint(), run(), registry.get_operation("plugged_scale")))
    assert found[0][0] != found[1][0]
    assert [values for _, values, _ in found] == [[2, 4, 6], [3, 6, 9]]
