"""`HttpRepository`: versions that another process serves over plain loopback HTTP."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from plumbline.contracts.clock import Clock, MonotonicClock
from plumbline.contracts.inference import VersionRef
from plumbline.serving.repository.names import verify_file_path, verify_ref
from plumbline.serving.repository.port import PublishedVersion, RepositoryLimits
from plumbline.serving.repository.refusals import (
    RepositoryAddressRefused,
    RepositoryAnswerRefused,
    RepositoryUnreachable,
)
from plumbline.serving.repository.shelf import find_version, verify_revision
from plumbline.serving.repository.transfer import (
    NOT_CONTENT,
    copy_checked,
    copy_in,
    source_files,
)
from plumbline.serving.repository.wire import (
    MAX_INDEX_BYTES,
    UploadHead,
    decode_error,
    decode_index,
    decode_version,
)

__all__ = ["HttpRepository", "HttpTimeouts"]

_MAX_ERROR_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTimeouts:
    """How long to wait.

    Attributes:
        connect_s: for a connection.
        read_s: for the next piece of an answer.
        answer_s: for an index or another short answer as a whole.
        file_s: for one file as a whole, so that a server that drips is given up.
    """

    connect_s: float = 5.0
    read_s: float = 30.0
    answer_s: float = 60.0
    file_s: float = 3600.0


class HttpRepository:
    """Client of `http_app.repository_app`. Owns its connections; `close` ends them.

    What comes is checked against the digests of the index: whoever serves the index is trusted with what a
    model is, nobody is trusted with code (`allow_code`) or with native code.

    Args:
        address: `http://127.0.0.1:PORT/PATH`.
        timeouts: of each answer.
        limits: of what is taken.
        allow_code: whether versions may bring Python code.
        clock: for the time of a whole answer.

    Raises:
        RepositoryAddressRefused: not plain HTTP on the loopback interface.
    """

    def __init__(
        self,
        address: str,
        *,
        timeouts: HttpTimeouts | None = None,
        limits: RepositoryLimits | None = None,
        allow_code: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.allow_code = allow_code
        self._address = _verify_loopback(address).rstrip("/")
        self._timeouts, self._limits = timeouts or HttpTimeouts(), limits or RepositoryLimits()
        self._clock = clock or MonotonicClock()
        times = self._timeouts
        self._client = httpx.Client(
            timeout=httpx.Timeout(times.read_s, connect=times.connect_s),
            headers={"accept-encoding": "identity"},
            trust_env=False,
            follow_redirects=False,
        )

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def __enter__(self) -> HttpRepository:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def versions(self) -> Sequence[PublishedVersion]:
        """Ask for the index.

        Raises:
            RepositoryUnreachable: no answer, not in time, or not to the end.
            RepositoryAnswerRefused: an answer that is no index.
        """
        listed = decode_index(self._ask("GET", "index"))
        if len(listed) > self._limits.max_versions:
            raise RepositoryAnswerRefused(reason=f"more than {self._limits.max_versions} versions")
        return listed

    def open_file(self, ref: VersionRef, path: str) -> Iterator[bytes]:
        """The content of a file as it comes."""
        verify_ref(ref)
        verify_file_path(path, allow_code=self.allow_code)
        url = f"files/{quote(ref.model)}/{quote(ref.version)}/{quote(path)}"
        return self._stream("GET", url, None, self._limits.max_file_bytes, self._timeouts.file_s)

    def fetch(self, ref: VersionRef, into: Path) -> PublishedVersion:
        """Copy a version; see the port."""
        known = {version.ref: version for version in self.versions()}
        return copy_checked(
            find_version(known, ref),
            lambda path: self.open_file(ref, path),
            into,
            limits=self._limits,
            allow_code=self.allow_code,
        )

    def publish(
        self, ref: VersionRef, source: Path | Mapping[str, bytes], *, revision: str
    ) -> PublishedVersion:
        """Send a version; see the port."""
        verify_ref(ref)
        verify_revision(revision)
        readers = source_files(source, ref, self._limits)
        files = copy_in(readers, None, limits=self._limits, allow_code=self.allow_code)
        head = UploadHead(revision=revision, files=tuple((f.path, f.size_bytes) for f in files))

        def body() -> Iterator[bytes]:
            yield msgspec.json.encode(head) + b"\n"
            for file in files:
                if file.path not in NOT_CONTENT:
                    yield from readers[file.path]()

        return self._changed("PUT", f"versions/{quote(ref.model)}/{quote(ref.version)}", body())

    def pin(self, ref: VersionRef) -> PublishedVersion:
        """Pin; see the port."""
        return self._change(ref, "pin")

    def unpin(self, ref: VersionRef) -> PublishedVersion:
        """Unpin; see the port."""
        return self._change(ref, "unpin")

    def retire(self, ref: VersionRef) -> PublishedVersion:
        """Retire; see the port."""
        return self._change(ref, "retire")

    # -- inside ----------------------------------------------------------------------------------------------

    def _change(self, ref: VersionRef, verb: str) -> PublishedVersion:
        verify_ref(ref)
        return self._changed("POST", f"versions/{quote(ref.model)}/{quote(ref.version)}/{verb}", None)

    def _changed(self, method: str, path: str, body: Iterator[bytes] | None) -> PublishedVersion:
        return decode_version(self._ask(method, path, body))

    def _ask(self, method: str, path: str, body: Iterator[bytes] | None = None) -> bytes:
        seconds = self._timeouts.answer_s if body is None else self._timeouts.file_s
        return b"".join(self._stream(method, path, body, MAX_INDEX_BYTES, seconds))

    def _stream(
        self, method: str, path: str, body: Iterator[bytes] | None, limit_bytes: int, seconds: float
    ) -> Iterator[bytes]:
        until_ns = self._clock.now_ns() + int(seconds * 1e9)
        with (
            _typed(),
            self._client.stream(method, f"{self._address}/{path}", content=body) as response,
        ):
            if "content-encoding" in response.headers:
                raise RepositoryAnswerRefused(reason="it is compressed, which nobody asked for")
            limit = limit_bytes if response.status_code == 200 else _MAX_ERROR_BYTES
            chunks = self._bounded(response, limit, until_ns)
            if response.status_code != 200:
                raise decode_error(response.status_code, b"".join(chunks))
            yield from chunks

    def _bounded(self, response: httpx.Response, limit_bytes: int, until_ns: int) -> Iterator[bytes]:
        size = 0
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > limit_bytes:
                raise RepositoryAnswerRefused(reason=f"more than {limit_bytes} bytes")
            if self._clock.now_ns() > until_ns:
                raise RepositoryUnreachable(reason="the answer takes too long")
            yield chunk


@contextlib.contextmanager
def _typed() -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise RepositoryUnreachable(reason="no answer in time") from error
    except httpx.RemoteProtocolError as error:
        raise RepositoryUnreachable(reason="the answer is broken or ended early") from error
    except httpx.TransportError as error:
        raise RepositoryUnreachable(reason=f"no connection ({type(error).__name__})") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise RepositoryAnswerRefused(reason=type(error).__name__) from error


def _verify_loopback(address: str) -> str:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise RepositoryAddressRefused(address=ascii(address)[:200], reason="it is no URL") from None
    if parts.scheme != "http" or parts.query or parts.fragment or parts.username or parts.password:
        reason = "expected http://HOST:PORT/PATH without user and query"
        raise RepositoryAddressRefused(address=ascii(parts.hostname)[:200], reason=reason)
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        reason = "plain HTTP is for the loopback interface: nothing protects it elsewhere"
        raise RepositoryAddressRefused(address=ascii(host)[:200], reason=reason)
    return address
