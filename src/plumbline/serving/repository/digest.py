"""The digest of a version: SHA-256 over its sorted file lines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from plumbline.serving.repository.port import FileEntry

__all__ = ["content_digest"]


def content_digest(files: Iterable[FileEntry]) -> str:
    """SHA-256, hexadecimal, over one line `PATH\\0SIZE\\0SHA256\\n` for each file in order of path (UTF-8).

    >>> content_digest([]) == hashlib.sha256(b"").hexdigest()
    True
    """
    whole = hashlib.sha256()
    for entry in sorted(files, key=lambda f: f.path.encode()):
        whole.update(f"{entry.path}\0{entry.size_bytes}\0{entry.sha256}\n".encode())
    return whole.hexdigest()
