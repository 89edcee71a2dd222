"""What an engine says about itself, and when it cannot be started, stopped or waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from plumbline.contracts.inference import VersionRef
from plumbline.errors import ExecutionError, Recoverability, ResourceError

__all__ = ["EngineRunning", "EngineStatus", "EngineStopTimeout", "WrongThread"]


@dataclass(eq=False, kw_only=True)
class EngineStopTimeout(ResourceError):
    """A launch did not come back; its thread is left behind, so the process should end."""

    code = "resource.engine_stop_timeout"
    recoverability = Recoverability.FATAL
    owner = "engine"
    template = "the engine did not stop within {timeout_s} s: a launch did not return"

    timeout_s: float


@dataclass(eq=False, kw_only=True)
class EngineRunning(ExecutionError):
    """The engine runs already."""

    code = "execution.engine_running"
    owner = "engine"
    template = "the engine runs already"


@dataclass(eq=False, kw_only=True)
class WrongThread(ExecutionError):
    """Something that waits for the engine was called from a completion callback."""

    code = "execution.engine_thread"
    owner = "engine"
    template = "{function} waits for the engine, so a completion callback may not call it"

    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """The engine at a moment. Numbers are read without stopping it, so they may be a step apart.

    Attributes:
        running_loop: whether the orchestration thread runs.
        versions: loaded versions with their planned bytes.
        queued: accepted and not launched; running: in launches.
        launches: made since the start.
        steps: turns of the loop and segment boundaries, over all starts.
        oldest_launch_ns: when the oldest launch that still runs began, absolute monotonic; None when idle.
        memory_bytes: planned, of all versions; budget_bytes: the most, None without limit.
        callback_failures: completion callbacks that raised.
        breaches: promises that were not kept.
        failed: why the engine ended by itself, or empty.
    """

    running_loop: bool
    versions: Mapping[VersionRef, int] = field(default_factory=dict)
    queued: int = 0
    running: int = 0
    launches: int = 0
    steps: int = 0
    oldest_launch_ns: int | None = None
    memory_bytes: int = 0
    budget_bytes: int | None = None
    callback_failures: int = 0
    breaches: int = 0
    failed: str = ""
