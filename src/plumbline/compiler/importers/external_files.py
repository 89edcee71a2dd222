"""Which files beside an ONNX model hold its weights, found without the cost of indexing every model.

A model whose bytes never say `location` has no external data. Others are indexed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from plumbline.compiler.importers.limits import ImportLimits
from plumbline.compiler.importers.payload import ExternalPayload, open_source

__all__ = ["external_identities"]

_KEY = b"location"


def external_identities(path: Path) -> tuple[str, ...]:
    """Name, size and time of change of every external file of a model, sorted; nothing is read from them.

    They belong into every cache key beside the digest of the model file.

    Raises:
        ArtifactError, ValidationError: the file cannot be read, is damaged, or points outside its folder.
    """
    source, _ = open_source(path, purpose="a model file", limit_bytes=ImportLimits().file_bytes)
    if source.buffer.find(_KEY) < 0:
        return ()
    return tuple(sorted(set(_identities(path))))


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
