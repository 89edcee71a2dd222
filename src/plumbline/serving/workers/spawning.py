"""A worker process as an operating system sees it: started, watched, killed, its own output kept.

A worker leads a session and a process group of its own. Whatever it leaves behind in that group is killed
when it has ended, for whatever reason.

One thread per process starts it and waits for it. It lives as long as the process, which matters on Linux: a
process that asked to die with its parent dies with the *thread* that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["OutputTail", "WorkerProcess", "exit_reason"]

_CHUNK_BYTES = 65536


class OutputTail:
    """The last bytes of what a worker printed, and its first ones in a file. Bounded both.

    Owner of the reading end of the pipe; used on the event loop.
    """

    def __init__(self, limit_bytes: int, file: Path | None) -> None:
        self._limit, self._tail = limit_bytes, bytearray()
        self._room = limit_bytes
        self._file = None if file is None else file.open("wb", buffering=0)
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self._reader, _CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._loop.remove_reader(self._reader)
            return
        self._tail += chunk
        del self._tail[: -self._limit]
        if self._file is not None and self._room > 0:
            with contextlib.suppress(OSError):
                self._file.write(chunk[: self._room])
            self._room -= len(chunk)

    def text(self) -> str:
        """What is kept."""
        return self._tail.decode(errors="replace")

    def close_writer(self) -> None:
        """This process does not write. Idempotent."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def close(self) -> None:
        """Read what is there, then close."""
        self._read()
        self.close_writer()
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        if self._file is not None:
            self._file.close()


class WorkerProcess:
    """One process. `exited` gets the exit code (negative: the signal); `pid` is 0 until it runs.

    Args:
        command: to run.
        descriptors: that it inherits.
        output: where its output goes.
        label: of the thread.
    """

    def __init__(
        self, command: Sequence[str], descriptors: Sequence[int], output: OutputTail, label: str
    ) -> None:
        self._command, self._descriptors, self._output = tuple(command), tuple(descriptors), output
        self._loop = asyncio.get_running_loop()
        self.started: asyncio.Future[int] = self._loop.create_future()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self.pid = 0
        self._handle: int | None = None
        self._is_doomed = False
        self._handle_lock = threading.Lock()
        self._thread = threading.Thread(target=self._start_and_wait, name=label, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """End it at once, or as soon as it runs; it cannot refuse, also while it is stopped. Idempotent."""
        with self._handle_lock:
            self._is_doomed = True
            self._kill_started()

    def _kill_started(self) -> None:
        """With the lock held."""
        if self._handle is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if sys.platform == "linux":
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            else:
                os.kill(self._handle, signal.SIGKILL)

    def _start_and_wait(self) -> None:
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._output.writer,
                stderr=self._output.writer,
                pass_fds=self._descriptors,
                start_new_session=True,
            )
        except OSError as error:
            self._tell(self.started.set_exception, error)
            self._tell(self.exited.set_result, 127)
            return
        with self._handle_lock:
            self._handle = os.pidfd_open(process.pid) if sys.platform == "linux" else process.pid
            if self._is_doomed:
                self._kill_started()
        self.pid = process.pid
        self._tell(self.started.set_result, process.pid)
        code = _wait_for_all(process)
        with self._handle_lock:
            if sys.platform == "linux" and self._handle is not None:
                os.close(self._handle)
            self._handle = None
        self._tell(self.exited.set_result, code)

    def _tell(self, setter: Callable[..., None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
            self._loop.call_soon_threadsafe(_unless_done, setter, value)


def _wait_for_all(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a worker. What it had started in its process group, forks of a class among it, is
    killed while the worker is not reaped yet, so the number of the group is its own.
    """
    if sys.platform == "linux":
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _unless_done(setter: Callable[..., None], value: object) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        setter(value)


def exit_reason(code: int) -> str:
    """An exit code in words.

    >>> exit_reason(-9)
    'SIGKILL'
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
