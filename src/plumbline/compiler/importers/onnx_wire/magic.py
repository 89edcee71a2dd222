"""Files that are certainly something else, recognised by their first bytes and refused by name.

Nothing is ever unpacked: a compressed file is refused whatever it holds, so a decompression bomb costs
nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from plumbline.compiler.importers.payload import ByteSource
from plumbline.errors import ArtifactError

__all__ = ["ForeignFileError", "refuse_foreign"]


@dataclass(eq=False, kw_only=True)
class ForeignFileError(ArtifactError):
    """The file is of another kind than the reader's."""

    code = "artifact.foreign_file"
    owner = "compiler.importers"
    template = "{file} is {kind}, not an ONNX model; {advice}"

    file: str
    kind: str
    advice: str


_UNPACK = "unpack it yourself if you trust it"
_CONVERT = "export the model to ONNX"
_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"PK\x03\x04", "a zip archive", f"{_UNPACK} (PyTorch files are zip archives of pickles)"),
    (0, b"PK\x05\x06", "an empty zip archive", _UNPACK),
    (0, b"PK\x07\x08", "a spanned zip archive", _UNPACK),
    (0, b"\x1f\x8b", "gzip data", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "zstandard data", _UNPACK),
    (0, b"\xfd7zXZ\x00", "xz data", _UNPACK),
    (0, b"BZh", "bzip2 data", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _CONVERT),
    (0, b"\x93NUMPY", "a numpy array", "it holds one array and no model"),
    (0, b"GGUF", "a GGUF file", "open it as GGUF"),
    (4, b"ORTM", "an ONNX Runtime flatbuffer", "use the ONNX file it was made from"),
    (4, b"TFL3", "a TensorFlow Lite model", _CONVERT),
    (0, b"\x7fELF", "a native program", "models are data"),
    (0, b"MZ", "a Windows program", "models are data"),
    (0, b"%PDF", "a PDF document", "models are data"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the file it stands for"),
    (0, b"<!DOCTYPE", "an HTML page", "the download failed"),
    (0, b"<html", "an HTML page", "the download failed"),
    (0, b"<?xml", "an XML document", "an OpenVINO model is two files that only OpenVINO reads"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95(}\]cXK\x8c\x8aq\x80)J]")
_SAFETENSORS = re.compile(rb".{5}\x00\x00\x00\{", re.DOTALL)


def refuse_foreign(source: ByteSource) -> None:
    """Refuse archives, compressed data, pickles, programs and files of other model formats.

    Raises:
        ForeignFileError: naming the kind.
    """
    head = source.buffer[:512]
    for offset, signature, kind, advice in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            raise ForeignFileError(file=source.name, kind=kind, advice=advice)
    if _PICKLE.match(head):
        raise ForeignFileError(
            file=source.name, kind="a Python pickle", advice="loading pickles runs code, which is never done"
        )
    if _SAFETENSORS.match(head):
        raise ForeignFileError(file=source.name, kind="a safetensors file", advice="open its folder instead")
