"""A fixed set of streams that jobs borrow one at a time (requirement L0-22)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from plumbline.errors import PlumblineError, Recoverability, ResourceError
from plumbline.hardware.device import Stream


@dataclass(eq=False, kw_only=True)
class StreamPoolBusyError(ResourceError):
    """Every stream of the pool stayed borrowed for the whole time that the caller would wait."""

    code = "resource.stream_pool_busy"
    recoverability = Recoverability.TRANSIENT
    owner = "hardware"
    template = "all {streams} streams of the pool were busy for {timeout_s} s"

    streams: int
    timeout_s: float


class StreamPool:
    """Owns `size` streams: use it in a `with` block. The longest idle stream is lent first.

    Args:
        open_stream: opens the stream of each number, from 0; often `device.open_stream` with a name.
        size: number of streams.
    """

    def __init__(self, open_stream: Callable[[int], Stream], *, size: int) -> None:
        self.size = size
        self._returned = threading.Condition()
        self._idle: list[Stream] = []
        try:
            for number in range(size):
                self._idle.append(open_stream(number))
        except PlumblineError:
            self.close()
            raise

    @property
    def idle(self) -> int:
        """Streams that nobody has borrowed."""
        return len(self._idle)

    @contextmanager
    def borrow(self, timeout_s: float) -> Iterator[Stream]:
        """A stream for the duration of a `with` block; on the way out its queued work is waited for.

        Raises:
            StreamPoolBusyError: none came back in time.
            LaunchFailedError: work that the borrower queued and did not wait for failed.
        """
        with self._returned:
            if not self._returned.wait_for(lambda: bool(self._idle), timeout_s):
                raise StreamPoolBusyError(streams=self.size, timeout_s=timeout_s)
            stream = self._idle.pop(0)
        try:
            yield stream
        finally:
            try:
                if not stream.closed:
                    stream.synchronize()
            finally:
                with self._returned:
                    self._idle.append(stream)
                    self._returned.notify()

    def close(self) -> None:
        """Close every stream; call it when all are back."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
