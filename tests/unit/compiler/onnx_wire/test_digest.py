"""Digests name files; an expected digest refuses a file before it is decoded (L3-04, X-26)."""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from plumbline.compiler.importers import digest as digest_module
from plumbline.compiler.importers.digest import (
    CACHE_FILE,
    DigestFormatError,
    DigestMismatchError,
    digest_file,
    verify_digest,
)
from plumbline.compiler.importers.onnx_wire import read_model
from plumbline.compiler.importers.payload import UnreadableFileError
from plumbline.errors import ErrorClass


@pytest.fixture(name="model")
def model_fixture(tmp_path: Path) -> Path:
    tensor = numpy_helper.from_array(np.arange(64, dtype=np.float32), "w")
    node = helper.make_node("Identity", ["w"], ["y"])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", [], [], [tensor])), path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def much_later() -> int:
    return 1 << 62


@pytest.fixture(name="hashed")
def hashed_fixture(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths whose content was read, in order."""
    seen: list[Path] = []
    original = digest_module._hash

    def spy(path: Path):
        seen.append(path)
        return original(path)

    monkeypatch.setattr(digest_module, "_hash", spy)
    return seen


def test_a_digest_is_the_sha256_of_the_file(model: Path) -> None:
    assert digest_file(model) == sha256(model)


def test_a_digest_is_remembered_while_the_file_stays_the_same(model: Path, tmp_path: Path, hashed) -> None:
    for _ in range(3):
        assert digest_file(model, cache_folder=tmp_path / "cache", now_ns=much_later) == sha256(model)
    assert len(hashed) == 1


@pytest.mark.parametrize("change", ["content", "times", "exchanged"])
def test_a_digest_is_recomputed_when_the_file_changes(
    model: Path, tmp_path: Path, hashed, change: str
) -> None:
    cache = tmp_path / "cache"
    digest_file(model, cache_folder=cache, now_ns=much_later)
    status = os.stat(model)
    if change == "content":
        model.write_bytes(model.read_bytes()[:-1] + b"\xff")
        os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "times":
        os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    else:
        (tmp_path / "other").write_bytes(bytes(status.st_size))
        os.utime(tmp_path / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
        os.replace(tmp_path / "other", model)
    assert digest_file(model, cache_folder=cache, now_ns=much_later) == sha256(model)
    assert len(hashed) == 2


def test_a_file_that_just_changed_is_not_remembered(model: Path, tmp_path: Path, hashed) -> None:
    for _ in range(2):
        digest_file(model, cache_folder=tmp_path / "cache", now_ns=lambda: os.stat(model).st_mtime_ns + 1)
    assert len(hashed) == 2


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 99, "digests": {}}', '{"schema": 1, "digests": 3}']
)
def test_a_damaged_cache_remembers_nothing(model: Path, tmp_path: Path, text: str) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / CACHE_FILE).write_text(text)
    assert digest_file(model, cache_folder=cache, now_ns=much_later) == sha256(model)
    assert json.loads((cache / CACHE_FILE).read_text())["schema"] == 1


def test_the_cache_has_a_size_cap(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_module, "MAX_REMEMBERED", 3)
    for index in range(6):
        path = tmp_path / f"{index}.bin"
        path.write_bytes(bytes([index]))
        digest_file(path, cache_folder=tmp_path / "cache", now_ns=much_later)
    assert len(json.loads((tmp_path / "cache" / CACHE_FILE).read_text())["digests"]) == 3


def test_a_cache_that_cannot_be_written_changes_no_answer(model: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert digest_file(model, cache_folder=blocked / "cache", now_ns=much_later) == sha256(model)


def test_an_expected_digest_is_always_computed(model: Path, tmp_path: Path, hashed) -> None:
    digest_file(model, cache_folder=tmp_path / "cache", now_ns=much_later)
    verify_digest(model, sha256(model))
    verify_digest(model, "sha256:" + sha256(model).upper())
    assert len(hashed) == 3


def test_one_flipped_byte_is_refused_before_anything_is_decoded(model: Path) -> None:
    """L3-04: every single flipped bit of the file, the weights included, is an artifact error."""
    expected = sha256(model)
    data = model.read_bytes()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        model.write_bytes(damaged)
        with pytest.raises(DigestMismatchError) as caught:
            read_model(model, expected_digest=expected)
        assert caught.value.error_class is ErrorClass.ARTIFACT
    with pytest.raises(DigestMismatchError):
        verify_digest(model, expected)
    model.write_bytes(data)
    assert read_model(model, expected_digest=expected).graph.name == "g"


def test_a_large_file_is_digested_in_bounded_memory(tmp_path: Path) -> None:
    """L3-04: streaming keeps memory bounded."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    digest_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "0" * 63, "sha1:" + "0" * 64])
def test_something_that_is_not_a_digest_is_refused(model: Path, text: str) -> None:
    with pytest.raises(DigestFormatError):
        verify_digest(model, text)
    with pytest.raises(DigestFormatError):
        read_model(model, expected_digest=text)


def test_a_folder_an_empty_file_and_a_missing_file_have_no_digest(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("", "empty", "none"):
        with pytest.raises(UnreadableFileError):
            digest_file(tmp_path / name)
        with pytest.raises(UnreadableFileError):
            verify_digest(tmp_path / name, "0" * 64)
