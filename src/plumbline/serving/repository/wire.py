"""What a repository says over HTTP: JSON documents, read strictly on both sides.

    GET  INDEX                             list of versions with their files, schema 1
    GET  files/MODEL/VERSION/PATH          the content of a file
    PUT  versions/MODEL/VERSION            publish: one line of JSON (`UploadHead`), then the files
    POST versions/MODEL/VERSION/pin        and unpin, retire

An error is the JSON document of a `PlumblineError` with its HTTP status.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from plumbline.contracts.inference import VersionRef
from plumbline.errors import PlumblineError
from plumbline.serving.repository.names import verify_ref
from plumbline.serving.repository.port import FileEntry, PublishedState, PublishedVersion
from plumbline.serving.repository.refusals import (
    CodeRefused,
    ContentChanged,
    FileRefused,
    ModelUnknown,
    NameRefused,
    RepositoryAnswerRefused,
    RepositoryFolderGone,
    RepositoryLimitExceeded,
    RepositoryReadOnly,
    SettingsRefused,
    VersionExists,
    VersionPinned,
    VersionRetired,
    VersionUnknown,
    VersionUnusable,
)

__all__ = [
    "MAX_HEAD_BYTES",
    "MAX_INDEX_BYTES",
    "UploadHead",
    "decode_error",
    "decode_head",
    "decode_index",
    "decode_version",
    "encode_index",
    "encode_version",
]

SCHEMA: Final = 1
MAX_INDEX_BYTES: Final = 64 << 20
MAX_HEAD_BYTES: Final = 8 << 20
_TRAVELLING: Final[dict[str, type[PlumblineError]]] = {
    leaf.code: leaf
    for leaf in (
        CodeRefused,
        ContentChanged,
        FileRefused,
        ModelUnknown,
        NameRefused,
        RepositoryFolderGone,
        RepositoryLimitExceeded,
        RepositoryReadOnly,
        SettingsRefused,
        VersionExists,
        VersionPinned,
        VersionRetired,
        VersionUnknown,
        VersionUnusable,
    )
}
"""Refusals that a client raises as the server did."""


class FileDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a version."""

    path: str
    size_bytes: int
    sha256: str


class VersionDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A version."""

    model: str
    version: str
    state: PublishedState
    digest: str
    size_bytes: int
    revision: str
    order: int
    problem: str
    files: tuple[FileDocument, ...]


class IndexDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Every version."""

    schema: int
    versions: tuple[VersionDocument, ...]


class UploadHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a publication begins with; the contents follow without anything between them."""

    revision: str
    files: tuple[tuple[str, int], ...]


def encode_index(versions: Sequence[PublishedVersion]) -> bytes:
    """The index."""
    return msgspec.json.encode(
        IndexDocument(schema=SCHEMA, versions=tuple(_document(version) for version in versions))
    )


def encode_version(version: PublishedVersion) -> bytes:
    """One version."""
    return msgspec.json.encode(_document(version))


def decode_index(data: bytes) -> list[PublishedVersion]:
    """The index.

    Raises:
        RepositoryAnswerRefused: it is none of this schema.
        NameRefused: a name in it cannot be one.
    """
    document = _decoded(data, IndexDocument)
    if document.schema != SCHEMA:
        raise RepositoryAnswerRefused(reason=f"schema {document.schema}, expected {SCHEMA}")
    return [_version(each) for each in document.versions]


def decode_version(data: bytes) -> PublishedVersion:
    """One version. Raises as `decode_index`."""
    return _version(_decoded(data, VersionDocument))


def decode_head(data: bytes) -> UploadHead:
    """The first line of a publication. Raises RepositoryAnswerRefused."""
    head: UploadHead = _decoded(data, UploadHead)
    if any(size < 0 for _, size in head.files) or len({path for path, _ in head.files}) != len(head.files):
        raise RepositoryAnswerRefused(reason="files of a publication: a size below 0, or a path twice")
    return head


def decode_error(status: int, data: bytes) -> PlumblineError:
    """The refusal that an answer holds, or that it holds none."""
    try:
        document = msgspec.json.decode(data)
        leaf = _TRAVELLING[document["code"]]
        wanted = {field.name: field.type for field in dataclasses.fields(leaf)}
        fields = {name: _field(document["fields"][name], kind) for name, kind in wanted.items()}
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return RepositoryAnswerRefused(reason=f"status {status} without a refusal that is known here")
    return leaf(**fields)


def _field(value: Any, kind: Any) -> Any:
    if kind in (int, "int"):
        return int(value)
    return str(value)[:4096]


def _document(version: PublishedVersion) -> VersionDocument:
    return VersionDocument(
        model=version.ref.model,
        version=version.ref.version,
        state=version.state,
        digest=version.digest,
        size_bytes=version.size_bytes,
        revision=version.revision,
        order=version.order,
        problem=version.problem,
        files=tuple(
            FileDocument(path=f.path, size_bytes=f.size_bytes, sha256=f.sha256) for f in version.files
        ),
    )


def _version(document: VersionDocument) -> PublishedVersion:
    ref = VersionRef(model=document.model, version=document.version)
    if not document.problem:
        verify_ref(ref)
    if any(file.size_bytes < 0 for file in document.files):
        raise RepositoryAnswerRefused(reason=f"{ref}: a file of fewer than 0 bytes")
    return PublishedVersion(
        ref=ref,
        state=document.state,
        files=tuple(FileEntry(path=f.path, size_bytes=f.size_bytes, sha256=f.sha256) for f in document.files),
        digest=document.digest,
        size_bytes=document.size_bytes,
        revision=document.revision,
        order=document.order,
        problem=document.problem,
    )


def _decoded(data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RepositoryAnswerRefused(reason=str(error)[:200]) from error
