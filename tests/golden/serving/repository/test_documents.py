"""What is written and sent keeps its form: index file, index document, digest."""

from __future__ import annotations

import json
from pathlib import Path

from plumbline.contracts.inference import VersionRef
from plumbline.serving.repository.folder import FolderRepository
from plumbline.serving.repository.wire import encode_index

SHA_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def published(tmp_path: Path) -> FolderRepository:
    repository = FolderRepository(tmp_path)
    repository.publish(VersionRef(model="m", version="1"), {"model.onnx": b"abc"}, revision="commit 7")
    return repository


def test_index_document(tmp_path: Path) -> None:
    (version,) = json.loads(encode_index(published(tmp_path).versions()))["versions"]
    digest = version.pop("digest")
    assert version == {
        "model": "m",
        "version": "1",
        "state": "published",
        "size_bytes": 3,
        "revision": "commit 7",
        "order": 0,
        "problem": "",
        "files": [{"path": "model.onnx", "size_bytes": 3, "sha256": SHA_OF_ABC}],
    }
    assert digest == "dcd6feb89f26b6b904188dde78a61e31c9c7ed73a77b74400fdf831acebffbd5"


def test_index_file(tmp_path: Path) -> None:
    published(tmp_path)
    document = json.loads((tmp_path / ".plumbline" / "index.json").read_text())
    document["versions"][0]["files"][0][3] = "stamp"
    assert document == {
        "schema": 1,
        "versions": [
            {
                "model": "m",
                "version": "1",
                "inside": "m/1",
                "digest": "dcd6feb89f26b6b904188dde78a61e31c9c7ed73a77b74400fdf831acebffbd5",
                "revision": "commit 7",
                "order": 0,
                "files": [["model.onnx", 3, SHA_OF_ABC, "stamp"]],
                "state": "published",
                "settled": True,
            }
        ],
    }
