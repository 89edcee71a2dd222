"""A model without external data is searched once."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from plumbline.compiler.importers import external_files
from plumbline.compiler.importers.external_files import external_identities

MODEL = onnx.parser.parse_model(
    """<ir_version: 8, opset_import: ["": 17]>
    tiny (float[2] x) => (float[2] y) { y = Relu(x) }"""
)


def test_model_without_external_data_is_searched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.onnx"
    onnx.save(MODEL, path)
    cache = tmp_path / "cache"
    assert external_identities(path, "a" * 64, cache) == ()

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the model was opened again")

    monkeypatch.setattr(external_files, "open_source", refuse)
    assert external_identities(path, "a" * 64, cache) == ()
    with pytest.raises(AssertionError, match="opened again"):
        external_identities(path, "b" * 64, cache)


def test_list_that_has_grown_long_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.onnx"
    onnx.save(MODEL, path)
    monkeypatch.setattr(external_files, "REMEMBERED_BYTES", 100)
    for letter in "abcd":
        external_identities(path, letter * 64, tmp_path)
    kept = (tmp_path / external_files.REMEMBERED).read_text(encoding="ascii").split()
    assert kept == ["c" * 64, "d" * 64]
