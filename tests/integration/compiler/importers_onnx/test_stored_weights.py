"""Weights stay where they lie until the plan fits: external files, digests, budgets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import plumbline
from plumbline.compiler.build import BuildOptions, compile_graph
from plumbline.compiler.importers.digest import DigestMismatchError
from plumbline.compiler.importers.external_files import external_identities
from plumbline.compiler.importers.onnx import ImportOptions, constants, import_onnx
from plumbline.compiler.importers.payload import UnreadableFileError
from plumbline.compiler.planning.memory import MemoryBudgetError
from plumbline.testing.models import open_model, widest_target

WEIGHTS = np.random.default_rng(5).standard_normal((64, 48)).astype(np.float32)
X = np.random.default_rng(6).standard_normal((3, 64)).astype(np.float32)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))


def made(weights: np.ndarray = WEIGHTS) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [3, 64])],
        [value("y", TensorProto.FLOAT, [3, 48])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model with its weights in another file."""
    path = tmp_path / "model.onnx"
    onnx.save_model(made(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size >= WEIGHTS.nbytes
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of tensors whose bytes were read."""
    seen: list[str] = []
    real = constants.read_array

    def counted(record: object) -> object:
        seen.append(record.name)  # type: ignore[attr-defined]
        return real(record)  # type: ignore[arg-type]

    monkeypatch.setattr(constants, "read_array", counted)
    return seen


def test_external_weights_give_the_right_result(external: Path) -> None:
    """L2-10: end to end, from a file beside the model."""
    with plumbline.load(external) as model:
        np.testing.assert_allclose(model.run({"x": X})["y"], np.maximum(X @ WEIGHTS, 0), rtol=1e-4, atol=1e-5)


def test_budget_is_refused_before_any_weight_is_read(
    external: Path, tmp_path: Path, reads: list[str]
) -> None:
    """L2-21: the plan comes first. The control: a build that fits reads the weights."""
    target = widest_target()
    with pytest.raises(MemoryBudgetError):
        compile_graph(import_onnx(external), BuildOptions(target=target, memory_budget=4096), tmp_path)
    assert reads == []
    (tmp_path / "out").mkdir()
    compile_graph(import_onnx(external), BuildOptions(target=target), tmp_path / "out")
    assert "w" in reads


def test_budget_is_refused_although_the_weights_cannot_be_read(external: Path) -> None:
    """The weights file changes after it was indexed: reading it would fail, planning does not."""
    graph = import_onnx(external)
    weights = external.parent / "weights.bin"
    weights.write_bytes(bytes(weights.stat().st_size))
    folder = external.parent / "out"
    folder.mkdir()
    with pytest.raises(MemoryBudgetError):
        compile_graph(graph, BuildOptions(target=widest_target(), memory_budget=4096), folder)
    with pytest.raises(UnreadableFileError, match="changed"):
        compile_graph(graph, BuildOptions(target=widest_target()), folder)


def test_weights_inside_the_model_file_stay_unread_too(tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(made().SerializeToString())
    graph = import_onnx(path)
    assert reads == []
    assert graph.digest.startswith("sha256:")


def test_changed_external_weights_give_another_graph(external: Path) -> None:
    """A cache key made from the graph cannot mistake new weights for old ones."""
    before = import_onnx(external).digest
    data = bytearray((external.parent / "weights.bin").read_bytes())
    data[0] ^= 1
    (external.parent / "weights.bin").write_bytes(bytes(data))
    assert import_onnx(external).digest != before


def test_one_flipped_byte_is_refused_where_a_digest_is_expected(tmp_path: Path) -> None:
    """X-48: before anything is decoded."""
    data = made().SerializeToString()
    digest = hashlib.sha256(data).hexdigest()
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    import_onnx(path, ImportOptions(expected_digest=digest))
    for position in (0, len(data) // 2, len(data) - 1):
        flipped = bytearray(data)
        flipped[position] ^= 1
        path.write_bytes(bytes(flipped))
        with pytest.raises(DigestMismatchError):
            import_onnx(path, ImportOptions(expected_digest=digest))
        with pytest.raises(DigestMismatchError):
            plumbline.load(path, digest=digest)


def test_equal_names_of_large_constants_are_not_mistaken_for_equal_weights(tmp_path: Path) -> None:
    """Constant nodes often leave the tensor name empty: place, not name, tells weights apart."""
    one, two = (np.full((40, 40), v, np.float32) for v in (1.0, 2.0))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["a"], name="same", value=numpy_helper.from_array(one)),
            helper.make_node("Constant", [], ["b"], name="same", value=numpy_helper.from_array(two)),
            helper.make_node("MatMul", ["x", "a"], ["m"]),
            helper.make_node("MatMul", ["m", "b"], ["y"]),
        ],
        "g",
        [value("x", TensorProto.FLOAT, [1, 40])],
        [value("y", TensorProto.FLOAT, [1, 40])],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    with open_model(import_onnx(data), tmp_path) as model:
        found = model.run({"x": np.ones((1, 40), np.float32)})["y"]
    np.testing.assert_array_equal(found, np.full((1, 40), 40.0 * 80.0, np.float32))


def test_cached_executable_is_not_used_once_its_external_weights_changed(external: Path) -> None:
    """The model file stays the same; only the file beside it changes."""
    with plumbline.load(external) as model:
        before = model.run({"x": X})["y"]
    weights = external.parent / "weights.bin"
    weights.write_bytes((WEIGHTS * 2).tobytes())
    with plumbline.load(external) as model:
        np.testing.assert_allclose(model.run({"x": X})["y"], before * 2, rtol=1e-4, atol=1e-5)


def test_model_without_external_data_is_not_indexed_for_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(made().SerializeToString())
    assert external_identities(path) == ()


def test_external_files_are_named_from_every_place_that_holds_tensors(external: Path) -> None:
    (identity,) = external_identities(external)
    assert identity.startswith("weights.bin ")
