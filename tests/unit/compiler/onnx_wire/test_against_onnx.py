"""Our reader and the `onnx` package agree on every field and element of real and built models (L3-04)."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.backend.test.case.node import collect_testcases

from plumbline.compiler.importers.onnx_wire import OnnxGraph, read_array, read_model, verify_names
from plumbline.compiler.importers.onnx_wire.data_types import DATA_TYPES

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
BUNDLED = sorted(DATA.rglob("*.onnx"))
DENSE = [code for code, entry in DATA_TYPES.items() if entry.carrier is not None]


def model_of(*tensors: onnx.TensorProto) -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", [t.name], [f"y_{t.name}"]) for t in tensors]
    outputs = [helper.make_tensor_value_info(f"y_{t.name}", t.data_type, None) for t in tensors]
    return helper.make_model(helper.make_graph(nodes, "g", [], outputs, list(tensors)))


def test_the_bundle_holds_models_to_compare() -> None:
    assert len(BUNDLED) > 100


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_bundled_model_reads_like_onnx(path: Path, same_model) -> None:
    ours = read_model(path)
    same_model(ours, onnx.load(path))
    verify_names(ours)


def test_every_node_test_of_onnx_reads_like_onnx(same_model) -> None:
    """1,884 generated models in onnx 1.23: every operator, every attribute kind, functions, nested graphs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    assert len(cases) > 1500
    for case in cases:
        ours = read_model(case.model.SerializeToString())
        same_model(ours, case.model)
        verify_names(ours)


def test_every_known_data_type_is_in_the_table() -> None:
    codes = {code for name, code in TensorProto.DataType.items() if code}
    assert set(DATA_TYPES) == codes


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 33])
@pytest.mark.parametrize("code", DENSE, ids=lambda code: DATA_TYPES[code].name)
def test_raw_elements_of_every_type_read_like_onnx(code: int, count: int, same_model) -> None:
    size = DATA_TYPES[code].packed_bytes(count)
    rng = np.random.default_rng(count)
    raw = rng.integers(0, 2 if code == TensorProto.BOOL else 256, size, dtype=np.uint8).tobytes()
    tensor = TensorProto(name="t", data_type=code, dims=[count], raw_data=raw)
    model = model_of(tensor)
    same_model(read_model(model.SerializeToString()), model)


@pytest.mark.parametrize("code", DENSE, ids=lambda code: DATA_TYPES[code].name)
def test_typed_elements_of_every_type_read_like_onnx(code: int, same_model) -> None:
    """Small types in int32_data, packed types sharing entries, unsigned ones in uint64_data."""
    values = [0, 1, 1, 0, 1] if code == TensorProto.BOOL else [0, 1, 1, 1, 0]
    tensor = helper.make_tensor("t", code, [5], values)
    model = model_of(tensor)
    same_model(read_model(model.SerializeToString()), model)


@pytest.mark.parametrize("code", DENSE, ids=lambda code: DATA_TYPES[code].name)
def test_typed_extremes_of_every_type_read_like_onnx(code: int, same_model) -> None:
    entry = DATA_TYPES[code]
    bits = min(entry.bits, 32)
    signed = entry.is_signed and entry.bits >= 8 and code != TensorProto.FLOAT16
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << max(bits, 8)) - 1)
    if code == TensorProto.BOOL:
        low, high = 0, 1
    tensor = TensorProto(name="t", data_type=code)
    items = [low, high, low, high, 1]
    if entry.field == "float_data":
        tensor.float_data.extend([0.5, -0.0, float("inf"), float("nan"), 1e-45])
    elif entry.field == "double_data":
        tensor.double_data.extend([0.5, -0.0, float("inf"), float("nan"), 5e-324])
    elif entry.field == "int64_data":
        tensor.int64_data.extend([-(1 << 63), (1 << 63) - 1, -1, 0, 1])
    elif entry.field == "uint64_data":
        tensor.uint64_data.extend([0, (1 << entry.bits) - 1, 1, 2, 3])
    elif entry.bits == 6:
        tensor.int32_data.extend([0, 63, 32, 31, 1])
    else:
        tensor.int32_data.extend(items)
    tensor.dims.append(5 if entry.bits not in (2, 4) else 5 * 8 // entry.bits)
    model = model_of(tensor)
    same_model(read_model(model.SerializeToString()), model)


def test_long_varint_runs_read_like_onnx(same_model) -> None:
    """Runs longer than one decoding block, with integers of every width across its border."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 63, 90_000, dtype=np.int64) >> rng.integers(0, 63, 90_000)
    values[::3] *= -1
    model = model_of(helper.make_tensor("t", TensorProto.INT64, [300, 300], values))
    same_model(read_model(model.SerializeToString()), model)


def test_unpacked_entries_of_typed_fields_are_read() -> None:
    """A writer may encode a packed field one entry at a time; 0x28 is int32_data, 0x25 float_data."""
    ints = (
        b"\x08\x03\x10\x06\x42\x01i"
        + b"\x28\x05"
        + b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
        + b"\x28\xac\x02"
    )
    floats = b"\x08\x02\x10\x01\x42\x01f" + b"\x25\x00\x00\x80\x3f" + b"\x22\x04\x00\x00\x00\x40"
    reference = model_of()
    for data in (ints, floats):
        reference.graph.initializer.add().ParseFromString(data)
    graph = reference.graph.SerializeToString()
    packed = [
        reference.graph.initializer[0].SerializeToString(),
        reference.graph.initializer[1].SerializeToString(),
    ]
    for old, new in zip(packed, (ints, floats), strict=True):
        graph = graph.replace(bytes([0x2A, len(old)]) + old, bytes([0x2A, len(new)]) + new)
    model = read_model(b"\x08\x08" + b"\x3a" + bytes([len(graph)]) + graph)
    assert read_array(model.graph.initializers[0]).tolist() == [5, -1, 300]
    assert read_array(model.graph.initializers[1]).tolist() == [1.0, 2.0]


def test_every_kind_of_attribute_reads_like_onnx(same_model) -> None:
    inner = helper.make_graph([], "inner", [], [])
    tensor = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "t")
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([1.5], np.float32), "v"),
        numpy_helper.from_array(np.array([2], np.int64), "i"),
        [5],
    )
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [2, "n", None]))
    node = helper.make_node(
        "Everything", ["a", "", "b"], ["y"], name="n", domain="com.example", overload="o",
        one_int=-3, one_float=0.1, one_text="é", some_ints=[1, -1, 1 << 62], some_floats=[0.5, -1e30],
        some_texts=["a", "b"], a_tensor=tensor, a_graph=inner, tensors=[tensor, tensor], graphs=[inner],
        sparse=sparse, sparses=[sparse], a_type=kind, types=[kind],
    )  # fmt: skip
    node.attribute.append(onnx.AttributeProto(name="blob", type=3, s=b"\xff\xfe"))
    node.attribute.append(onnx.AttributeProto(name="empty", type=7))
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    ours = read_model(model.SerializeToString())
    same_model(ours, model)
    assert ours.graph.nodes[0].find_attribute("one_text").value == "é"
    assert ours.graph.nodes[0].find_attribute("blob").value == b"\xff\xfe"
    assert ours.graph.nodes[0].find_attribute("absent") is None


def test_every_kind_of_value_type_reads_like_onnx(same_model) -> None:
    tensor = helper.make_tensor_type_proto(1, ["batch", 3, None])
    types = [
        tensor,
        helper.make_tensor_type_proto(1, None),
        helper.make_tensor_type_proto(1, []),
        helper.make_sparse_tensor_type_proto(11, [3, "n"]),
        helper.make_sequence_type_proto(tensor),
        helper.make_optional_type_proto(helper.make_sequence_type_proto(tensor)),
        helper.make_map_type_proto(8, tensor),
        onnx.TypeProto(opaque_type=onnx.TypeProto.Opaque(domain="d", name="n")),
        onnx.TypeProto(),
    ]
    values = [helper.make_value_info(f"v{i}", kind) for i, kind in enumerate(types)]
    values.append(onnx.ValueInfoProto(name="untyped"))
    model = helper.make_model(helper.make_graph([], "g", values, [], value_info=values))
    ours = read_model(model.SerializeToString())
    same_model(ours, model)
    assert ours.graph.inputs[0].elem_type == 1
    assert ours.graph.inputs[0].shape == ("batch", 3, None)
    assert ours.graph.inputs[4].elem_type is None


def test_functions_and_nested_graphs_read_like_onnx(same_model) -> None:
    model = parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "local" : 1], producer_name: "p", producer_version: "1",
            domain: "d", model_version: 7, metadata_props: ["key": "value"]>
        main (float[N, 4] x, bool c) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}> {
            s = local.scaled <gain = 2.0> (x)
            y = If (c) <then_branch = a () => (float[N, 4] p) { p = Add(s, w) },
                        else_branch = b () => (float[N, 4] q) { q = Sub(s, w) }>
        }
        <domain: "local", opset_import: ["" : 21]>
        scaled <gain: float = 1.0, other> (x) => (z) {
            g = Constant <value_float: float = @gain> ()
            z = Mul(x, g)
        }"""
    )
    ours = read_model(model.SerializeToString())
    same_model(ours, model)
    verify_names(ours)
    assert isinstance(ours.graph.nodes[1].find_attribute("then_branch").value, OnnxGraph)
    assert ours.functions[0].nodes[0].attributes[0].ref_attr_name == "gain"


def test_raw_data_is_a_view_of_the_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    weights = np.arange(5000, dtype=np.float32)
    onnx.save(model_of(numpy_helper.from_array(weights, "w")), path)
    array = read_array(read_model(path).graph.initializers[0])
    assert not array.flags.owndata
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, weights)


def test_sizes_are_known_without_reading() -> None:
    model = model_of(
        numpy_helper.from_array(np.zeros((3, 5), np.float16), "raw"),
        helper.make_tensor("typed", TensorProto.FLOAT, [4], [1, 2, 3, 4]),
        helper.make_tensor("packed", TensorProto.INT4, [5], [1, 2, 3, 4, 5]),
    )
    raw, typed, packed = read_model(model.SerializeToString()).graph.initializers
    assert (raw.payload.size_bytes, typed.payload.size_bytes) == (30, 16)
    assert (raw.packed_bytes, typed.packed_bytes, packed.packed_bytes) == (30, 16, 3)
