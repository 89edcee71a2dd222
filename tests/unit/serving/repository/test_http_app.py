"""Requests that the server side of a repository refuses (L3-06)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.serving.repository.http_app import repository_app
from plumbline.serving.repository.memory import MemoryRepository
from plumbline.serving.repository.port import RepositoryLimits
from plumbline.serving.repository.refusals import ContentChanged

HEAD = json.dumps({"revision": "r", "files": [["model.onnx", 3]]}).encode()


def ask(
    repository: MemoryRepository, method: str, path: str, *body: bytes, root: str = "", **options: Any
) -> tuple[int, bytes]:
    """Status and body of one request whose body comes in these pieces."""
    pieces = list(body) or [b""]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": root,
        "headers": [],
    }
    asyncio.run(repository_app(repository, **options)(scope, receive, send))
    assert [m["type"] for m in sent].count("http.response.start") == 1
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent)


def code_of(answer: tuple[int, bytes]) -> tuple[int, str]:
    return answer[0], json.loads(answer[1])["code"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ((HEAD + b"\nab",), "artifact.content_changed"),
        ((HEAD + b"\nabcd",), "artifact.repository_answer"),
        ((HEAD,), "artifact.repository_answer"),
        ((b"",), "artifact.repository_answer"),
        ((b"{}\n",), "artifact.repository_answer"),
        ((b'{"revision": "r", "files": [["a", -1]]}\n',), "artifact.repository_answer"),
        ((b'{"revision": "r", "files": [["a", 0], ["a", 0]]}\n',), "artifact.repository_answer"),
        ((b'{"revision": "r", "files": [["../a", 1]]}\na',), "artifact.repository_file"),
        ((b'{"revision": "r", "files": [["a", 99999999999]]}\n',), "artifact.repository_limit"),
        ((b'{"revision": "", "files": [["a", 1]]}\na',), "artifact.version_settings"),
        ((b'{"revision": "r", "files": []}\n',), "validation.version_exists"),
    ],
)
def test_a_publication_that_is_cut_too_long_or_nonsense_publishes_nothing(
    body: tuple[bytes, ...], code: str
) -> None:
    repository = MemoryRepository()
    limits = RepositoryLimits(max_version_bytes=1 << 20)
    answer = ask(repository, "PUT", "/versions/m/1", *body, writable=True, limits=limits)
    assert code_of(answer)[1] == code
    assert 400 <= answer[0] < 500
    assert list(repository.versions()) == []


def test_a_publication_in_many_pieces_is_whole() -> None:
    repository = MemoryRepository()
    pieces = [bytes([byte]) for byte in HEAD + b"\nabc"]
    status, _ = ask(repository, "PUT", "/versions/m/1", *pieces, writable=True)
    assert status == 200
    assert b"".join(repository.open_file(VersionRef(model="m", version="1"), "model.onnx")) == b"abc"


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/versions/m/1"), ("POST", "/versions/m/1/pin"), ("POST", "/versions/m/1/retire")],
)
def test_nothing_is_changed_where_it_is_served_for_reading(method: str, path: str) -> None:
    assert code_of(ask(MemoryRepository(), method, path)) == (403, "policy.repository_read_only")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/files/m/1/model.onnx", (404, "validation.model_unknown")),
        ("/files/../1/model.onnx", (400, "validation.model_name")),
        ("/files/m/%2e%2e/model.onnx", (400, "validation.model_name")),
    ],
)
def test_a_file_that_is_not_there_is_refused(path: str, answer: tuple[int, str]) -> None:
    assert code_of(ask(MemoryRepository(), "GET", path)) == answer


@pytest.mark.parametrize("path", ["/", "/other", "/files/m", "/versions/m/1/explode"])
def test_another_route_is_not_found(path: str) -> None:
    assert ask(MemoryRepository(), "POST", path, writable=True)[0] == 404


def test_it_works_below_a_root_path() -> None:
    status, body = ask(MemoryRepository(), "GET", "/repo/index", root="/repo")
    assert (status, json.loads(body)) == (200, {"schema": 1, "versions": []})


def test_a_file_that_breaks_in_the_middle_breaks_the_answer() -> None:
    """The server must cut the connection: a second answer in the same one would look like content."""

    class Breaking(MemoryRepository):
        def open_file(self, ref: VersionRef, path: str) -> Any:
            yield b"first"
            raise ContentChanged(model=ref.model, version=ref.version, file=path, reason="disk")

    with pytest.raises(ContentChanged):
        ask(Breaking(), "GET", "/files/m/1/model.onnx")
