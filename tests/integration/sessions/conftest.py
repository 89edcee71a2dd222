"""Versions in folders, as a worker gets them."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSettings, VersionSpec

_PATH = Path(__file__).parents[2] / "differential" / "huggingface" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("tiny_encoders", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _MODULE
_SPEC.loader.exec_module(_MODULE)
tiny = _MODULE.tiny

MakeSpec = Callable[..., VersionSpec]


def classifier(rows: str | int = "N", width: int = 6, seed: int = 1) -> bytes:
    """`scores = softmax(x @ w)` over `x [rows, width]`."""
    weights = np.random.default_rng(seed).standard_normal((width, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["scores"])],
        "classifier", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [rows, 3])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


@pytest.fixture
def make_spec(tmp_path: Path) -> MakeSpec:
    """A version of files by name."""

    def make(
        model: str, kind: VersionKind, entry: str, files: dict[str, bytes], *,
        stages: tuple[VersionSpec, ...] = (), **settings: object,
    ) -> VersionSpec:  # fmt: skip
        folder = tmp_path / model
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        digest = hashlib.sha256(b"".join(files.values())).hexdigest()
        return VersionSpec(
            ref=VersionRef(model=model, version="1"), kind=kind, folder=folder, entry=entry, digest=digest,
            settings=VersionSettings(**settings), stages=stages,  # type: ignore[arg-type]
        )  # fmt: skip

    return make
