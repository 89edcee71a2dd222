"""What a stream can run: one native function over one context, or one Python function.

Nothing here is a device handle: an entry is the address of code that the executable owns, a context is the
address of memory that the execution context owns. Both owners must outlive the work (`Stream.quiesce`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plumbline.errors import ExecutionError


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeLaunch:
    """A call of `void entry(void* context, int64 tid, int64 epoch)` on every thread of a stream.

    Attributes:
        entry: address of the function.
        context: address handed to it.
        label: name for logs and errors.
        cost_ns: duration on a simulated device; real devices ignore it.
    """

    entry: int
    context: int
    label: str = "native"
    cost_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallableLaunch:
    """A Python function run once in stream order. `cost_ns` is its duration on a simulated device."""

    function: Callable[[], object]
    label: str = "callable"
    cost_ns: int = 0


StreamWork = NativeLaunch | CallableLaunch


@dataclass(eq=False, kw_only=True)
class LaunchFailedError(ExecutionError):
    """A launch ended with an error; the cause is chained."""

    code = "execution.launch_failed"
    owner = "hardware"
    template = "launch {label!r} on stream {stream!r} failed: {reason}"

    label: str
    stream: str
    reason: str
