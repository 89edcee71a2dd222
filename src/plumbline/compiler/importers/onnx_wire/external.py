"""External tensor data: which file beside the model, and which range of it. Nothing outside the folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from plumbline.compiler.importers.limits import ImportLimitError, ImportLimits
from plumbline.compiler.importers.payload import (
    ExternalFile,
    ExternalPayload,
    FileIdentity,
    UnreadableFileError,
    verify_regular,
)
from plumbline.errors import ArtifactError

__all__ = ["ExternalDataError", "ExternalFolder", "UnsafePathError"]

_NUMBER = re.compile(r"[0-9]{1,19}")
_SHA1 = re.compile(r"[0-9a-fA-F]{40}")
_PURPOSE = "external data"


@dataclass(eq=False, kw_only=True)
class UnsafePathError(ArtifactError):
    """External data points outside the folder of the model."""

    code = "artifact.onnx.unsafe_path"
    owner = "compiler.importers"
    template = "tensor {tensor!r} asks for external data at {location!r}: {reason}"

    tensor: str
    location: str
    reason: str


@dataclass(eq=False, kw_only=True)
class ExternalDataError(ArtifactError):
    """External data is described wrongly, or its file is too short."""

    code = "artifact.onnx.external_data"
    owner = "compiler.importers"
    template = "tensor {tensor!r}, external data {location!r}: {reason}"

    tensor: str
    location: str
    reason: str


class ExternalFolder:
    """Finds external files below one folder. Owner of the table of files found: this object."""

    def __init__(self, folder: Path | None, limits: ImportLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._files: dict[tuple[str, str | None], ExternalFile] = {}

    def place(self, tensor: str, entries: Mapping[str, str], expected_bytes: int) -> ExternalPayload:
        """The range that a tensor's `external_data` entries describe; the file is checked, not read.

        Args:
            tensor: name for messages.
            entries: `location`, and optionally `offset`, `length` (decimal bytes) and `checksum` (SHA-1).
            expected_bytes: what type and dimensions of the tensor ask for.

        Raises:
            UnsafePathError: the location is absolute, climbs, or leaves the folder through a link.
            UnreadableFileError: there is no such regular file.
            ExternalDataError: the entries are malformed or the range does not fit tensor or file.
            ImportLimitError: the file is larger than allowed.
        """
        location = entries.get("location", "")
        offset = self._number(tensor, location, "offset", entries.get("offset", "0"))
        length = self._number(tensor, location, "length", entries.get("length", str(expected_bytes)))
        checksum = entries.get("checksum") or None
        if checksum is not None and not _SHA1.fullmatch(checksum):
            raise _described(tensor, location, "checksum is not a SHA-1 digest")
        if length != expected_bytes:
            reason = f"length is {length} bytes, but type and dimensions need {expected_bytes}"
            raise _described(tensor, location, reason)
        file = self._find(tensor, location, checksum)
        if offset + length > file.size_bytes:
            reason = f"bytes {offset} to {offset + length} are wanted, the file has {file.size_bytes}"
            raise _described(tensor, location, reason)
        return ExternalPayload(file=file, offset=offset, size_bytes=length)

    def _find(self, tensor: str, location: str, checksum: str | None) -> ExternalFile:
        known = self._files.get((location, checksum))
        if known is None:
            known = self._open(tensor, location, checksum)
            self._files[location, checksum] = known
        return known

    def _open(self, tensor: str, location: str, checksum: str | None) -> ExternalFile:
        if self._folder is None:
            raise _described(tensor, location, "the model was given as bytes, without a folder to look in")
        _verify_relative(tensor, location)
        root = Path(os.path.realpath(self._folder))
        real = Path(os.path.realpath(root / location))
        if not real.is_relative_to(root):
            raise _unsafe(tensor, location, "a link leads out of the folder of the model")
        try:
            status = os.stat(real)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UnreadableFileError(file=location, purpose=_PURPOSE, reason=reason) from error
        verify_regular(status, location, _PURPOSE)
        allowed = self._limits.external_file_bytes
        if status.st_size > allowed:
            raise ImportLimitError(
                file=location, place="the file", limit="bytes", found=status.st_size, allowed=allowed
            )
        identity = FileIdentity.of(status)
        return ExternalFile(path=real, location=location, identity=identity, sha1=checksum)

    def _number(self, tensor: str, location: str, key: str, text: str) -> int:
        if not _NUMBER.fullmatch(text):
            raise _described(tensor, location, f"{key} {text[:40]!r} is not a number of bytes")
        return int(text)


def _verify_relative(tensor: str, location: str) -> None:
    if not location:
        raise _described(tensor, location, "no location is given")
    if "\0" in location:
        raise _unsafe(tensor, location, "it holds a NUL character")
    windows = PureWindowsPath(location)
    if PurePosixPath(location).is_absolute() or windows.drive or windows.root:
        raise _unsafe(tensor, location, "it is absolute")
    if ".." in PurePosixPath(location).parts or ".." in windows.parts:
        raise _unsafe(tensor, location, "it climbs with '..'")


def _unsafe(tensor: str, location: str, reason: str) -> UnsafePathError:
    return UnsafePathError(tensor=tensor, location=location[:200], reason=reason)


def _described(tensor: str, location: str, reason: str) -> ExternalDataError:
    return ExternalDataError(tensor=tensor, location=location[:200], reason=reason)
