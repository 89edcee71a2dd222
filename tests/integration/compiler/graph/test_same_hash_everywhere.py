"""One model has one hash and one order, whatever process or hash seed builds it (L2-11, L2-15)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

PROGRAM = """
import sys
from pathlib import Path
from plumbline.compiler.importers.onnx import ImportOptions, import_onnx
from plumbline.compiler.passes.pipeline import run_passes
from plumbline.compiler.graph.text import format_graph
from plumbline.kernels.emit.target import AVX2
import hashlib
graph = import_onnx(Path(sys.argv[1]), ImportOptions(symbols={"batch": 8}))
passed, _ = run_passes(graph, AVX2)
print(graph.digest, passed.digest, hashlib.sha256(format_graph(passed).encode()).hexdigest())
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Six branches that are named alike, one large weight."""
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((64, 64)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"], name="fc")]
    nodes += [
        helper.make_node(op, ["m"], [f"b{i}"])
        for i, op in enumerate(["Relu", "Tanh", "Neg", "Abs", "Exp", "Relu"])
    ]
    nodes.append(helper.make_node("Sum", [f"b{i}" for i in range(6)], ["y"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g",
        [value("x", TensorProto.FLOAT, ["batch", 64])], [value("y", TensorProto.FLOAT, ["batch", 64])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )
    return path


def test_processes_with_other_hash_seeds_build_the_same_graph(model: Path) -> None:
    seen = set()
    for seed in ("0", "1", "4242", "random"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(model)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        seen.add(done.stdout)
    assert len(seen) == 1


def test_copies_of_a_file_elsewhere_have_the_same_hash(model: Path, tmp_path: Path) -> None:
    """The hash covers content, not places."""
    from plumbline.compiler.importers.onnx import ImportOptions, import_onnx

    (tmp_path / "folder").mkdir()
    copy = tmp_path / "folder" / "m.onnx"
    copy.write_bytes(model.read_bytes())
    options = ImportOptions(symbols={"batch": 8})
    assert import_onnx(model, options).digest == import_onnx(copy, options).digest
    assert import_onnx(model.read_bytes(), options).symbols == {"batch": 8}
