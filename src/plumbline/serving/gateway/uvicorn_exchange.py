"""One request and its answer under uvicorn: an answer of known length leaves in one write."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGISendEvent, HTTPResponseBodyEvent, HTTPResponseStartEvent

__all__ = ["AnswerBroken", "Exchange"]

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in HTTPStatus
}
_WITHOUT_BODY = frozenset({204, 304})


class AnswerBroken(RuntimeError):
    """The application sent messages that make no HTTP answer: a defect of it."""


class Exchange(RequestResponseCycle):
    """Owner of one exchange; the parser's side of it is in `bounded_uvicorn`.

    Attributes:
        ends_connection: its connection is to be closed when the request, too, is complete.
    """

    _held: bytes | None = None
    _task: asyncio.Task[None] | None = None
    ends_connection = False

    def start(self, application: ASGI3Application) -> None:
        """Begin to ask the application. It is told of a lost connection by `receive`."""
        self._task = asyncio.get_running_loop().create_task(self.run_asgi(application))

    async def send(self, message: ASGISendEvent) -> None:
        """Take a message of the application. Waits only while the client does not read."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_complete:
            raise AnswerBroken(f"{message['type']} after the end of the answer")
        if message["type"] == "http.response.start" and not self.response_started:
            self._start(message)
        elif message["type"] == "http.response.body" and self.response_started:
            self._continue(message)
        else:
            raise AnswerBroken(f"{message['type']} in the wrong place")

    def _start(self, message: HTTPResponseStartEvent) -> None:
        status = message["status"]
        self.response_started = True
        if self.waiting_for_100_continue:
            self.keep_alive = False  # the body was not asked for: what comes next may be it, or may not
        line = _STATUS_LINES.get(status)
        lines = [line if line is not None else b"HTTP/1.1 %d \r\n" % status]
        for pairs in (self.default_headers, message.get("headers", ())):
            for name, value in pairs:
                lines.append(b"%b: %b\r\n" % (name, value))
                if name == b"content-length":
                    self.chunked_encoding, self.expected_content_length = False, int(value)
                elif name == b"connection" and b"close" in value.lower():
                    self.keep_alive = False
                    lines.pop()  # said below
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\r") != len(lines) or head.count(b"\n") != len(lines) or b"\0" in head:
            raise AnswerBroken("a header holds a line break or a zero byte")
        if self.chunked_encoding is False:
            self._held = head + b"\r\n"
        else:
            self.transport.write(head + b"\r\n")

    def _continue(self, message: HTTPResponseBodyEvent) -> None:
        body, is_last = message.get("body", b""), not message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            body, self.expected_content_length = b"", 0
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"0\r\n\r\n" if is_last else b""
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (is_last and self.expected_content_length):
                raise AnswerBroken("the body is not as long as its content-length")
        if self._held is not None:
            body, self._held = self._held + body, None
        if body:
            self.transport.write(body)
        if is_last:
            self._finish()

    def _finish(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            if self.more_body and not self.waiting_for_100_continue:
                self.ends_connection = True
            else:
                self.transport.close()
        self.on_response()
