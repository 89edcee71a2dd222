"""Servers that are slow, cut, or say nonsense; addresses that are not loopback (L3-06)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.errors import PlumblineError
from plumbline.serving.repository.http_client import HttpRepository, HttpTimeouts
from plumbline.serving.repository.memory import MemoryRepository
from plumbline.serving.repository.port import PublishedVersion, RepositoryLimits
from plumbline.serving.repository.refusals import (
    CodeRefused,
    ContentChanged,
    FileRefused,
    NameRefused,
    RepositoryAddressRefused,
    RepositoryAnswerRefused,
    RepositoryLimitExceeded,
    RepositoryUnreachable,
)
from plumbline.serving.repository.wire import decode_error, encode_index

ONE = VersionRef(model="m", version="1")
PATIENT = HttpTimeouts(connect_s=60.0, read_s=60.0, answer_s=60.0, file_s=60.0)
"""For servers that answer: what they say is the subject, not when."""
QUICK = HttpTimeouts(connect_s=2.0, read_s=0.3, answer_s=0.6, file_s=0.6)


def patience(answer: Callable[[socket.socket], None] | bytes) -> HttpTimeouts:
    """Short where nothing comes, or too slowly."""
    return PATIENT if isinstance(answer, bytes) else QUICK


@contextlib.contextmanager
def answering(*answers: Callable[[socket.socket], None] | bytes) -> Iterator[str]:
    """A server that gives these answers, one for each connection, whatever is asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        for answer in answers:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(60)
                connection.recv(65536)
                if isinstance(answer, bytes):
                    connection.sendall(answer)
                else:
                    answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)
        assert not thread.is_alive()


def ok(body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + body


def listed(files: dict[str, bytes], *, allow_code: bool = True) -> list[PublishedVersion]:
    behind = MemoryRepository(allow_code=allow_code)
    behind.publish(ONE, files, revision="r")
    return list(behind.versions())


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(60):
        connection.sendall(b" ")
        threading.Event().wait(0.05)


def stay_silent(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (stay_silent, RepositoryUnreachable),
        (drip, RepositoryUnreachable),
        (b"", RepositoryUnreachable),
        (b"\x00\xff garbage\r\n\r\n", RepositoryUnreachable),
        (ok(b'{"schema": 1}')[:-4], RepositoryUnreachable),
        (ok(b"not json"), RepositoryAnswerRefused),
        (ok(b"\xff\xfe"), RepositoryAnswerRefused),
        (ok(b"[" * 100_000), RepositoryAnswerRefused),
        (ok(b'{"schema": 9, "versions": []}'), RepositoryAnswerRefused),
        (ok(b'{"schema": 1, "versions": [{}]}'), RepositoryAnswerRefused),
        (ok(b'{"schema": 1, "versions": []}', "Content-Encoding: gzip\r\n"), RepositoryAnswerRefused),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", None),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}", RepositoryAnswerRefused),
    ],
)
def test_a_server_that_is_slow_cut_or_speaks_nonsense_gives_a_typed_error(
    answer: Callable[[socket.socket], None] | bytes, refusal: type[PlumblineError] | None
) -> None:
    with (
        answering(answer) as address,
        HttpRepository(address, timeouts=patience(answer)) as repository,
        pytest.raises(refusal or RepositoryAnswerRefused),
    ):
        repository.versions()


def test_nobody_there_gives_a_typed_error_that_says_when_to_try_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        HttpRepository(f"http://127.0.0.1:{port}", timeouts=QUICK) as repository,
        pytest.raises(RepositoryUnreachable) as refused,
    ):
        repository.versions()
    assert refused.value.retry_after_s > 0


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (ok(b"abX"), ContentChanged),
        (ok(b"ab"), ContentChanged),
        (ok(b"abcd"), ContentChanged),
        (ok(b"abc")[:-1], RepositoryUnreachable),
        (drip, (RepositoryUnreachable, ContentChanged)),
    ],
)
def test_a_file_that_is_not_what_the_index_says_leaves_nothing(
    tmp_path: Path, content: Callable[[socket.socket], None] | bytes, refusal: type[PlumblineError]
) -> None:
    """L3-04."""
    index = ok(encode_index(listed({"model.onnx": b"abc"})))
    with (
        answering(index, content) as address,
        HttpRepository(address, timeouts=patience(content)) as repository,
        pytest.raises(refusal),
    ):
        repository.fetch(ONE, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("before", "after", "refusal"),
    [
        (b'"path":"model.onnx"', b'"path":"../../x.onn"', (ContentChanged, FileRefused)),
        (b'"model":"m"', b'"model":".."', NameRefused),
        (b'"size_bytes":3,"sha', b'"size_bytes":-3,"sha', RepositoryAnswerRefused),
        (b'"size_bytes":3,"sha', b'"size_bytes":4,"sha', ContentChanged),
        (b'"sha256":"', b'"sha256":"00', ContentChanged),
    ],
)
def test_an_index_that_lies_is_refused_before_any_file_is_asked_for(
    tmp_path: Path, before: bytes, after: bytes, refusal: type[PlumblineError]
) -> None:
    index = encode_index(listed({"model.onnx": b"abc"}))
    assert before in index
    with (
        answering(ok(index.replace(before, after))) as address,
        HttpRepository(address, timeouts=PATIENT) as repository,
        pytest.raises(refusal),
    ):
        repository.fetch(ONE, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_limits_are_held_before_any_file_is_asked_for(tmp_path: Path) -> None:
    index = ok(encode_index(listed({"model.onnx": b"abc"})))
    limits = RepositoryLimits(max_version_bytes=2)
    with (
        answering(index) as address,
        HttpRepository(address, timeouts=PATIENT, limits=limits) as repository,
        pytest.raises(RepositoryLimitExceeded),
    ):
        repository.fetch(ONE, tmp_path / "copy")


def test_python_code_comes_only_where_it_is_trusted(tmp_path: Path) -> None:
    files = {"model.py": b"class M: ...", "version.toml": b'entry = "model.py:M"'}
    index, first, second = (
        ok(body) for body in (encode_index(listed(files)), files["model.py"], files["version.toml"])
    )
    with (
        answering(index) as address,
        HttpRepository(address, timeouts=PATIENT) as repository,
        pytest.raises(CodeRefused),
    ):
        repository.fetch(ONE, tmp_path / "no")
    with (
        answering(index, first, second) as address,
        HttpRepository(address, timeouts=PATIENT, allow_code=True) as repository,
    ):
        assert repository.fetch(ONE, tmp_path / "yes").ref == ONE


@pytest.mark.parametrize(
    "address",
    [
        "https://127.0.0.1:1",
        "http://example.org",
        "http://10.0.0.1:80",
        "http://user:secret@127.0.0.1",
        "http://127.0.0.1:99999",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "",
        "http://127.0.0.1.example.org/",
        "http://127.0.0.1/?q=1",
    ],
)
def test_an_address_that_is_not_plain_loopback_http_is_refused(address: str) -> None:
    with pytest.raises(RepositoryAddressRefused) as refused:
        HttpRepository(address)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"code": 3}', b'{"code": "artifact.version_unusable"}', b'"x"', b"null"]
)
def test_an_error_that_is_unknown_here_is_a_refused_answer(body: bytes) -> None:
    assert isinstance(decode_error(418, body), RepositoryAnswerRefused)
