"""The suite keeps going: a model that is refused or ends its process costs its own rows only."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest

from plumbline.product.bench import suite
from plumbline.product.bench.engines import PeerMissing, PeerRefused, Request, prepare, version_of
from plumbline.product.bench.measure import BlockOptions
from plumbline.product.bench.models import BenchModel
from plumbline.product.bench.rows import RowOptions, measure_model

QUICK = BlockOptions(wanted=1, rounds=1, block_s=0.0, settle_s=0.0)


def options(*peers: str) -> RowOptions:
    return RowOptions(peers=peers, threads=(1,), peak_gflops={1: 100.0}, blocks=QUICK)


def model_of(operator: str, domain: str = "") -> bytes:
    """A file with one node over float32 [2]."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, ["x"], ["y"], domain=domain)],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("odd", 1)]
    return bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def test_a_model_that_we_refuse_gives_a_row_with_the_error() -> None:
    (row,) = measure_model(BenchModel(name="odd", write=lambda: model_of("Odd", "odd")), options())
    assert row["refused"]["class"] == "validation"
    assert "ours_ms" not in row


def test_a_model_that_a_peer_refuses_is_measured_without_it() -> None:
    pytest.importorskip("onnxruntime")
    request = Request(path=Path("missing.onnx"), inputs={}, threads=1)
    with pytest.raises(PeerRefused):
        prepare("onnxruntime", request)


def test_a_peer_that_is_not_known_is_named() -> None:
    request = Request(path=Path("missing.onnx"), inputs={}, threads=1)
    for call in (lambda: prepare("abacus", request), lambda: version_of("abacus")):
        with pytest.raises(PeerMissing, match="abacus"):
            call()


@pytest.mark.parametrize("peer", ["onnxruntime", "openvino"])
def test_every_engine_computes_the_same_over_its_bound_buffers(peer: str, tmp_path: Path) -> None:
    pytest.importorskip(peer)
    path = tmp_path / "tanh.onnx"
    path.write_bytes(model_of("Tanh"))
    x = np.array([0.5, -2.0], np.float32)
    for engine in ("plumbline", peer):
        prepared = prepare(engine, Request(path=path, inputs={"x": x}, threads=1))
        prepared.run()
        (y,) = prepared.outputs().values()
        np.testing.assert_allclose(y, np.tanh(x), rtol=1e-6)
        prepared.close()


def test_options_survive_the_way_to_the_child_process() -> None:
    chosen = options("a", "b")
    assert suite.read_options(json.dumps(asdict(chosen))) == chosen


def test_a_child_that_ends_without_an_answer_becomes_a_row_that_says_how() -> None:
    (row,) = suite._rows_of("no such model", options())
    assert row["crashed"].startswith("exit 1: ")
    assert "KeyError" in row["crashed"]
