"""The backend port: what a compute backend offers, refuses, and promises (requirements L1-06, L1-13, X-69).

A backend runs single operations (`execute`) and parts of a graph (`compile`), on tensors in its own memory
(`place`, `fetch`). It says beforehand what it can do: `find_refusal` is the one question that selection asks,
and its answer binds `execute` and `compile`. `plumbline.testing.backends` holds a backend to all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import ROW_MAJOR, DType, TensorType
from plumbline.execution.backend_refusals import OperandRefused, OperationUnsupported

__all__ = [
    "CompiledPart",
    "ComputeBackend",
    "FailureMode",
    "GraphPart",
    "OperationCapability",
    "OperationResult",
    "PartConstant",
    "PartNode",
    "PlacedTensor",
    "ResourceLimits",
    "RetargetPath",
    "Specialisation",
    "describe_backend",
    "find_capability_refusal",
    "verify_call",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationCapability:
    """One operation that a backend runs.

    Attributes:
        operation: name in graphs.
        dtypes: element types of its first operand (of its first result where it has no operand).
        relative: bound r of `|x - reference| <= absolute + relative * |reference|`, for float32.
        absolute: bound a; both 0 mean exact.
    """

    operation: str
    dtypes: frozenset[DType]
    relative: float = 0.0
    absolute: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """What a backend can hold and do at once. `memory_bytes` is None where it is not known."""

    memory_bytes: int | None
    parallel_runs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureMode:
    """A way in which a call that was not refused may still fail: the code of its error, and when."""

    code: str
    recoverability: str
    when: str


class RetargetPath(StrEnum):
    """How an operation reaches hardware (requirement L2-09)."""

    PORTABLE = "portable"
    """One implementation for every machine."""
    VENDOR = "vendor"
    """Code made for one family of processors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Specialisation:
    """What a backend's code is made for. Fixed when it is compiled, whatever a run dispatches to (L1-07)."""

    backend: str
    path: RetargetPath
    target: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationResult:
    """Results of one call: arrays by position, the backend that made them, and its own time."""

    outputs: tuple[np.ndarray, ...]
    backend: str
    duration_ns: int


class PlacedTensor(Protocol):
    """A tensor in the memory of one backend."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""

    @property
    def dtype(self) -> DType:
        """Its element type."""

    def release(self) -> None:
        """Give its memory back; a second call is harmless."""


class PartConstant(Protocol):
    """Bytes that never change."""

    @property
    def identity(self) -> str:
        """Equal exactly where the bytes are equal by construction."""

    def read(self) -> np.ndarray:
        """The values; not to be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartNode:
    """One operation of a part, over named tensors. Absent optional inputs are None."""

    name: str
    signature: StepSignature
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphPart:
    """A connected piece of a graph that one backend compiles: plain data.

    Attributes:
        name: unique among the parts of a graph.
        symbols: upper bound of every symbolic dimension.
        nodes: operations, producers first.
        types: type of every tensor that is mentioned.
        inputs: tensors that come from outside, in order.
        outputs: tensors that somebody outside reads, in order.
        constants: tensors with fixed bytes.
    """

    name: str
    symbols: Mapping[str, int]
    nodes: tuple[PartNode, ...]
    types: Mapping[str, TensorType]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, PartConstant]


class CompiledPart(Protocol):
    """A part, ready to run on its backend."""

    @property
    def specialisation(self) -> Specialisation:
        """What its code is made for."""

    def run(self, inputs: Mapping[str, PlacedTensor], symbols: Mapping[str, int]) -> dict[str, PlacedTensor]:
        """Run once.

        Args:
            inputs: placed by this backend, by tensor name; they stay the caller's.
            symbols: value of every symbolic dimension.

        Returns:
            Outputs by tensor name, in the backend's memory; the caller releases them.
        """

    def close(self) -> None:
        """Give code and memory back."""


class ComputeBackend(Protocol):
    """A place that computes. Every method may be called from any thread."""

    @property
    def name(self) -> str:
        """Unique name, such as `cpu`."""

    @property
    def memory(self) -> str:
        """Name of the memory that it works in: `host` where it takes host arrays as they are."""

    @property
    def limits(self) -> ResourceLimits:
        """What it can hold and do at once."""

    @property
    def failure_modes(self) -> tuple[FailureMode, ...]:
        """How calls that were accepted may fail."""

    @property
    def specialisation(self) -> Specialisation:
        """What its code is made for."""

    def get_capabilities(self) -> list[OperationCapability]:
        """Every operation that it runs, by name. The same list on every call."""

    def find_refusal(self, signature: StepSignature) -> str | None:
        """Why it does not run a call, or None where it does. Computes nothing."""

    async def execute(self, operation: StepSignature, params: Sequence[np.ndarray | None]) -> OperationResult:
        """Run one operation on host arrays, which are not changed.

        Args:
            operation: name, static operand types and attributes.
            params: one array for each operand; bfloat16 as uint16 bits.

        Raises:
            OperationUnsupported: exactly where `find_refusal` has a reason.
            OperandRefused: an array is not of the stated type.
            BackendMemoryRefused: it is more than `limits.memory_bytes`.
            BackendClosed: after `close`.
        """
        ...

    def place(self, array: np.ndarray, dtype: DType) -> PlacedTensor:
        """A copy of a host array in this backend's memory (the array itself where that is host memory)."""

    def fetch(self, tensor: PlacedTensor) -> np.ndarray:
        """A placed tensor as a host array."""

    def compile(self, part: GraphPart) -> CompiledPart:
        """Make a part ready to run.

        Raises:
            OperationUnsupported: `find_refusal` has a reason for one of its nodes.
        """

    def close(self) -> None:
        """Give everything back. A second call is harmless."""


def find_capability_refusal(
    capabilities: Mapping[str, OperationCapability], signature: StepSignature
) -> str | None:
    """The refusal that a list of capabilities implies, for authors of backends."""
    capability = capabilities.get(signature.operation)
    if capability is None:
        return "the operation is not among its capabilities"
    operands = [t for t in (*signature.inputs, *signature.outputs) if t is not None]
    if operands and operands[0].dtype not in capability.dtypes:
        known = ", ".join(sorted(d.value for d in capability.dtypes))
        return f"element type {operands[0].dtype.value} is not among its types: {known}"
    laid_out = next((t for t in operands if t.layout != ROW_MAJOR), None)
    return None if laid_out is None else f"operands lie in memory row by row, not {laid_out.layout}"


def verify_call(
    backend: ComputeBackend, operation: StepSignature, params: Sequence[np.ndarray | None]
) -> None:
    """Refuse a call that the backend does not run or whose arrays differ from the stated types.

    Raises:
        OperationUnsupported, OperandRefused: as `ComputeBackend.execute`.
    """
    types = (*operation.inputs, *operation.outputs)
    reason = backend.find_refusal(operation)
    if reason is None and not all(t is None or t.is_static for t in types):
        reason = "a single call has static shapes; compile a part for symbolic ones"
    if reason is not None:
        raise OperationUnsupported(backend=backend.name, operation=operation.operation, reason=reason)
    if len(params) != len(operation.inputs):
        reason = f"{len(params)} arrays were given for {len(operation.inputs)} operands"
        raise OperandRefused(
            backend=backend.name, operation=operation.operation, position=len(params), reason=reason
        )
    for position, (type_, array) in enumerate(zip(operation.inputs, params, strict=True)):
        reason = _mismatch(type_, array)
        if reason is not None:
            raise OperandRefused(
                backend=backend.name, operation=operation.operation, position=position, reason=reason
            )


def _mismatch(type_: TensorType | None, array: np.ndarray | None) -> str | None:
    if type_ is None or array is None:
        return None if type_ is None and array is None else "present in one of the call and its types only"
    if array.dtype != type_.dtype.numpy or array.shape != type_.shape:
        return f"an array of {array.dtype}{list(array.shape)} was given for {type_}"
    return None


def describe_backend(backend: ComputeBackend) -> dict[str, Any]:
    """Capabilities, limits and failure modes as plain data, for records (requirement L1-06)."""
    return {
        "name": backend.name,
        "operations": {
            c.operation: {
                "dtypes": sorted(d.value for d in c.dtypes),
                "relative": c.relative,
                "absolute": c.absolute,
            }
            for c in backend.get_capabilities()
        },
        "limits": asdict(backend.limits),
        "failure_modes": [asdict(mode) for mode in backend.failure_modes],
        "specialisation": asdict(backend.specialisation),
    }
