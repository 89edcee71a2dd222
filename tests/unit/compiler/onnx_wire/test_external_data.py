"""External data stays inside the folder of the model, is checked when indexed and mapped when read (X-48)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from plumbline.compiler.importers.limits import ImportLimitError, ImportLimits
from plumbline.compiler.importers.onnx_wire import OnnxModel, read_array, read_model
from plumbline.compiler.importers.onnx_wire.external import ExternalDataError, UnsafePathError
from plumbline.compiler.importers.onnx_wire.wire import MalformedMessageError
from plumbline.compiler.importers.payload import ExternalPayload, UnreadableFileError

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def model_bytes(dtype: int = 1, dims: tuple[int, ...] = (2, 3), **entries: str) -> bytes:
    tensor = TensorProto(name="w", data_type=dtype, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [], [tensor])
    return helper.make_model(graph).SerializeToString()


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "w.bin").write_bytes(b"12345678" + VALUES.tobytes())
    (folder / "sub" / "w.bin").write_bytes(VALUES.tobytes())
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    return folder


def read_from(folder: Path, data: bytes, limits: ImportLimits | None = None) -> OnnxModel:
    (folder / "m.onnx").write_bytes(data)
    return read_model(folder / "m.onnx", limits=limits or ImportLimits())


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "w.bin", "offset": "8", "length": "24"},
        {"location": "w.bin", "offset": "8"},
        {"location": "sub/w.bin"},
        {"location": "./sub/w.bin", "length": "24", "basepath": "ignored"},
    ],
    ids=str,
)
def test_a_range_of_a_file_beside_the_model_is_mapped(folder: Path, entries: dict[str, str]) -> None:
    tensor = read_from(folder, model_bytes(**entries)).graph.initializers[0]
    array = read_array(tensor)
    np.testing.assert_array_equal(array, VALUES)
    assert isinstance(tensor.payload, ExternalPayload)
    assert tensor.payload.size_bytes == 24
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_a_model_that_onnx_saved_with_external_data_reads_like_onnx(tmp_path: Path, same_tensor) -> None:
    rng = np.random.default_rng(0)
    tensors = [numpy_helper.from_array(rng.random((40, 50), np.float32), f"w{i}") for i in range(3)]
    nodes = [helper.make_node("Identity", [t.name], [f"y{t.name}"]) for t in tensors]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], tensors))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    ours = read_model(tmp_path / "m.onnx")
    theirs = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    for left, right in zip(ours.graph.initializers, theirs.graph.initializer, strict=True):
        same_tensor(left, right, str(tmp_path))
    files = {id(tensor.payload.file) for tensor in ours.graph.initializers}
    assert len(files) == 1


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin", "sub/../../secret.bin", "/etc/passwd", "..\\secret.bin", "C:\\secret.bin",
        "\\\\host\\share", "a\0b", "sub/../w.bin",
    ],
)  # fmt: skip
def test_a_path_that_climbs_or_is_absolute_is_refused(folder: Path, location: str) -> None:
    with pytest.raises(UnsafePathError, match="'w'"):
        read_from(folder, model_bytes(location=location))


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "link.bin").symlink_to("../secret.bin")
    (folder / "up").symlink_to("..")
    for location in ("link.bin", "up/secret.bin"):
        with pytest.raises(UnsafePathError, match="link"):
            read_from(folder, model_bytes(location=location))


def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    (folder / "link.bin").symlink_to("sub/w.bin")
    tensor = read_from(folder, model_bytes(location="link.bin")).graph.initializers[0]
    np.testing.assert_array_equal(read_array(tensor), VALUES)


def test_a_missing_file_a_folder_and_a_pipe_are_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for location in ("none.bin", "sub", "pipe", "."):
        with pytest.raises(UnreadableFileError) as caught:
            read_from(folder, model_bytes(location=location))
        assert str(folder) not in caught.value.message


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "w.bin", "offset": "9"},
        {"location": "w.bin", "offset": "9999999999999999999"},
        {"location": "w.bin", "length": "23"},
        {"location": "w.bin", "length": "25"},
        {"location": "w.bin", "offset": "-8"},
        {"location": "w.bin", "offset": "1e3"},
        {"location": "w.bin", "offset": "1_0"},
        {"location": "w.bin", "checksum": "xyz"},
        {"location": ""},
        {},
    ],
    ids=str,
)
def test_a_range_that_does_not_fit_is_refused(folder: Path, entries: dict[str, str]) -> None:
    with pytest.raises(ExternalDataError, match="'w'"):
        read_from(folder, model_bytes(**entries))


def test_a_key_given_twice_is_refused(folder: Path) -> None:
    tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    for location in ("w.bin", "sub/w.bin"):
        tensor.external_data.add(key="location", value=location)
    data = helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString()
    with pytest.raises(MalformedMessageError, match="twice"):
        read_from(folder, data)


def test_a_file_over_the_limit_is_refused(folder: Path) -> None:
    with pytest.raises(ImportLimitError):
        read_from(folder, model_bytes(location="w.bin"), ImportLimits(external_file_bytes=31))


def test_bytes_need_a_folder_for_external_data(folder: Path) -> None:
    data = model_bytes(location="w.bin", offset="8")
    with pytest.raises(ExternalDataError, match="without a folder"):
        read_model(data)
    tensor = read_model(data, base_folder=folder).graph.initializers[0]
    np.testing.assert_array_equal(read_array(tensor), VALUES)


def test_a_file_exchanged_after_the_check_is_refused_when_read(folder: Path) -> None:
    tensor = read_from(folder, model_bytes(location="sub/w.bin")).graph.initializers[0]
    (folder / "sub" / "new").write_bytes(bytes(24))
    os.replace(folder / "sub" / "new", folder / "sub" / "w.bin")
    with pytest.raises(UnreadableFileError, match="changed"):
        read_array(tensor)


def test_a_declared_checksum_is_verified_before_the_first_read(folder: Path) -> None:
    good = hashlib.sha1((folder / "sub" / "w.bin").read_bytes()).hexdigest()
    tensor = read_from(folder, model_bytes(location="sub/w.bin", checksum=good)).graph.initializers[0]
    np.testing.assert_array_equal(read_array(tensor), VALUES)
    tensor = read_from(folder, model_bytes(location="sub/w.bin", checksum="0" * 40)).graph.initializers[0]
    with pytest.raises(UnreadableFileError, match="SHA-1"):
        read_array(tensor)


def test_packed_elements_in_a_file_are_unpacked(folder: Path) -> None:
    (folder / "p.bin").write_bytes(b"\x21\xf3")
    tensor = read_from(folder, model_bytes(22, (3,), location="p.bin")).graph.initializers[0]
    assert read_array(tensor).tolist() == [1, 2, 3]
