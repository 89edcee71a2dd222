"""`max_segment_ns` and `streams` from a user's view."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import plumbline
from plumbline.compiler.planning.segments import SegmentLimitRefused
from plumbline.errors import ValidationError

from .conftest import ROWS, WIDTH


@pytest.fixture
def onnx_bytes(tmp_path, monkeypatch) -> bytes:
    """The two branches as a model file."""
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    return two_branch_model(ROWS, WIDTH)


def two_branch_model(rows: int, width: int) -> bytes:
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(7)
    nodes, weights, outputs = [], [], []
    for branch in "ab":
        tensor = "x"
        for number, activation in enumerate(("Relu", "Tanh")):
            weight, name = f"w{branch}{number}", f"{branch}{number}"
            array = rng.standard_normal((width, width)).astype(np.float32) / 7
            weights.append(onnx.numpy_helper.from_array(array, weight))
            nodes.append(onnx.helper.make_node("MatMul", [tensor, weight], [f"{name}_product"]))
            nodes.append(onnx.helper.make_node(activation, [f"{name}_product"], [name]))
            tensor = name
            outputs.append(name)
    nodes.append(onnx.helper.make_node("Add", ["a1", "b1"], ["y"]))
    info = [onnx.helper.make_tensor_value_info(n, 1, [rows, width]) for n in ("x", *outputs, "y")]
    graph = onnx.helper.make_graph(nodes, "two_branches", info[:1], info[1:], weights)
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_limit_cuts_the_program_and_changes_no_bit(onnx_bytes, threads):
    x = np.random.default_rng(1).standard_normal((ROWS, WIDTH)).astype(np.float32)
    with plumbline.load(onnx_bytes, threads=threads) as whole:
        expected = whole.run({"x": x})
        total_ns = sum(whole.manifest.segment_ns)
        assert len(whole.manifest.segments) == 1
    for limit_ns in (1, total_ns // 2, total_ns, 10 * total_ns):
        with plumbline.load(onnx_bytes, threads=threads, max_segment_ns=limit_ns) as model:
            found = model.run({"x": x})
            longest = max(model.manifest.segment_ns)
            assert longest <= limit_ns or limit_ns == 1
            assert (len(model.manifest.segments) == 1) == (limit_ns >= total_ns)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


def test_two_streams_give_the_same_bits_and_leave_no_handle(onnx_bytes):
    x = np.random.default_rng(2).standard_normal((ROWS, WIDTH)).astype(np.float32)
    with plumbline.load(onnx_bytes) as whole:
        expected = whole.run({"x": x})
    with plumbline.load(onnx_bytes, max_segment_ns=1, streams=2, contexts=2) as model:
        registry = model._device.registry
        opened = registry.live
        for _ in range(20):
            found = model.run({"x": x})
            for name, array in expected.items():
                np.testing.assert_array_equal(found[name], array)
        assert {node.stream for node in model._nodes} == {"s0", "s1"}
    assert registry.live < opened
    assert registry.live_by_kind().get("event", 0) == 0


def test_a_limit_of_no_time_is_refused(onnx_bytes):
    with pytest.raises(SegmentLimitRefused, match="at least 1 ns"):
        plumbline.load(onnx_bytes, max_segment_ns=0)


def test_no_stream_is_refused(onnx_bytes):
    with pytest.raises(ValidationError, match="streams = 0"):
        plumbline.load(onnx_bytes, streams=0)


def test_every_executable_records_specialisation_and_dispatch(onnx_bytes):
    """L1-06, L1-07, L2-09: two fields, in the build record of a model that is not partitioned as well."""
    with plumbline.load(onnx_bytes) as model:
        made, used = model.manifest.selection["specialisation"], model.manifest.selection["dispatch"]
        assert (made["path"], made["target"]) == ("vendor", model.manifest.target)
        assert (used["backend"], used["candidates"]) == ("cpu", ["cpu"])


def test_streams_of_several_threads_share_a_context_without_losing_a_tile(tmp_path, monkeypatch):
    """L2-25: two lanes of two threads claim tiles of different segments at once, many times over."""
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    model_bytes = two_branch_model(96, 320)
    x = np.random.default_rng(4).standard_normal((96, 320)).astype(np.float32)
    with plumbline.load(model_bytes) as whole:
        expected = whole.run({"x": x})
    with plumbline.load(model_bytes, threads=2, streams=2, max_segment_ns=1) as model:
        assert model.manifest.threads == 2
        context = model.context()
        context.inputs["x"][...] = x
        for _ in range(150):
            context.fill_arena(0xFF)
            context.inputs["x"][...] = x
            context.run()
            assert all(np.array_equal(context.outputs[name], expected[name]) for name in expected)


def test_a_build_for_streams_lets_branches_overlap_that_memory_would_order(tmp_path, monkeypatch):
    """L2-25: one branch reuses the memory of the other unless streams are asked for."""
    onnx = pytest.importorskip("onnx")
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    whole = onnx.load_from_string(two_branch_model(ROWS, WIDTH))
    del whole.graph.output[:-1]
    x = np.random.default_rng(8).standard_normal((ROWS, WIDTH)).astype(np.float32)
    waits = {}
    results = []
    for streams in (1, 2):
        options = {"max_segment_ns": 1, "streams": streams}
        with plumbline.load(whole.SerializeToString(), **options) as model:
            results.append(model.run({"x": x})["y"])
            operations, after = model.manifest.step_names, model.manifest.segment_after
            first = {name: index for index, name in enumerate(operations)}
            branch = [name[0] for name in first]
            waits[streams] = sum(
                branch[producer] != branch[consumer]
                for consumer, needs in enumerate(after[:-1])
                for producer, _ in needs
            )
    np.testing.assert_array_equal(results[0], results[1])
    assert waits[1] > 0
    assert waits[2] == 0


def test_the_order_of_a_foreign_artifact_is_made_again_and_not_believed(onnx_bytes, tmp_path):
    """L2-25: a manifest that drops the order between segments does not become a race."""
    x = np.random.default_rng(2).standard_normal((ROWS, WIDTH)).astype(np.float32)
    with plumbline.load(onnx_bytes, max_segment_ns=1, streams=2) as model:
        expected, order = model.run({"x": x}), model.manifest.segment_after
        shutil.copytree(model.folder, tmp_path / "foreign")
    path = tmp_path / "foreign" / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["segment_after"] = [[] for _ in document["segments"]]
    path.write_text(json.dumps(document), encoding="utf-8")
    with plumbline.load(tmp_path / "foreign", streams=2) as model:
        assert model.manifest.segment_after == order
        found = model.run({"x": x})
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
