"""`repository_app`: a repository behind HTTP, so that one Plumbline can be the repository of others.

A bare ASGI application for the routes of `wire`. It checks nobody: mount it on a loopback listener, or behind
the authentication of the gateway.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from plumbline.contracts.inference import VersionRef
from plumbline.errors import PlumblineError
from plumbline.serving.repository.names import verify_file_path, verify_ref
from plumbline.serving.repository.port import PublishedVersion, Repository, RepositoryLimits
from plumbline.serving.repository.refusals import (
    ContentChanged,
    RepositoryAnswerRefused,
    RepositoryLimitExceeded,
    RepositoryReadOnly,
)
from plumbline.serving.repository.wire import (
    MAX_HEAD_BYTES,
    UploadHead,
    decode_head,
    encode_index,
    encode_version,
)

__all__ = ["Application", "repository_app"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def repository_app(
    repository: Repository, *, writable: bool = False, limits: RepositoryLimits | None = None
) -> Application:
    """An ASGI application.

    Args:
        repository: that answers.
        writable: whether publications, pins and retirements are taken.
        limits: of publications.
    """
    return _App(repository, writable, limits or RepositoryLimits())


class _App:
    def __init__(self, repository: Repository, writable: bool, limits: RepositoryLimits) -> None:
        self._repository, self._writable, self._limits = repository, writable, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        try:
            await self._route(scope, receive, answer)
        except PlumblineError as error:
            if answer.begun:
                raise  # the server cuts the connection, so that nobody takes half a file for a whole one
            document = json.dumps(error.to_dict()).encode()
            await answer.whole(error.http_status, document, "application/json")

    async def _route(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        root = scope.get("root_path", "")
        path = unquote(scope.get("raw_path", scope["path"].encode()).split(b"?")[0].decode("latin-1"))
        parts = path.removeprefix(root).strip("/").split("/")
        match scope["method"], parts:
            case "GET", ["index"]:
                versions = await asyncio.to_thread(self._repository.versions)
                await answer.whole(200, encode_index(versions), "application/json")
            case "GET", ["files", model, version, *rest] if rest:
                await self._send_file(VersionRef(model=model, version=version), "/".join(rest), answer)
            case "PUT", ["versions", model, version]:
                published = await self._publish(VersionRef(model=model, version=version), receive)
                await answer.whole(200, encode_version(published), "application/json")
            case "POST", ["versions", model, version, "pin" | "unpin" | "retire" as verb]:
                self._verify_writable()
                change = getattr(self._repository, verb)
                published = await asyncio.to_thread(change, VersionRef(model=model, version=version))
                await answer.whole(200, encode_version(published), "application/json")
            case _:
                await answer.whole(404, b"", "text/plain")

    async def _send_file(self, ref: VersionRef, path: str, answer: _Answer) -> None:
        verify_ref(ref)
        chunks = await asyncio.to_thread(self._repository.open_file, ref, path)
        chunk = await asyncio.to_thread(next, chunks, None)
        await answer.begin(200, "application/octet-stream")
        while chunk is not None:
            await answer.more(chunk)
            chunk = await asyncio.to_thread(next, chunks, None)
        await answer.end()

    async def _publish(self, ref: VersionRef, receive: Receive) -> PublishedVersion:
        self._verify_writable()
        verify_ref(ref)
        staged = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="plumbline-upload-"))
        try:
            upload = _Upload(receive)
            head = decode_head(await upload.line())
            await self._stage(ref, head, upload, staged)
            return await asyncio.to_thread(
                lambda: self._repository.publish(ref, staged, revision=head.revision)
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, staged, True)

    async def _stage(self, ref: VersionRef, head: UploadHead, upload: _Upload, staged: Path) -> None:
        total = sum(size for _, size in head.files)
        if len(head.files) > self._limits.max_files or total > self._limits.max_version_bytes:
            raise RepositoryLimitExceeded(
                what="bytes of a publication", found=total, limit=self._limits.max_version_bytes
            )
        for path, size in head.files:
            verify_file_path(path, allow_code=True)
            target = staged / path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileIO(target, "x") as file:
                left = size
                while left:
                    chunk = await upload.some(left)
                    if not chunk:
                        reason = f"the publication ended {left} bytes too early"
                        raise ContentChanged(model=ref.model, version=ref.version, file=path, reason=reason)
                    left -= len(chunk)
                    await asyncio.to_thread(file.write, chunk)
        if await upload.some(1):
            raise RepositoryAnswerRefused(reason="the publication is longer than its files")

    def _verify_writable(self) -> None:
        if not self._writable:
            raise RepositoryReadOnly(reason="it is served for reading")


class _Upload:
    """The body of a request, a piece at a time."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._held, self._ended = receive, b"", False

    async def line(self) -> bytes:
        """Up to the first line feed, without it."""
        while b"\n" not in self._held:
            if len(self._held) > MAX_HEAD_BYTES or self._ended:
                raise RepositoryAnswerRefused(reason="a publication begins with one line of JSON")
            await self._pull()
        head, _, self._held = self._held.partition(b"\n")
        return head

    async def some(self, most: int) -> bytes:
        """Up to `most` bytes; empty at the end."""
        while not self._held and not self._ended:
            await self._pull()
        piece, self._held = self._held[:most], self._held[most:]
        return piece

    async def _pull(self) -> None:
        message = await self._receive()
        if message["type"] != "http.request":
            self._ended = True
            return
        self._held += message.get("body", b"")
        self._ended = not message.get("more_body", False)


class _Answer:
    """Start, body and end of one response."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def begin(self, status: int, kind: str, size_bytes: int | None = None) -> None:
        self.begun = True
        headers = [(b"content-type", kind.encode())]
        if size_bytes is not None:
            headers.append((b"content-length", str(size_bytes).encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def more(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(self, status: int, body: bytes, kind: str) -> None:
        await self.begin(status, kind, len(body))
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
