"""What a version is made of; nothing is guessed (L3-05, X-67)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSettings
from plumbline.serving.repository.contents import decide_kind
from plumbline.serving.repository.folder import FolderRepository
from plumbline.serving.repository.memory import MemoryRepository
from plumbline.serving.repository.refusals import (
    EntryAmbiguous,
    PipelineRefused,
    SettingsRefused,
)
from plumbline.serving.repository.settings import apply_settings, read_calibration
from plumbline.serving.repository.specs import fetch_spec

ENCODER = ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"]


def ref(model: str, version: str = "1") -> VersionRef:
    return VersionRef(model=model, version=version)


@pytest.mark.parametrize(
    ("paths", "kind", "entry"),
    [
        (["model.onnx", "model.onnx.data", "README.md"], VersionKind.MODEL, "model.onnx"),
        (["net.graph", "net.graph.weights"], VersionKind.MODEL, "net.graph"),
        (ENCODER, VersionKind.TEXT, "."),
        (["pipeline.toml"], VersionKind.PIPELINE, "pipeline.toml"),
    ],
)
def test_one_choice_decides_the_kind(paths: list[str], kind: VersionKind, entry: str) -> None:
    assert decide_kind(paths, None, subject="m@1") == (kind, entry)


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        (["model.onnx", "a.graph"], ["model.onnx", "a.graph"]),
        (["a.graph", "b.graph"], ["a.graph", "b.graph"]),
        ([*ENCODER, "model.onnx"], ["model.onnx", "encoder folder"]),
        (["pipeline.toml", "model.onnx"], ["pipeline.toml", "model.onnx"]),
    ],
)
def test_several_choices_are_refused_by_name(paths: list[str], named: list[str]) -> None:
    """L3-05."""
    with pytest.raises(EntryAmbiguous) as refused:
        decide_kind(paths, None, subject="m@1")
    assert all(name in refused.value.choices for name in named)


@pytest.mark.parametrize("paths", [["README.md"], ["deep/model.onnx"], ["config.json", "tokenizer.json"], []])
def test_nothing_to_serve_is_refused_with_what_would_do(paths: list[str]) -> None:
    """L3-05."""
    with pytest.raises(EntryAmbiguous, match=r"pipeline\.toml"):
        decide_kind(paths, None, subject="m@1")


def test_an_entry_resolves_an_ambiguity() -> None:
    assert decide_kind(["model.onnx", "a.graph"], "a.graph", subject="m@1") == (VersionKind.MODEL, "a.graph")
    found = decide_kind(["model.onnx", "serve.py"], "serve.py:Echo", subject="m@1")
    assert found == (VersionKind.PYTHON, "serve.py:Echo")


def test_a_file_of_another_format_is_served_when_it_is_named(tmp_path: Path) -> None:
    """X-67: the repository knows no list of formats; an entry says which file is the model."""
    spec = spec_of(tmp_path, {"net.rows": b"1", "version.toml": b'entry = "net.rows"'})
    assert (spec.kind, spec.entry) == (VersionKind.MODEL, "net.rows")


@pytest.mark.parametrize(
    "entry",
    [
        "version.toml",
        "other.onnx",
        "gone.py:Echo",
        "serve.py",
        "serve.py:",
        "../serve.py:E",
        "deep/serve.py:E",
    ],
)
def test_an_entry_that_is_not_there_is_refused_with_the_choices(entry: str) -> None:
    with pytest.raises(SettingsRefused, match=r"model\.onnx"):
        decide_kind(["model.onnx", "serve.py"], entry, subject="m@1")


def spec_of(tmp_path: Path, files: dict[str, bytes], *, allow_code: bool = True) -> Any:
    repository = MemoryRepository(allow_code=allow_code)
    repository.publish(ref("m"), files, revision="r7")
    return fetch_spec(repository, ref("m"), tmp_path / "copies")


def test_a_spec_carries_digest_revision_and_settings(tmp_path: Path) -> None:
    """L3-03."""
    toml = b"""instances = 2
threads = 3
symbols = {batch = 16}
batch_symbol = "batch"
max_batch = 8
max_delay_ns = 2000
separate_tenants = true
max_segment_ns = 500
stream = 1
"""
    spec = spec_of(tmp_path, {"model.onnx": b"1", "version.toml": toml})
    assert (spec.kind, spec.entry, spec.revision) == (VersionKind.MODEL, "model.onnx", "r7")
    assert len(spec.digest) == 64
    assert spec.settings == VersionSettings(
        instances=2,
        threads=3,
        symbols={"batch": 16},
        batch_symbol="batch",
        max_batch=8,
        max_delay_ns=2000,
        separate_tenants=True,
        max_segment_ns=500,
        stream=1,
    )


def test_a_python_class_is_named_by_entry(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {"serve.py": b"class Echo: ...", "version.toml": b'entry = "serve.py:Echo"'})
    assert (spec.kind, spec.entry) == (VersionKind.PYTHON, "serve.py:Echo")


def test_an_unknown_key_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """L3-05: extra keys."""
    with pytest.raises(SettingsRefused, match=r"instnaces.*known: .*entry.*instances"):
        spec_of(tmp_path, {"model.onnx": b"1", "version.toml": b"instnaces = 2"})
    assert not (tmp_path / "copies").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("instances", 0),
        ("instances", True),
        ("instances", "2"),
        ("threads", 1.5),
        ("threads", 257),
        ("symbols", [1]),
        ("symbols", {"n": 0}),
        ("batch_symbol", ""),
        ("separate_tenants", 1),
        ("max_delay_ns", -1),
        ("segment_bounds_ns", "many"),
        ("segment_bounds_ns", [-1]),
        ("max_batch", 1 << 40),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(SettingsRefused, match=key):
        apply_settings(VersionSettings(), {key: value}, source="version.toml")


def test_a_bound_of_a_symbol_that_cannot_be_names_the_symbol(tmp_path: Path) -> None:
    """L3-05: of twenty symbols, which one."""
    toml = b"[symbols]\nbatch = 4\nN = 0\n"
    with pytest.raises(SettingsRefused, match=r"symbols: 'N': expected a whole number from 1 to 2147483648"):
        spec_of(tmp_path, {"model.onnx": b"1", "version.toml": toml})


def test_a_byte_order_mark_at_the_front_of_a_file_is_no_part_of_it(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    spec = spec_of(tmp_path, {"model.onnx": b"1", "version.toml": mark + b"instances = 2\n"})
    assert spec.settings.instances == 2
    (tmp_path / "calibration.json").write_bytes(mark + b'{"cost_bound_ns": 7}')
    assert read_calibration(tmp_path, spec.settings, subject="m@1").cost_bound_ns == 7


@pytest.mark.parametrize("toml", [b"a = ", b"\xff\xfe", b"entry = 3", b"# " + b"x" * (1 << 20)])
def test_a_settings_file_that_is_none_is_refused(tmp_path: Path, toml: bytes) -> None:
    with pytest.raises(SettingsRefused):
        spec_of(tmp_path, {"model.onnx": b"1", "version.toml": toml})


def publish_folder(tmp_path: Path, calibration: bytes) -> Any:
    place = tmp_path / "models" / "m" / "1"
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(b"1")
    (place / "calibration.json").write_bytes(calibration)
    return FolderRepository(tmp_path / "models")


def test_calibrated_bounds_come_into_the_settings(tmp_path: Path) -> None:
    document = {"schema": 1, "cost_bound_ns": 900, "segment_bounds_ns": [400, 500], "quantile": 0.99}
    repository = publish_folder(tmp_path, json.dumps(document).encode())
    settings = fetch_spec(repository, ref("m"), tmp_path / "copies").settings
    assert (settings.cost_bound_ns, settings.segment_bounds_ns) == (900, (400, 500))


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b'{"cost_bound_ns": -5}', b"[" * 5000])
def test_an_unusable_calibration_is_refused(tmp_path: Path, text: bytes) -> None:
    repository = publish_folder(tmp_path, text)
    with pytest.raises(SettingsRefused, match="calibration"):
        fetch_spec(repository, ref("m"), tmp_path / "copies")


def pipelines(tmp_path: Path, tomls: dict[str, str]) -> Any:
    repository = MemoryRepository()
    for version in ("1", "2"):
        repository.publish(ref("leaf", version), {"model.onnx": version.encode()}, revision="r")
    for name, text in tomls.items():
        repository.publish(ref(name), {"pipeline.toml": text.encode()}, revision="r")
    return repository


def test_stages_are_resolved_in_order_and_the_newest_is_taken(tmp_path: Path) -> None:
    repository = pipelines(tmp_path, {"p": 'stages = [{model = "leaf"}, {model = "leaf", version = "1"}]'})
    spec = fetch_spec(repository, ref("p"), tmp_path / "copies")
    assert [stage.ref for stage in spec.stages] == [ref("leaf", "2"), ref("leaf", "1")]
    assert [(stage.folder / stage.entry).read_bytes() for stage in spec.stages] == [b"2", b"1"]


def test_a_retired_stage_is_not_the_newest(tmp_path: Path) -> None:
    repository = pipelines(tmp_path, {"p": 'stages = [{model = "leaf"}]'})
    repository.retire(ref("leaf", "2"))
    assert fetch_spec(repository, ref("p"), tmp_path / "a").stages[0].ref == ref("leaf", "1")
    repository.retire(ref("leaf", "1"))
    with pytest.raises(PipelineRefused, match="stage 0: leaf@2 is retired"):
        fetch_spec(repository, ref("p"), tmp_path / "b")


def test_a_pipeline_that_contains_itself_is_refused_with_the_cycle(tmp_path: Path) -> None:
    repository = pipelines(tmp_path, {"a": 'stages = [{model = "b"}]', "b": 'stages = [{model = "a"}]'})
    with pytest.raises(PipelineRefused, match="a@1 -> b@1 -> a@1"):
        fetch_spec(repository, ref("a"), tmp_path / "copies")
    assert not (tmp_path / "copies").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stages = []",
        "stages = 3",
        "stages = [3]",
        'stages = [{version = "1"}]',
        'stages = [{model = "leaf", version = 1}]',
        'stages = [{model = "leaf", extra = 1}]',
        'stages = [{model = "leaf"}]\nwires = 1',
    ],
)
def test_a_pipeline_without_usable_stages_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(PipelineRefused):
        fetch_spec(pipelines(tmp_path, {"p": text}), ref("p"), tmp_path / "copies")


def test_a_pipeline_of_unknown_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineRefused, match=r"^pipeline p@1: stage 0: unknown model 'nobody'$"):
        fetch_spec(pipelines(tmp_path, {"p": 'stages = [{model = "nobody"}]'}), ref("p"), tmp_path / "copies")


def test_a_stage_that_cannot_be_had_deep_in_a_pipeline_names_the_pipeline_that_wants_it(
    tmp_path: Path,
) -> None:
    found = pipelines(
        tmp_path,
        {
            "outer": 'stages = [{model = "leaf"}, {model = "inner"}]',
            "inner": 'stages = [{model = "leaf"}, {model = "leaf", version = "7"}]',
        },
    )
    with pytest.raises(
        PipelineRefused, match=r"^pipeline inner@1: stage 1: model 'leaf' has no version '7'$"
    ):
        fetch_spec(found, ref("outer"), tmp_path / "copies")
