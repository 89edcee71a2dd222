"""What a worker process is told when it is started: one argument of its command line."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

import msgspec

__all__ = ["ChannelRefused", "WorkerChannel", "die_with_parent", "is_orphan"]

_PR_SET_PDEATHSIG = 1


class ChannelRefused(ValueError):
    """The command line is not that of a worker."""


class WorkerChannel(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker finds its gateway.

    Attributes:
        name: of the place, `w0`.
        generation: of the process in its place, from 1.
        parent_pid: of the gateway.
        region: descriptor of the shared file.
        control: descriptor of the Unix socket on which jobs come and outcomes go.
        files: descriptor of the Unix socket over which files of large calls come and go.
        log_folder: for its decision log, exists; None for none.
    """

    name: str
    generation: int
    parent_pid: int
    region: int
    control: int
    files: int
    log_folder: str | None = None

    def argument(self) -> str:
        """For the command line."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> WorkerChannel:
        """From `sys.argv[1:]`: the last argument is the channel.

        Raises:
            ChannelRefused: it is not.
        """
        if not arguments:
            raise ChannelRefused("a worker is started by its gateway, not by hand")
        try:
            return msgspec.json.decode(arguments[-1], type=cls)
        except msgspec.DecodeError as error:
            raise ChannelRefused(f"the last argument is no channel: {error}") from error


def die_with_parent(parent_pid: int) -> None:
    """End this process with its gateway: at once where the system can, else when `is_orphan` is asked."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if is_orphan(parent_pid):
        os._exit(0)


def is_orphan(parent_pid: int) -> bool:
    """Whether the gateway is gone."""
    return os.getppid() != parent_pid
