"""Frames on a Unix stream socket: a length of four bytes, little-endian, and as many bytes of message.

Both ends do not block. What cannot be written at once is kept by the writer of the gateway, which has a loop
to be told by, and waited for by the one of the worker, which has a thread.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from collections.abc import Callable

__all__ = ["Frame", "FrameReader", "FrameTooLong", "LoopWriter", "stream_pair", "write_frame"]

_LENGTH = struct.Struct("<I")
_CHUNK_BYTES = 1 << 18
_BUFFER_BYTES = 1 << 20


Frame = bytearray | memoryview
"""The message of one frame."""


class FrameTooLong(ValueError):
    """The other end announces more bytes than a message may have."""


def stream_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends that do not block.

    Raises:
        OSError: no descriptor.
    """
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return ends


class FrameReader:
    """Takes frames from a socket. Owner of the bytes of a frame that has not come whole.

    Args:
        source: does not block.
        limit_bytes: of one frame.
    """

    def __init__(self, source: socket.socket, limit_bytes: int) -> None:
        self._source, self._limit = source, limit_bytes
        self._rest = bytearray()

    def read(self) -> list[Frame]:
        """The frames that have come, after one look at the socket; none when none is whole.

        Raises:
            BlockingIOError: nothing has come.
            EOFError: the other end is closed; what came of a frame is dropped.
            FrameTooLong: at most `limit_bytes` of it are kept.
        """
        try:
            chunk = self._source.recv(_CHUNK_BYTES)
        except ConnectionError as error:
            raise EOFError("the connection was reset") from error
        if not chunk:
            raise EOFError("the other end is closed")
        if not self._rest and len(chunk) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(chunk)
            if len(chunk) == _LENGTH.size + length and length <= self._limit:
                return [memoryview(chunk)[_LENGTH.size :]]
        self._rest += chunk
        return self._split()

    def _split(self) -> list[Frame]:
        frames: list[Frame] = []
        start, rest = 0, self._rest
        while len(rest) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(rest, start)
            if length > self._limit:
                raise FrameTooLong(f"a frame of {length} bytes, limit {self._limit}")
            end = start + _LENGTH.size + length
            if end > len(rest):
                break
            frames.append(rest[start + _LENGTH.size : end])
            start = end
        del rest[:start]
        return frames


class LoopWriter:
    """Writes frames on an event loop, in order, and never waits. Owner of what the socket did not take yet.

    Args:
        target: does not block.
        when_writable: have a function called when the socket takes more, until `unwatch` is called.
        unwatch: no longer.
    """

    def __init__(
        self,
        target: socket.socket,
        when_writable: Callable[[Callable[[], None]], None],
        unwatch: Callable[[], object],
    ) -> None:
        self._target, self._when_writable, self._unwatch = target, when_writable, unwatch
        self._kept: deque[memoryview] = deque()

    def write(self, message: bytes) -> None:
        """Send a frame now, or behind those that wait. To a closed end nothing is sent."""
        frame = memoryview(_LENGTH.pack(len(message)) + message)
        if self._kept:
            self._kept.append(frame)
            return
        sent = self._send(frame)
        if sent < len(frame):
            self._kept.append(frame[sent:])
            self._when_writable(self._go_on)

    def close(self) -> None:
        """Forget what was not sent."""
        if self._kept:
            self._kept.clear()
            self._unwatch()

    def _go_on(self) -> None:
        while self._kept:
            frame = self._kept[0]
            sent = self._send(frame)
            if sent < len(frame):
                self._kept[0] = frame[sent:]
                return
            self._kept.popleft()
        self._unwatch()

    def _send(self, frame: memoryview) -> int:
        try:
            return self._target.send(frame)
        except BlockingIOError:
            return 0
        except OSError:
            return len(frame)  # the other end is gone, which its owner learns from the process


def write_frame(target: socket.socket, message: bytes, is_over: Callable[[], bool], look_s: float) -> None:
    """Send a frame on a thread that may wait.

    Args:
        target: does not block.
        message: of the frame.
        is_over: asked every `look_s` seconds while the other end takes nothing; ends the wait.
        look_s: seconds.
    """
    frame = memoryview(_LENGTH.pack(len(message)) + message)
    while frame:
        try:
            frame = frame[target.send(frame) :]
        except BlockingIOError:
            if is_over():
                return
            poller = select.poll()
            poller.register(target, select.POLLOUT)
            poller.poll(look_s * 1000)
        except OSError:
            return  # the other end is gone, and with it everybody who waits for this
