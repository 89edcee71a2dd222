"""Limits that a worker is held to from outside: the time of one run of a class, and memory.

A worker that passes one is ended and replaced. What that means for a call it had in hand is for the breach to
say: the call whose run it was is failed with the limit, others are tried again, and one that is there at two
breaches is failed with the limit too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from plumbline.errors import ExecutionError, PlumblineError, ResourceError
from plumbline.serving.workers.journal import MAX_SEEN, Entry
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.run_board import Overrun, find_overrun, request_digest

__all__ = [
    "Breach",
    "MemoryBreach",
    "RunBreach",
    "RunTooLong",
    "WorkerMemoryExceeded",
    "find_run_breach",
    "memory_breach",
    "private_bytes",
]


@dataclass(eq=False, kw_only=True)
class RunTooLong(ExecutionError):
    """A class went on with a request for longer than one run may take; its worker was ended. `max_run_s` in
    version.toml sets the limit.
    """

    code = "execution.workers_run_too_long"
    owner = "serving.workers"
    template = "request {request}: {version} ran for {ran_s} s, at most {limit_s} s (max_run_s)"
    http_status = 504

    request: str
    version: str
    ran_s: float
    limit_s: float


@dataclass(eq=False, kw_only=True)
class WorkerMemoryExceeded(ResourceError):
    """Two workers that had this call in hand took more memory than a worker of their group may."""

    code = "resource.workers_memory"
    owner = "serving.workers"
    template = "request {request}: its worker took {private_bytes} bytes, at most {limit_bytes}"
    http_status = 500

    request: str
    private_bytes: int
    limit_bytes: int


class Breach(Protocol):
    """Why a worker was ended."""

    @property
    def event(self) -> str:
        """Kind of the event that tells of it."""

    @property
    def reason(self) -> str:
        """In words."""

    def outcome(self, entry: Entry) -> PlumblineError | None:
        """Of a call that the worker had, which counts as seen by it; None: it is treated as any lost call."""


@dataclass(frozen=True, slots=True)
class RunBreach:
    """A run went on for too long. Of several requests in it any may be the one: each is tried again."""

    overrun: Overrun

    @property
    def event(self) -> str:
        """It does not come to an end."""
        return "worker.stalled"

    @property
    def reason(self) -> str:
        """With the limit."""
        return self.overrun.reason

    def outcome(self, entry: Entry) -> PlumblineError | None:
        """`RunTooLong` for the call whose run it was."""
        run = self.overrun
        if request_digest(entry.call.id) not in run.digests or (run.requests > 1 and entry.seen < MAX_SEEN):
            return None
        return RunTooLong(
            request=entry.call.id,
            version=str(entry.version.spec.ref),
            ran_s=round(run.ran_ns / 1e9, 3),
            limit_s=run.limit_ns / 1e9,
        )


@dataclass(frozen=True, slots=True)
class MemoryBreach:
    """The process grew beyond its limit. It may have grown for long, so no call is blamed the first time."""

    private_bytes: int
    limit_bytes: int

    @property
    def event(self) -> str:
        """It took too much."""
        return "worker.memory_exceeded"

    @property
    def reason(self) -> str:
        """With size and limit."""
        return f"{self.private_bytes} bytes of memory, at most {self.limit_bytes}"

    def outcome(self, entry: Entry) -> PlumblineError | None:
        """`WorkerMemoryExceeded` for a call that had lost a worker before."""
        if entry.seen < MAX_SEEN:
            return None
        return WorkerMemoryExceeded(
            request=entry.call.id, private_bytes=self.private_bytes, limit_bytes=self.limit_bytes
        )


def find_run_breach(words: memoryview, options: PoolOptions, now_ns: int) -> RunBreach | None:
    """The run that is longest over its limit, from the seats of a worker."""
    overrun = find_overrun(words, now_ns, int(options.max_run_s * 1e9))
    return None if overrun is None else RunBreach(overrun)


def memory_breach(pid: int, options: PoolOptions) -> MemoryBreach | None:
    """Whether a worker is larger than it may be; None too where the system does not say."""
    limit_bytes = options.memory_limit_bytes
    if limit_bytes is None:
        return None
    size = private_bytes(pid)
    return MemoryBreach(size, limit_bytes) if size is not None and size > limit_bytes else None


def private_bytes(pid: int) -> int | None:
    """Resident memory that a process shares with no file: what its heap holds. Mapped weights and the file
    between it and the gateway are not in it. None where the system does not say.
    """
    try:
        facts = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return (int(facts[1]) - int(facts[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
