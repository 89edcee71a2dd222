"""How the orchestration loop sleeps, and what wakes it.

`LockDoorbell` is rung by threads only. `InletDoorbell` also wakes when something arrives at a descriptor that
the loop itself looks after, which saves the thread that would read it and the hand-over from that thread.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress
from typing import Protocol

__all__ = ["Doorbell", "Inlet", "InletDoorbell", "LockDoorbell", "open_doorbell"]

_DRAIN_BYTES = 4096


class Inlet(Protocol):
    """Where calls arrive from outside the process. Both functions are called by the orchestration thread."""

    def fileno(self) -> int:
        """The descriptor to sleep on, below 1024 (`select`); -1 when nothing will arrive any more."""

    def receive(self) -> None:
        """Take what has arrived, without waiting, and submit it. It must not raise."""


class Doorbell(Protocol):
    """Wakes one sleeper. `sleep` and `collect` belong to the orchestration thread, `ring` to any."""

    def ring(self) -> None:
        """End the sleep, or the next one."""

    def sleep(self, timeout_s: float) -> None:
        """Until somebody rings, something arrives, or the time is over."""

    def collect(self) -> None:
        """Bring in what has arrived from outside the process."""

    def close(self) -> None:
        """Nobody sleeps any more. Ringing stays harmless."""


class LockDoorbell:
    """A binary semaphore."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """End the sleep, or the next one."""
        if self._lock.locked():
            with suppress(RuntimeError):  # another thread was faster
                self._lock.release()

    def sleep(self, timeout_s: float) -> None:
        """Until somebody rings, or the time is over."""
        self._lock.acquire(timeout=timeout_s)

    def collect(self) -> None:
        """Nothing arrives by itself."""

    def close(self) -> None:
        """Nothing to give back."""


class InletDoorbell:
    """A pipe beside the descriptor of an inlet. Owner of the pipe.

    A ring writes to the pipe only while the loop sleeps: whoever rings first says so and looks then, the loop
    says first that it sleeps and looks then, so one of the two sees the other.

    Raises:
        OSError: no descriptor.
    """

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._asleep = self._rung = False
        self._closing = threading.Lock()

    def ring(self) -> None:
        """End the sleep, or the next one."""
        self._rung = True
        if self._asleep:
            self._asleep = False
            with self._closing, suppress(BlockingIOError):
                if self._writer >= 0:
                    os.write(self._writer, b"\0")

    def sleep(self, timeout_s: float) -> None:
        """Until somebody rings, something arrives, or the time is over."""
        self._asleep = True
        if not self._rung:
            inlet = self._inlet.fileno()
            watched = (self._reader,) if inlet < 0 else (inlet, self._reader)
            readable = select.select(watched, (), (), timeout_s)[0]
            if self._reader in readable:
                os.read(self._reader, _DRAIN_BYTES)
        self._asleep = self._rung = False

    def collect(self) -> None:
        """Let the inlet take what has arrived."""
        self._inlet.receive()

    def close(self) -> None:
        """Give the pipe back. Idempotent."""
        with self._closing:
            for descriptor in (self._reader, self._writer):
                if descriptor >= 0:
                    os.close(descriptor)
            self._reader = self._writer = -1


def open_doorbell(inlet: Inlet | None) -> Doorbell:
    """For a loop with this inlet, or without one."""
    return LockDoorbell() if inlet is None else InletDoorbell(inlet)
