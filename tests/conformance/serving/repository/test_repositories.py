"""The repositories that are shipped, and a toy one, through one suite (L3-06, X-68)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from plumbline.contracts.inference import VersionRef
from plumbline.serving.repository.digest import content_digest
from plumbline.serving.repository.folder import FolderRepository
from plumbline.serving.repository.http_app import Application, repository_app
from plumbline.serving.repository.http_client import HttpRepository
from plumbline.serving.repository.memory import MemoryRepository
from plumbline.serving.repository.names import verify_ref
from plumbline.serving.repository.port import PublishedState, PublishedVersion, Repository, RepositoryLimits
from plumbline.serving.repository.refusals import FileRefused
from plumbline.serving.repository.shelf import change_state, find_version, verify_new, verify_revision
from plumbline.serving.repository.transfer import NOT_CONTENT, copy_checked, copy_in, source_files
from plumbline.testing.repositories import RepositoryConformance


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@contextlib.contextmanager
def served(app: Application) -> Iterator[str]:
    """The application on a loopback port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", interface="asgi3"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


class TestFolderRepository(RepositoryConformance):
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Repository:
        (tmp_path / "models").mkdir()
        self.root = tmp_path / "models"
        return FolderRepository(self.root, allow_code=False)

    def damage(self, repository: Repository, ref: VersionRef, path: str) -> None:
        flip(self.root / ref.model / ref.version / path)


class TestMemoryRepository(RepositoryConformance):
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Repository:
        return MemoryRepository()

    def damage(self, repository: Repository, ref: VersionRef, path: str) -> None:
        assert isinstance(repository, MemoryRepository)
        content = repository._content[ref]
        content[path] = bytes([content[path][0] ^ 1]) + content[path][1:]


class Door:
    """An application behind which each test puts its own."""

    def __init__(self) -> None:
        self.behind: Application = repository_app(MemoryRepository())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.behind(scope, receive, send)


@pytest.fixture(scope="module")
def door() -> Iterator[tuple[Door, str]]:
    door = Door()
    with served(door) as address:
        yield door, address


class TestHttpRepository(RepositoryConformance):
    @pytest.fixture
    def repository(self, door: tuple[Door, str]) -> Iterator[Repository]:  # type: ignore[override]
        self.behind = MemoryRepository()
        door[0].behind = repository_app(self.behind, writable=True)
        with HttpRepository(door[1]) as client:
            yield client

    def damage(self, repository: Repository, ref: VersionRef, path: str) -> None:
        TestMemoryRepository().damage(self.behind, ref, path)


class ToyRepository:
    """X-68: what somebody writes against the port alone; its store is a list of triples."""

    allow_code = False

    def __init__(self) -> None:
        self.triples: list[tuple[VersionRef, str, bytes]] = []
        self.shelf: dict[VersionRef, PublishedVersion] = {}
        self.lock = threading.Lock()

    def versions(self) -> Sequence[PublishedVersion]:
        return list(self.shelf.values())

    def open_file(self, ref: VersionRef, path: str) -> Iterator[bytes]:
        for owner, name, content in self.triples:
            if (owner, name) == (ref, path):
                return iter([content])
        raise FileRefused(file=path, reason="there is none")

    def fetch(self, ref: VersionRef, into: Path) -> PublishedVersion:
        version = find_version(self.shelf, ref)
        return copy_checked(
            version, lambda p: self.open_file(ref, p), into, limits=RepositoryLimits(), allow_code=False
        )

    def publish(
        self, ref: VersionRef, source: Path | Mapping[str, bytes], *, revision: str
    ) -> PublishedVersion:
        verify_ref(ref)
        verify_revision(revision)
        readers = source_files(source, ref, RepositoryLimits())
        files = copy_in(readers, None, limits=RepositoryLimits(), allow_code=False)
        size_bytes = sum(f.size_bytes for f in files)
        version = PublishedVersion(
            ref=ref, files=files, digest=content_digest(files), revision=revision, size_bytes=size_bytes
        )
        with self.lock:
            if known := verify_new(self.shelf, version, RepositoryLimits()):
                return known
            self.triples += [(ref, p, b"".join(r())) for p, r in readers.items() if p not in NOT_CONTENT]
            self.shelf[ref] = replace(version, order=len(self.shelf))
        return self.shelf[ref]

    def pin(self, ref: VersionRef) -> PublishedVersion:
        self.shelf.update(change_state(self.shelf, ref, PublishedState.PINNED))
        return self.shelf[ref]

    def unpin(self, ref: VersionRef) -> PublishedVersion:
        self.shelf.update(change_state(self.shelf, ref, PublishedState.PUBLISHED))
        return self.shelf[ref]

    def retire(self, ref: VersionRef) -> PublishedVersion:
        self.shelf.update(change_state(self.shelf, ref, PublishedState.RETIRED))
        return self.shelf[ref]


class TestToyRepository(RepositoryConformance):
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Repository:
        return ToyRepository()

    def damage(self, repository: Repository, ref: VersionRef, path: str) -> None:
        assert isinstance(repository, ToyRepository)
        repository.triples = [
            (r, p, c[:-1] + bytes([c[-1] ^ 1]) if (r, p) == (ref, path) else c)
            for r, p, c in repository.triples
        ]
