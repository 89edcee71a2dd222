"""The planned program: the border between planning and lowering, as plain data.

An ordered list of steps over three memory spaces, with every address fixed. It names no device: lowering
turns it into code for a target, an untrusted artifact is rebuilt from it, and it is what `plumb compile
--explain` prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from plumbline.contracts.tensors import TensorType

__all__ = ["MAX_THREADS", "Operand", "PlannedProgram", "PlannedStep", "Space", "StepSignature"]

Attributes = Mapping[str, Any]

MAX_THREADS = 256
"""Most threads of one run, for whoever asks: settings, options, programs and devices."""


class Space(StrEnum):
    """Where bytes live (design, section 3)."""

    WEIGHTS = "weights"
    """Read-only, shared by every context."""
    STATE = "state"
    """Persistent, owned by the caller, named."""
    ARENA = "arena"
    """One per execution context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """A tensor at a fixed address: `offset` bytes into `space`."""

    value: str
    type: TensorType
    space: Space
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSignature:
    """What a kernel may know of a step: everything but the addresses. Equal signatures share native code."""

    operation: str
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType, ...]
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One fused operation of the planned program.

    `workspace_offset` is the arena address of thread 0's scratch; thread t has `workspace_bytes` at
    `workspace_offset + t * workspace_bytes`.
    """

    name: str
    operation: str
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand, ...]
    attributes: Attributes = field(default_factory=dict)
    workspace_offset: int = 0
    workspace_bytes: int = 0

    @property
    def signature(self) -> StepSignature:
        """The step without its addresses."""
        return StepSignature(
            operation=self.operation,
            inputs=tuple(None if o is None else o.type for o in self.inputs),
            outputs=tuple(o.type for o in self.outputs),
            attributes=self.attributes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedProgram:
    """Steps in launch order, with the sizes of the three spaces and the names that callers bind.

    `segments` holds the index of the first step of each segment; the first is always 0.
    """

    name: str
    symbols: Mapping[str, int]
    steps: tuple[PlannedStep, ...]
    inputs: Mapping[str, Operand]
    outputs: Mapping[str, Operand]
    states: Mapping[str, Operand]
    weights_bytes: int
    state_bytes: int
    arena_bytes: int
    threads: int
    segments: tuple[int, ...] = (0,)
