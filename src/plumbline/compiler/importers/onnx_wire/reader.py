"""The door: a path or bytes in, an indexed model out."""

from __future__ import annotations

import os
from pathlib import Path

from plumbline.compiler.importers.digest import verify_digest_bytes
from plumbline.compiler.importers.limits import ImportLimitError, ImportLimits
from plumbline.compiler.importers.onnx_wire.external import ExternalFolder
from plumbline.compiler.importers.onnx_wire.magic import refuse_foreign
from plumbline.compiler.importers.onnx_wire.model_message import decode_model
from plumbline.compiler.importers.onnx_wire.records import OnnxModel
from plumbline.compiler.importers.onnx_wire.session import ReadSession
from plumbline.compiler.importers.onnx_wire.wire import Walker
from plumbline.compiler.importers.payload import ByteSource, UnreadableFileError, open_source

__all__ = ["read_model"]

_DEFAULT_LIMITS = ImportLimits()


def read_model(
    path_or_bytes: str | os.PathLike[str] | bytes,
    *,
    limits: ImportLimits = _DEFAULT_LIMITS,
    base_folder: str | os.PathLike[str] | None = None,
    expected_digest: str | None = None,
) -> OnnxModel:
    """Index an ONNX file. Weights stay unread: the records say where they are.

    The records hold a read-only mapping of the file, which is closed with the last of them.

    Args:
        path_or_bytes: the model file, or its content.
        limits: how much the file may ask of this reader.
        base_folder: where external data may be; default: the folder of the file, and for bytes none.
        expected_digest: SHA-256 in hexadecimal; the mapped file is compared before anything is decoded.

    Returns:
        Records that mirror onnx.proto. Names are not checked for sense: see `verify_names`.

    Raises:
        UnreadableFileError: no such regular, non-empty file.
        ForeignFileError: an archive, a pickle, or a model of another format.
        DigestMismatchError: not the expected file.
        ImportLimitError: over a limit.
        ArtifactError, ValidationError: other leaves, for damaged or impossible content; each names the place.
    """
    source, folder = _open(path_or_bytes, limits)
    if base_folder is not None:
        folder = Path(base_folder)
    if expected_digest is not None:
        with memoryview(source.buffer) as view:
            verify_digest_bytes(source.name, view, expected_digest)
    refuse_foreign(source)
    session = ReadSession(
        walker=Walker(source=source, limits=limits), external=ExternalFolder(folder, limits)
    )
    return decode_model(session)


def _open(given: str | os.PathLike[str] | bytes, limits: ImportLimits) -> tuple[ByteSource, Path | None]:
    if not isinstance(given, bytes):
        path = Path(given)
        source, _ = open_source(path, purpose="a model file", limit_bytes=limits.file_bytes)
        return source, path.parent
    name = "<bytes>"
    if not given:
        raise UnreadableFileError(file=name, purpose="a model file", reason="it is empty")
    if len(given) > limits.file_bytes:
        raise ImportLimitError(
            file=name, place="the model", limit="bytes", found=len(given), allowed=limits.file_bytes
        )
    return ByteSource(name=name, buffer=given), None
