"""SHA-256 digests of files, remembered while a file stays the same.

A remembered digest is keyed by device, inode, size, modification and change time. It is a shortcut for naming
a file, never a proof: `verify_digest` always reads the file.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import BinaryIO

from plumbline.compiler.importers.payload import FileIdentity, UnreadableFileError, verify_regular
from plumbline.errors import ArtifactError, ValidationError

__all__ = [
    "DigestFormatError",
    "DigestMismatchError",
    "digest_bytes",
    "digest_file",
    "verify_digest",
    "verify_digest_bytes",
]

CACHE_FILE = "file-digests.json"
CACHE_SCHEMA = 1
MAX_REMEMBERED = 4096
_MAX_CACHE_BYTES = 4 * 2**20
_BLOCK_BYTES = 2**20
_SETTLED_NS = 2_000_000_000
_HEX = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


@dataclass(eq=False, kw_only=True)
class DigestMismatchError(ArtifactError):
    """A file is not the one that was expected."""

    code = "artifact.digest_mismatch"
    owner = "compiler.importers"
    template = "{file} has SHA-256 {found}, not the expected {expected}"

    file: str
    expected: str
    found: str


@dataclass(eq=False, kw_only=True)
class DigestFormatError(ValidationError):
    """An expected digest is not 64 hexadecimal digits, with or without `sha256:`."""

    code = "validation.digest_format"
    owner = "compiler.importers"
    template = "{value!r} is not a SHA-256 digest of 64 hexadecimal digits"

    value: str


def digest_file(
    path: Path, *, cache_folder: Path | None = None, now_ns: Callable[[], int] = time.time_ns
) -> str:
    """SHA-256 of a file as 64 lower-case hexadecimal digits, in constant memory.

    Args:
        path: a regular, non-empty file.
        cache_folder: where digests are remembered (made when absent); None remembers nothing.
        now_ns: wall clock. A file changed less than two seconds ago is not remembered, because file systems
            with coarse times could hide a second change.

    Raises:
        UnreadableFileError: the file cannot be read or changes while it is read.
    """
    if cache_folder is None:
        return _hash(path)[0]
    remembered = _load(cache_folder)
    try:
        found = remembered.get(_key(FileIdentity.of(os.stat(path))))
    except OSError as error:
        raise _unreadable(path, error) from error
    if found is not None:
        return found
    digest, identity = _hash(path)
    if now_ns() - max(identity.mtime_ns, identity.ctime_ns) > _SETTLED_NS:
        _remember(cache_folder, remembered, _key(identity), digest)
    return digest


def verify_digest(path: Path, expected: str) -> None:
    """Read the whole file and compare; nothing is remembered or mapped.

    Raises:
        DigestFormatError: `expected` is not a digest.
        DigestMismatchError: the file has another digest.
        UnreadableFileError: the file cannot be read.
    """
    wanted = _parse(expected)
    _verify(path.name, wanted, _hash(path)[0])


def digest_bytes(data: bytes | memoryview) -> str:
    """SHA-256 of a buffer as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def verify_digest_bytes(name: str, data: bytes | memoryview, expected: str) -> None:
    """Compare a buffer, named `name` in messages, with an expected digest.

    Raises:
        DigestFormatError, DigestMismatchError: as `verify_digest`.
    """
    wanted = _parse(expected)
    _verify(name, wanted, digest_bytes(data))


def _verify(name: str, wanted: str, found: str) -> None:
    if not hmac.compare_digest(wanted, found):
        raise DigestMismatchError(file=name, expected=wanted, found=found)


def _parse(expected: str) -> str:
    match = _HEX.fullmatch(expected)
    if match is None:
        raise DigestFormatError(value=expected[:100])
    return match[1].lower()


def _hash(path: Path) -> tuple[str, FileIdentity]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            verify_regular(os.fstat(file.fileno()), path.name, "a model file")
            before = FileIdentity.of(os.fstat(file.fileno()))
            digest = _hash_stream(file)
            after = FileIdentity.of(os.fstat(file.fileno()))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if before != after:
        raise UnreadableFileError(
            file=path.name, purpose="a model file", reason="it changed while it was read"
        )
    return digest, after


def _hash_stream(file: BinaryIO) -> str:
    state = hashlib.sha256()
    block = bytearray(_BLOCK_BYTES)
    view = memoryview(block)
    while count := file.readinto(view):  # type: ignore[attr-defined]
        state.update(view[:count])
    return state.hexdigest()


def _unreadable(path: Path, error: Exception) -> UnreadableFileError:
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return UnreadableFileError(file=path.name, purpose="a model file", reason=reason)


def _key(identity: FileIdentity) -> str:
    return ":".join(map(str, astuple(identity)))


def _load(folder: Path) -> dict[str, str]:
    """What is remembered; a cache that is absent, damaged or of another schema remembers nothing."""
    try:
        with open(folder / CACHE_FILE, "rb") as file:
            document = json.loads(file.read(_MAX_CACHE_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(document, dict) or document.get("schema") != CACHE_SCHEMA:
        return {}
    digests = document.get("digests")
    if not isinstance(digests, dict):
        return {}
    return {k: v for k, v in digests.items() if isinstance(v, str) and re.fullmatch(r"[0-9a-f]{64}", v)}


def _remember(folder: Path, remembered: dict[str, str], key: str, digest: str) -> None:
    """Write the cache anew and put it in place at once. A cache that cannot be written only costs time."""
    kept = dict(list(remembered.items())[-(MAX_REMEMBERED - 1) :]) | {key: digest}
    text = json.dumps({"schema": CACHE_SCHEMA, "digests": kept})
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=CACHE_FILE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, folder / CACHE_FILE)
    except OSError:
        return
