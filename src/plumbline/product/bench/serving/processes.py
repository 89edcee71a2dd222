"""A server as processes of its own: started, waited for, and ended with everything that it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.config.children import environment_of_child
from plumbline.errors import ExecutionError

__all__ = ["ServerNotReady", "ServerProcess", "free_port", "process_tree"]

_LOOK_S = 0.1
_STOP_S = 15.0


@dataclass(eq=False, kw_only=True)
class ServerNotReady(ExecutionError):
    """A server of the comparison did not come up; `output` is the end of what it printed."""

    code = "execution.bench_server"
    owner = "product"
    template = "server {server} did not answer rightly: {reason}; its output ends with: {output}"

    server: str
    reason: str
    output: str


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def process_tree(root: int) -> dict[int, str]:
    """A process and all below it, each with its moment of start, which tells it from a later one."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry)] = int(fields[1]), fields[19]
    found = {root} & parents.keys()
    while more := {pid for pid, (parent, _) in parents.items() if parent in found and pid not in found}:
        found |= more
    return {pid: parents[pid][1] for pid in found}


class ServerProcess:
    """One running server, in a process group of its own. Owner of its processes.

    Args:
        name: for messages.
        command: that runs it.
        environment: added to the one of this process.
        log: file for its output.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self._log = name, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                list(command),
                env=environment_of_child(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._seen: dict[int, str] = {}

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    def wait_until(self, is_right: Callable[[], str], timeout_s: float) -> float:
        """Ask until the answer is right; seconds since the call.

        Args:
            is_right: what is wrong, or nothing.
            timeout_s: for all of it.

        Raises:
            ServerNotReady: it ended, or the time is over.
        """
        began = time.monotonic()
        while reason := is_right():
            if self._process.poll() is not None:
                reason = f"it ended with {self._process.returncode}"
            elif time.monotonic() - began < timeout_s:
                time.sleep(_LOOK_S)
                continue
            raise ServerNotReady(server=self.name, reason=reason, output=self._tail())
        return time.monotonic() - began

    def stop(self) -> None:
        """End it: told to, then killed, with every process that was below it."""
        self._seen |= process_tree(self._process.pid)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid, started in self._seen.items():
            if process_tree(pid).get(pid) == started:
                os.kill(pid, signal.SIGKILL)

    def _tail(self) -> str:
        return self._log.read_bytes()[-600:].decode("utf-8", "replace")
