"""Which files beside an ONNX model hold its weights, found without the cost of indexing every model.

A model whose bytes never say `location` has no external data, which is remembered by its digest. Others are
indexed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from plumbline.compiler.importers.limits import ImportLimits
from plumbline.compiler.importers.payload import ExternalPayload, open_source

__all__ = ["external_identities"]

_KEY = b"location"
REMEMBERED = "models-without-external-data"
REMEMBERED_BYTES = 1 << 16
"""About a thousand digests."""


def external_identities(path: Path, digest: str = "", cache_folder: Path | None = None) -> tuple[str, ...]:
    """Name, size and time of change of every external file of a model, sorted; nothing is read from them.

    They belong into every cache key beside the digest of the model file.

    Args:
        path: the model file.
        digest: its SHA-256, under which it is remembered that a model has no external data.
        cache_folder: where that is remembered; None remembers nothing.

    Raises:
        ArtifactError, ValidationError: the file cannot be read, is damaged, or points outside its folder.
    """
    memory = None if cache_folder is None or not digest else cache_folder / REMEMBERED
    if memory is not None and memory.is_file() and digest in memory.read_text(encoding="ascii").split():
        return ()
    source, _ = open_source(path, purpose="a model file", limit_bytes=ImportLimits().file_bytes)
    if source.buffer.find(_KEY) < 0:
        if memory is not None:
            _remember(memory, digest)
        return ()
    return tuple(sorted(set(_identities(path))))


def _remember(memory: Path, digest: str) -> None:
    """Append a digest; a list that has grown long starts anew."""
    memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    grown = memory.is_file() and memory.stat().st_size > REMEMBERED_BYTES
    with memory.open("w" if grown else "a", encoding="ascii") as file:
        file.write(f"{digest}\n")


def _identities(path: str | os.PathLike[str]) -> Iterator[str]:
    from plumbline.compiler.importers.onnx_wire import OnnxGraph, OnnxTensor, read_model

    model = read_model(path)
    pending: list[object] = [model.graph, *(node for f in model.functions for node in f.nodes)]
    while pending:
        record = pending.pop()
        if isinstance(record, OnnxTensor) and isinstance(record.payload, ExternalPayload):
            file = record.payload.file
            yield f"{file.location} {file.size_bytes} {file.identity.mtime_ns} {file.identity.inode}"
        elif isinstance(record, OnnxGraph):
            pending += [*record.initializers, *record.nodes]
        elif isinstance(record, tuple):
            pending += record
        else:
            pending += [a.value for a in getattr(record, "attributes", ())]
