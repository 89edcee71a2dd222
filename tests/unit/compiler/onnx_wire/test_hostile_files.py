"""Damaged and malicious files are refused by a typed error that names the place (X-26, X-48, X-49)."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from plumbline.compiler.importers.limits import ImportLimitError, ImportLimits
from plumbline.compiler.importers.onnx_wire import read_array, read_model
from plumbline.compiler.importers.onnx_wire.arrays import TensorDataError, UnsupportedTensorError
from plumbline.compiler.importers.onnx_wire.magic import ForeignFileError
from plumbline.compiler.importers.onnx_wire.tensor_message import (
    PayloadSizeError,
    ShapeError,
    UnknownDataTypeError,
)
from plumbline.compiler.importers.onnx_wire.wire import (
    BadVarintError,
    InvalidTextError,
    MalformedMessageError,
    TruncatedMessageError,
    WrongWireTypeError,
)
from plumbline.compiler.importers.payload import UnreadableFileError
from plumbline.errors import ErrorClass, PlumblineError


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def sub(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value & (1 << 64) - 1)


def model_with_graph(graph: bytes) -> bytes:
    return number(1, 8) + sub(7, graph)


def model_with_tensor(**fields: object) -> bytes:
    tensor = TensorProto(**fields)
    return model_with_graph(sub(5, tensor.SerializeToString()))


def refusal(kind: type[PlumblineError], data: bytes, limits: ImportLimits | None = None) -> PlumblineError:
    with pytest.raises(kind) as caught:
        read_model(data, limits=limits or ImportLimits())
    assert caught.value.error_class in (ErrorClass.ARTIFACT, ErrorClass.VALIDATION)
    return caught.value


NODE = sub(1, sub(4, b"Relu") + sub(1, b"x") + sub(2, b"y"))


def test_a_truncated_file_names_the_byte() -> None:
    data = model_with_graph(NODE)
    error = refusal(TruncatedMessageError, data[:-1])
    assert error.offset == 4
    assert error.end == len(data) - 1


def test_a_cut_inside_a_varint_is_truncation() -> None:
    assert refusal(TruncatedMessageError, b"\x08\x80").offset == 1


def test_a_nested_length_may_not_leave_its_message() -> None:
    inner = b"\x0a\x7f"
    refusal(TruncatedMessageError, model_with_graph(inner) + bytes(200))


@pytest.mark.parametrize("digits", [b"\xff" * 10 + b"\x01", b"\x80" * 9 + b"\x02"])
def test_a_varint_over_64_bits_is_refused(digits: bytes) -> None:
    assert refusal(BadVarintError, b"\x08" + digits).offset == 1


def test_a_field_of_the_wrong_wire_type_is_refused() -> None:
    error = refusal(WrongWireTypeError, number(1, 8) + number(7, 1))
    assert error.holder == "ModelProto"
    assert error.field == 7


@pytest.mark.parametrize("tag", [b"\x3b", b"\x3c", b"\x3e", b"\x3f"], ids=["group", "end", "6", "7"])
def test_groups_and_unknown_wire_types_are_refused(tag: bytes) -> None:
    refusal(MalformedMessageError, number(1, 8) + tag)


def test_field_number_zero_is_refused() -> None:
    refusal(MalformedMessageError, b"\x00\x01")


def test_unknown_fields_are_skipped() -> None:
    data = (
        model_with_graph(sub(99, b"whatever") + NODE + number(98, 5)) + b"\xf5\x07abcd" + b"\xf1\x07abcdefgh"
    )
    assert read_model(data).graph.nodes[0].op_type == "Relu"


def test_graphs_nested_over_the_depth_limit_are_refused() -> None:
    graph = b""
    for _ in range(40):
        attribute = sub(1, b"body") + number(20, 5) + sub(6, graph)
        graph = sub(1, sub(4, b"Loop") + sub(5, attribute))
    error = refusal(ImportLimitError, model_with_graph(graph))
    assert error.limit == "levels of nesting"


def test_types_nested_ten_thousand_deep_are_refused() -> None:
    kind = sub(1, number(1, 1))
    for _ in range(10_000):
        kind = sub(4, sub(1, kind))
    refusal(ImportLimitError, model_with_graph(sub(11, sub(1, b"x") + sub(2, kind))))


@pytest.mark.parametrize(
    ("limits", "graph"),
    [
        (ImportLimits(nodes=3), NODE * 4),
        (ImportLimits(fields=10), NODE * 4),
        (ImportLimits(tensors=1), sub(5, number(2, 1) + number(1, 0)) * 2),
        (ImportLimits(values=1), sub(11, sub(1, b"x")) * 2),
        (ImportLimits(name_bytes=4), sub(2, b"longer")),
        (ImportLimits(total_text_bytes=9), NODE * 4),
        (ImportLimits(node_values=2), sub(1, sub(4, b"Sum") + sub(1, b"x") * 3)),
        (ImportLimits(attribute_values=2), sub(1, sub(4, b"A") + sub(5, sub(1, b"a") + number(8, 1) * 3))),
        (ImportLimits(attribute_bytes=2), sub(1, sub(4, b"A") + sub(5, sub(1, b"a") + sub(4, b"abc")))),
        (ImportLimits(inline_bytes=7), sub(5, number(2, 1) + number(1, 2) + sub(9, bytes(8)))),
        (ImportLimits(payload_pieces=2), sub(5, number(2, 6) + number(1, 3) + number(5, 1) * 3)),
        (ImportLimits(rank=2), sub(5, number(2, 1) + number(1, 1) * 3 + sub(9, bytes(4)))),
        (ImportLimits(file_bytes=10), NODE),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, ImportLimits) else "",
)
def test_more_than_a_limit_is_refused(limits: ImportLimits, graph: bytes) -> None:
    data = model_with_graph(graph)
    read_model(data)
    refusal(ImportLimitError, data, limits)


def test_a_name_that_is_not_utf8_names_the_byte() -> None:
    data = model_with_graph(sub(2, b"ab\xffc"))
    assert refusal(InvalidTextError, data).offset == data.index(b"\xff")


@pytest.mark.parametrize("code", [0, 29, 1000, -1])
def test_an_unknown_data_type_names_the_tensor(code: int) -> None:
    data = model_with_graph(sub(5, number(2, code) + sub(8, b"w")))
    assert "'w'" in refusal(UnknownDataTypeError, data).message


def test_an_unknown_declared_type_names_the_value() -> None:
    kind = sub(1, number(1, 77))
    assert (
        "'x'" in refusal(UnknownDataTypeError, model_with_graph(sub(11, sub(1, b"x") + sub(2, kind)))).message
    )


@pytest.mark.parametrize("dims", [[-1], [2, -5], [1 << 62, 1 << 62], [1 << 41], [1 << 62, 0, 1 << 62]])
def test_an_absurd_tensor_shape_is_refused(dims: list[int]) -> None:
    error = refusal(ShapeError, model_with_tensor(name="w", data_type=1, dims=dims))
    assert "'w'" in error.message


@pytest.mark.parametrize("dims", [[-2], [1 << 62, "n", 1 << 62]])
def test_an_absurd_declared_shape_is_refused(dims: list[int | str]) -> None:
    value = helper.make_tensor_value_info("x", 1, dims)
    error = refusal(ShapeError, model_with_graph(sub(11, value.SerializeToString())))
    assert "'x'" in error.message


@pytest.mark.parametrize(
    "fields",
    [
        {"raw_data": bytes(7)},
        {"raw_data": bytes(9)},
        {},
        {"float_data": [1.0]},
        {"float_data": [1.0, 2.0, 3.0]},
        {"int32_data": [1, 2]},
        {"string_data": [b"a", b"b"]},
        {"raw_data": bytes(8), "float_data": [1.0, 2.0]},
    ],
    ids=str,
)
def test_data_that_does_not_fit_the_dimensions_names_the_tensor(fields: dict[str, object]) -> None:
    error = refusal(PayloadSizeError, model_with_tensor(name="w", data_type=1, dims=[2], **fields))
    assert error.tensor == "w"


def test_data_in_two_typed_fields_is_refused() -> None:
    data = model_with_tensor(name="w", data_type=1, dims=[2], float_data=[1, 2], int32_data=[1])
    refusal(MalformedMessageError, data)


def test_a_declared_terabyte_without_data_allocates_nothing() -> None:
    tracemalloc.start()
    refusal(PayloadSizeError, model_with_tensor(name="w", data_type=1, dims=[1 << 38]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("code", "values"), [(2, [256]), (3, [-129]), (5, [1 << 16]), (9, [2]), (10, [1 << 16]), (21, [256])]
)
def test_an_entry_that_its_type_cannot_hold_is_refused_when_read(code: int, values: list[int]) -> None:
    model = read_model(model_with_tensor(name="w", data_type=code, dims=[1], int32_data=values))
    with pytest.raises(TensorDataError, match="'w'"):
        read_array(model.graph.initializers[0])


def test_a_raw_bool_that_is_not_0_or_1_is_refused_when_read() -> None:
    model = read_model(model_with_tensor(name="w", data_type=9, dims=[2], raw_data=b"\x01\x02"))
    with pytest.raises(TensorDataError, match="bool"):
        read_array(model.graph.initializers[0])


@pytest.mark.parametrize("values", [[1, 2], [1, 2, 3, 4]])
def test_a_wrong_number_of_varints_is_refused_when_read(values: list[int]) -> None:
    """The encoded size alone cannot show it: three small integers fill as many bytes as one large one."""
    data = model_with_tensor(name="w", data_type=7, dims=[3], int64_data=[*values[:-1], 1 << 40])
    with pytest.raises(TensorDataError, match="dimensions need 3"):
        read_array(read_model(data).graph.initializers[0])


@pytest.mark.parametrize(
    "run", [b"\x01\x01\x80", b"\x80" * 10 + b"\x01\x01\x01", b"\xff" * 9 + b"\x7f\x01\x01"]
)
def test_damaged_varints_in_a_payload_are_refused_when_read(run: bytes) -> None:
    data = model_with_graph(sub(5, number(2, 7) + number(1, 3) + sub(8, b"w") + sub(7, run)))
    with pytest.raises(TensorDataError, match="'w'"):
        read_array(read_model(data).graph.initializers[0])


@pytest.mark.parametrize("code", [8, 14, 15])
def test_strings_and_complex_numbers_are_indexed_but_not_read(code: int) -> None:
    values = ["a"] if code == 8 else [1j]
    tensor = helper.make_tensor("w", code, [1], values)
    model = read_model(model_with_graph(sub(5, tensor.SerializeToString())))
    with pytest.raises(UnsupportedTensorError, match="'w'"):
        read_array(model.graph.initializers[0])


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        (sub(4, b"v") + number(20, 3), "no name"),
        (sub(1, b"a") + number(20, 99), "unknown"),
        (sub(1, b"a") + number(20, 2) + sub(4, b"text"), "declared INT"),
        (sub(1, b"a"), "cannot be told"),
        (sub(1, b"a") + number(20, 4), "missing"),
        (sub(1, b"a") + number(20, 3) + sub(4, b"v") + sub(21, b"ref"), "both"),
        (sub(1, b"a") + number(20, 5) + sub(6, b"") + sub(6, b""), "twice"),
    ],
)
def test_an_attribute_that_contradicts_itself_is_refused(attribute: bytes, reason: str) -> None:
    error = refusal(MalformedMessageError, model_with_graph(sub(1, sub(4, b"Op") + sub(5, attribute))))
    assert reason in error.message


def test_an_attribute_of_the_first_format_version_needs_no_type() -> None:
    data = model_with_graph(sub(1, sub(4, b"Op") + sub(5, sub(1, b"a") + number(3, 7))))
    assert read_model(data).graph.nodes[0].attributes[0].value == 7


def test_an_attribute_given_twice_is_refused() -> None:
    attribute = sub(5, sub(1, b"a") + number(3, 7) + number(20, 2))
    error = refusal(MalformedMessageError, model_with_graph(sub(1, sub(4, b"Op") + attribute * 2)))
    assert "'a'" in error.message


@pytest.mark.parametrize(
    "data",
    [
        number(1, 8),
        sub(7, NODE),
        number(1, 8) + sub(7, NODE) * 2,
        model_with_graph(sub(1, sub(1, b"x"))),
        model_with_graph(NODE) + sub(8, number(2, 7)) + sub(8, number(2, 8)),
        model_with_graph(sub(5, number(2, 1) + sub(3, b""))),
        model_with_graph(sub(5, number(2, 1) + sub(9, b"") * 2)),
        model_with_graph(NODE) + sub(25, b""),
    ],
    ids=[
        "no graph",
        "no version",
        "two graphs",
        "no operator",
        "two versions",
        "segment",
        "two data",
        "function",
    ],
)
def test_an_impossible_model_is_refused(data: bytes) -> None:
    refusal(MalformedMessageError, data)


def zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(50_000_000))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (zip_bomb(), "zip"),
        (gzip.compress(bytes(1_000_000)), "gzip"),
        (pickle.dumps({"a": 1}, protocol=2), "pickle"),
        (pickle.dumps({"weights": np.zeros(3)}, protocol=4), "pickle"),
        (pickle.dumps([1, 2, 3], protocol=5), "pickle"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", "safetensors"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"\x18\x00\x00\x00TFL3", "TensorFlow Lite"),
        (b"\x7fELF\x02\x01\x01", "program"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<html><body>404</body></html>", "HTML"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_of_another_kind_is_refused_by_name_without_unpacking(data: bytes, kind: str) -> None:
    tracemalloc.start()
    started = time.thread_time()
    error = refusal(ForeignFileError, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kind in error.kind
    assert peak < 1 << 20
    assert time.thread_time() - started < 5.0


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    """X-48: a pickle that would make a file when loaded makes none."""
    trap = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(trap),))

    path = tmp_path / "model.onnx"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ForeignFileError):
        read_model(path)
    assert not trap.exists()


def test_an_empty_file_a_folder_a_pipe_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "folder.onnx").mkdir()
    for name, reason in [
        ("empty.onnx", "empty"), ("pipe.onnx", "regular"), ("folder.onnx", "folder"),
        ("none.onnx", "no such"),
    ]:  # fmt: skip
        with pytest.raises(UnreadableFileError, match=reason) as caught:
            read_model(tmp_path / name)
        assert str(tmp_path) not in caught.value.message
    with pytest.raises(UnreadableFileError, match="empty"):
        read_model(b"")


def test_a_sparse_file_over_the_size_limit_is_refused_without_reading(tmp_path: Path) -> None:
    """X-48, huge file: four gigabytes that take no space on disk."""
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(4 << 30)
    with pytest.raises(ImportLimitError) as caught:
        read_model(path)
    assert caught.value.found == 4 << 30


def test_a_hundred_megabyte_model_is_indexed_without_touching_its_weights(tmp_path: Path) -> None:
    """Weights are a hole in the file; were they read, resident memory would grow by their size."""
    tensor = sub(8, b"w") + number(2, 1) + number(1, 26_214_400)
    size = 26_214_400 * 4
    header = varint(9 << 3 | 2) + varint(size)
    body = varint(5 << 3 | 2) + varint(len(tensor) + len(header) + size) + tensor + header
    graph_size = len(body) + size
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.write(number(1, 8) + varint(7 << 3 | 2) + varint(graph_size) + body)
        file.truncate(file.tell() + size)
    growths = []
    for _ in range(5):  # what else this process does may grow too; a read of the weights would each time
        before = resident_bytes()
        model = read_model(path)
        growths.append(resident_bytes() - before)
    assert min(growths) < 16 << 20
    assert model.graph.initializers[0].payload.size_bytes == size


def resident_bytes() -> int:
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("no /proc here")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_errors_can_be_pickled_and_told() -> None:
    for data in (b"\x08\x80", number(1, 8) + number(7, 1), model_with_graph(sub(2, b"\xff"))):
        with pytest.raises(PlumblineError) as caught:
            read_model(data)
        copy = pickle.loads(pickle.dumps(caught.value))
        assert copy.message == caught.value.message
        assert copy.to_dict()["code"] == caught.value.code


def test_a_real_model_is_refused_at_every_cut() -> None:
    weights = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"], name="n")
    value = helper.make_tensor_value_info("x", 1, ["n", 4])
    graph = helper.make_graph(
        [node], "g", [value], [helper.make_tensor_value_info("y", 1, ["n", 4])], [weights]
    )
    model = onnx.ModelProto(ir_version=8, graph=graph)
    data = model.SerializeToString()
    for cut in range(1, len(data)):
        refusal(PlumblineError, data[:cut])


def bomb_of(kind: str, count: int) -> bytes:
    """Files whose records would be many times their size."""
    tiny = {
        "unknown fields": number(40, 0) * count,
        "nodes": sub(1, sub(4, b"A")) * count,
        "tensors": sub(5, number(2, 1) + number(1, 0)) * count,
        "inputs of a node": sub(1, sub(4, b"A") + sub(1, b"") * count),
        "packed integers": sub(1, sub(4, b"A") + sub(5, sub(1, b"a") + sub(8, bytes(count)))) * 4,
        "values": sub(11, b"") * count,
        "dimensions": sub(5, number(2, 1) + sub(1, b"\x01" * count)),
        "strings": sub(5, number(2, 8) + number(1, count) + sub(6, b"") * count),
        "pieces": sub(5, number(2, 6) + number(1, count) + number(5, 0) * count),
        "metadata": b"",
    }[kind]
    return model_with_graph(tiny) + (sub(14, b"") * count if kind == "metadata" else b"")


@pytest.mark.parametrize(
    "kind",
    [
        "unknown fields", "nodes", "tensors", "inputs of a node", "packed integers", "values", "dimensions",
        "strings", "pieces", "metadata",
    ],
)  # fmt: skip
def test_many_tiny_parts_stay_within_the_memory_that_limits_imply(kind: str) -> None:
    """X-49: with every count limited to 1,000, a file of 100,000 parts costs under two megabytes."""
    few = ImportLimits(
        fields=2_000_000, nodes=1000, tensors=1000, values=1000, node_values=1000, attribute_values=1000,
        payload_pieces=1000, entries=1000,
    )  # fmt: skip
    data = bomb_of(kind, 100_000)
    tracemalloc.start()
    try:
        read_model(data, limits=few)
    except PlumblineError as error:
        refused: PlumblineError | None = error
    else:
        refused = None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20
    assert (refused is None) == (kind in ("unknown fields", "strings"))
