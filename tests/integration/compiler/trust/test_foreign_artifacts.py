"""Artifacts from outside the user's cache run only after their code was made again from verified data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plumbline
from plumbline.compiler.cache import CacheNotPrivate
from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.text import format_graph
from plumbline.compiler.planning.program_text import ProgramRefused
from plumbline.compiler.relower import ArtifactInconsistent, artifact_digest, relower, trust_artifact
from plumbline.contracts.dims import symbol
from plumbline.contracts.tensors import DType, TensorType
from plumbline.errors import PlumblineError
from plumbline.execution.artifact import ManifestRefused, TargetMismatch
from plumbline.kernels.emit.target import TARGETS

X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


@dataclass(frozen=True, kw_only=True)
class CacheFolder:
    cache_dir: Path
    cache_max_bytes: int = 1 << 30


@pytest.fixture
def settings(tmp_path: Path) -> CacheFolder:
    return CacheFolder(cache_dir=tmp_path / "cache")


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An executable that was compiled elsewhere: y = relu(x * w) with symbolic rows."""
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "elsewhere"))
    builder = GraphBuilder("scaled")
    builder.symbol("rows", 8)
    x = builder.input("x", TensorType(DType.FLOAT32, (symbol("rows"), 4)))
    weights = builder.constant(np.linspace(-2, 3, 4, dtype=np.float32), "w")
    builder.output("y", builder.add1("relu", [builder.add1("mul", [x, weights])]))
    text = tmp_path / "scaled.graph"
    text.write_text(format_graph(builder.build()), encoding="utf-8")
    with plumbline.load(text) as model:
        assert model.folder is not None
        shutil.copytree(model.folder, tmp_path / "artifact")
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "artifact"


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def expected() -> np.ndarray:
    return np.maximum(X * np.linspace(-2, 3, 4, dtype=np.float32), 0)


def test_foreign_artifact_runs_from_code_made_here(artifact: Path, settings: CacheFolder) -> None:
    """X-48: the folder that runs lies in the user's cache and holds fresh code."""
    with plumbline.load(artifact) as model:
        assert settings.cache_dir in (model.folder or Path()).parents
        np.testing.assert_array_equal(model.run({"x": X})["y"], expected())


@pytest.mark.parametrize("name", ["code.o", "code.so"])
def test_replaced_native_code_is_never_run(artifact: Path, name: str) -> None:
    (artifact / name).write_bytes(b"\x7fELF not code at all" * 50)
    with plumbline.load(artifact) as model:
        np.testing.assert_array_equal(model.run({"x": X})["y"], expected())


def test_foreign_artifact_without_native_code_runs(artifact: Path) -> None:
    for name in ("code.o", "code.so"):
        (artifact / name).unlink(missing_ok=True)
    with plumbline.load(artifact) as model:
        np.testing.assert_array_equal(model.run({"x": X})["y"], expected())


def test_second_opening_takes_the_code_that_was_made_at_first(artifact: Path, settings: CacheFolder) -> None:
    assert relower(artifact, settings) == relower(artifact, settings)


def test_another_source_of_the_same_program_with_other_weights_gets_its_own_copy(
    artifact: Path, settings: CacheFolder
) -> None:
    first = relower(artifact, settings)
    _flip_weight(artifact)
    digest = hashlib.sha256((artifact / "weights.bin").read_bytes()).hexdigest()
    manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    (artifact / "manifest.json").write_text(
        json.dumps({**manifest, "weights_digest": digest}), encoding="utf-8"
    )
    assert relower(artifact, settings) != first


def test_one_flipped_byte_of_the_weights_is_refused(artifact: Path, settings: CacheFolder) -> None:
    """X-48: the manifest states the digest of the weights."""
    _flip_weight(artifact)
    with pytest.raises(ArtifactInconsistent, match="digest"):
        relower(artifact, settings)


def _flip_weight(artifact: Path) -> None:
    weights = bytearray((artifact / "weights.bin").read_bytes())
    weights[0] ^= 1
    (artifact / "weights.bin").write_bytes(bytes(weights))


def test_listed_artifact_runs_as_it_is_until_a_byte_changes(artifact: Path, settings: CacheFolder) -> None:
    """The allow list names bytes, not folders."""
    digest = trust_artifact(artifact, settings)
    adopted = relower(artifact, settings)
    assert (adopted / "code.o").read_bytes() == (artifact / "code.o").read_bytes()
    assert artifact_digest(adopted) == digest
    manifest = artifact / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert relower(artifact, settings) != adopted


def test_list_that_others_may_write_is_refused(artifact: Path, settings: CacheFolder) -> None:
    trust_artifact(artifact, settings)
    (settings.cache_dir / "trusted-artifacts").chmod(0o666)
    with pytest.raises(CacheNotPrivate):
        relower(artifact, settings)


def test_artifact_for_other_instructions_is_refused(artifact: Path, settings: CacheFolder) -> None:
    host = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))["target"]
    other = next(t.name for t in TARGETS.values() if t.architecture != TARGETS[host].architecture)
    for name in (other, "quantum"):
        edit_json(artifact / "manifest.json", lambda d, name=name: d.update(target=name))  # type: ignore[misc]
        with pytest.raises(TargetMismatch, match=name):
            relower(artifact, settings)


Change = Callable[[dict[str, Any]], None]


def _operand(change: Callable[[list[Any]], None], role: str = "inputs") -> Change:
    return lambda document: change(document["steps"][0][role][0])


PROGRAM_CHANGES: dict[str, Change] = {
    "an address past the arena": _operand(lambda o: o.__setitem__(3, 1 << 30)),
    "an address before the arena": _operand(lambda o: o.__setitem__(3, -64)),
    "a larger operand": _operand(lambda o: o.__setitem__(1, "float32[rows, 4096]")),
    "another element type": _operand(lambda o: o.__setitem__(1, "float64[rows, 4]"), "outputs"),
    "a result in the weights": _operand(lambda o: o.__setitem__(2, "weights"), "outputs"),
    "an unknown symbol": _operand(lambda o: o.__setitem__(1, "float32[columns, 4]")),
    "an unknown space": _operand(lambda o: o.__setitem__(2, "host")),
    "an unknown packing": _operand(lambda o: o.__setitem__(1, "float32[1] @packed(mystery,3)")),
    "an unknown operation": lambda d: d["steps"][0].update(operation="system"),
    "an operation that is only a view": lambda d: d["steps"][0].update(operation="reshape"),
    "no outputs": lambda d: d["steps"][0].update(outputs=[]),
    "missing operands": lambda d: d["steps"][0].update(inputs=[]),
    "attributes that are code": lambda d: d["steps"][0].update(attributes="__import__('os')"),
    "a workspace outside": lambda d: d["steps"][0].update(workspace=[1 << 40, 64]),
    "a negative workspace": lambda d: d["steps"][0].update(workspace=[0, -64]),
    "an unbounded symbol": lambda d: d["symbols"].update(rows=1 << 60),
    "a symbol that is no name": lambda d: d["symbols"].update({"rows) { ret void } ;": 3}),
    "no threads": lambda d: d.update(threads=0),
    "segments out of order": lambda d: d.update(segments=[0, 2, 1]),
    "segments past the end": lambda d: d.update(segments=[0, 99]),
    "a negative arena": lambda d: d.update(arena_bytes=-1),
    "a port outside": lambda d: d["inputs"]["x"].__setitem__(3, 1 << 40),
    "a port in the weights": lambda d: d["outputs"]["y"].__setitem__(2, "weights"),
    "another version": lambda d: d.update(schema_version=99),
    "no steps at all": lambda d: d.pop("steps"),
}


@pytest.mark.parametrize("change", PROGRAM_CHANGES)
def test_tampered_program_is_refused(artifact: Path, settings: CacheFolder, change: str) -> None:
    """Every damage is a typed artifact error, and nothing enters the cache."""
    edit_json(artifact / "program.json", PROGRAM_CHANGES[change])
    with pytest.raises((ProgramRefused, ArtifactInconsistent)):
        relower(artifact, settings)
    assert not any(p.name[0] != "." for p in (settings.cache_dir / "executables").iterdir())


MANIFEST_CHANGES: dict[str, Change] = {
    "a larger arena": lambda d: d["plan"].update(peak_bytes=1 << 20),
    "a smaller arena": lambda d: d["plan"].update(peak_bytes=64),
    "another bound": lambda d: d["symbols"].update(rows=4096),
    "an input elsewhere": lambda d: d["inputs"][0].update(offset=1 << 20),
    "an output that is larger": lambda d: d["outputs"][0].update(shape=["rows", "400"]),
    "another step": lambda d: d.update(step_operations=["exp"] * len(d["step_operations"])),
}


@pytest.mark.parametrize("change", MANIFEST_CHANGES)
def test_manifest_that_contradicts_the_program_is_refused(
    artifact: Path, settings: CacheFolder, change: str
) -> None:
    edit_json(artifact / "manifest.json", MANIFEST_CHANGES[change])
    with pytest.raises(ArtifactInconsistent, match="differ"):
        relower(artifact, settings)


def test_weights_of_another_size_are_refused(artifact: Path, settings: CacheFolder) -> None:
    weights = artifact / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArtifactInconsistent, match="bytes"):
        relower(artifact, settings)


@pytest.mark.parametrize("name", ["program.json", "weights.bin"])
def test_missing_part_is_refused_by_name(artifact: Path, settings: CacheFolder, name: str) -> None:
    (artifact / name).unlink()
    with pytest.raises(ArtifactInconsistent, match=name):
        relower(artifact, settings)


@pytest.mark.parametrize("position", range(0, 1200, 97))
def test_one_flipped_byte_of_program_or_manifest_never_leaves_the_error_tree(
    artifact: Path, settings: CacheFolder, position: int
) -> None:
    """A flip either changes a harmless name or is refused with a typed error."""
    for name in ("program.json", "manifest.json"):
        original = (artifact / name).read_bytes()
        changed = bytearray(original)
        changed[position % len(changed)] ^= 4
        (artifact / name).write_bytes(bytes(changed))
        with contextlib.suppress(PlumblineError):
            relower(artifact, settings)
        (artifact / name).write_bytes(original)


def test_damaged_manifest_is_refused(artifact: Path, settings: CacheFolder) -> None:
    (artifact / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(ManifestRefused):
        relower(artifact, settings)
