"""What an operation promises: its shape rule, its reference, its native kernel and its numerical behaviour.

An `OperationContract` is the unit of extension: a plug-in builds one and registers it; the conformance suite
of `plumbline.testing` then holds it to what it declares (requirements L1-02..L1-05).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from plumbline.contracts.dims import Dim
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.errors import ValidationError
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import DimEmitter, TensorRef
from plumbline.kernels.rows import RowRule, no_row_rule

__all__ = [
    "AttributeRefused",
    "DTypeRefused",
    "Inference",
    "Kernel",
    "KernelCall",
    "OperationContract",
    "Precision",
    "ShapeRefused",
    "Work",
]


@dataclass(eq=False, kw_only=True)
class ShapeRefused(ValidationError):
    """Input shapes do not fit the operation."""

    code = "validation.shape"
    owner = "kernels"
    template = "{operation}: {reason}"

    operation: str
    reason: str


@dataclass(eq=False, kw_only=True)
class DTypeRefused(ValidationError):
    """The operation is not built for these element types."""

    code = "validation.dtype"
    owner = "kernels"
    template = "{operation}: element type {dtype} is not supported; {needed}"

    operation: str
    dtype: str
    needed: str


@dataclass(eq=False, kw_only=True)
class AttributeRefused(ValidationError):
    """An attribute has a value that the operation does not support."""

    code = "validation.attribute"
    owner = "kernels"
    template = "{operation}: attribute {attribute} = {value}: {reason}"

    operation: str
    attribute: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What a shape rule sees: input types and attributes (run-time values are never visible)."""

    operation: str
    inputs: tuple[TensorType | None, ...]
    attributes: Mapping[str, Any]

    def type(self, position: int) -> TensorType:
        """The type of a required input.

        Raises:
            ShapeRefused: the input is absent.
        """
        found = self.inputs[position] if position < len(self.inputs) else None
        if found is None:
            raise ShapeRefused(operation=self.operation, reason=f"input {position} is missing")
        return found

    def require(self, condition: bool, reason: str) -> None:
        """Refuse the node where a condition on shapes does not hold."""
        if not condition:
            raise ShapeRefused(operation=self.operation, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How far native results may lie from the float64 reference: `|x - r| <= absolute + relative * |r|`.

    Both are in units of the output type; 0/0 means bit-exact (integers, data movement).
    """

    relative: float = 0.0
    absolute: float = 0.0


EXACT = Precision()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How a step may be split between threads.

    Attributes:
        units: number of independent units; any partition of `[0, units)` gives the same bits.
        unit_cost: rough cost of one unit in floating-point operations or bytes moved, for choosing grain.
        workspace_bytes: scratch that one thread needs at a time, contents undefined on entry.
    """

    units: Dim = 1
    unit_cost: float = 1.0
    workspace_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCall:
    """What `Kernel.emit` gets: operands as addresses, the range of units to compute, and the target."""

    builder: FunctionBuilder
    target: TargetDescription
    signature: StepSignature
    input_pointers: tuple[Pointer | None, ...]
    output_pointers: tuple[Pointer, ...]
    begin: Index
    end: Index
    workspace: Pointer
    dim: DimEmitter

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes of the operation."""
        return self.signature.attributes

    def input(self, position: int) -> TensorRef:
        """A required row-major input."""
        pointer, type_ = self.input_pointers[position], self.signature.inputs[position]
        if pointer is None or type_ is None:
            raise ShapeRefused(operation=self.signature.operation, reason=f"input {position} is missing")
        return TensorRef.row_major(self.builder, pointer, type_, self.dim)

    def optional_input(self, position: int) -> TensorRef | None:
        """An input that may be absent."""
        if position >= len(self.input_pointers) or self.input_pointers[position] is None:
            return None
        return self.input(position)

    def output(self, position: int = 0) -> TensorRef:
        """A row-major output."""
        return TensorRef.row_major(
            self.builder, self.output_pointers[position], self.signature.outputs[position], self.dim
        )


class Kernel(Protocol):
    """Native code of an operation."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """How the step splits. Raises a `ValidationError` leaf for what the kernel does not support."""
        ...

    def emit(self, call: KernelCall) -> None:
        """Emit code that computes units `[call.begin, call.end)`. It allocates nothing and writes only to
        outputs and workspace."""
        ...


Reference = Callable[[Sequence[np.ndarray | None], Mapping[str, Any]], Sequence[np.ndarray]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationContract:
    """One operation: meaning, reference and native code.

    Attributes:
        name: operation name in graphs, snake case.
        infer: shape rule; returns the types of all outputs.
        reference: numpy twin for tests and for folding constants at build; it may compute in float64, and it
            returns arrays of the inferred dtypes. Symbolic attributes arrive as integers.
        kernel: native code, or None for operations that move no data (views) or exist at build only.
        precision: declared distance from the reference.
        is_view: the single output shares the bytes of input 0 (reshape); no step is made.
        inplace: pairs (output, input) that may share an address when the input dies here.
        dtypes: element types of input 0 that native code supports (for listings).
        rows: how the rows of a batch pass through (see `kernels.rows`); the default refuses.
    """

    name: str
    infer: Callable[[Inference], tuple[TensorType, ...]]
    reference: Reference
    kernel: Kernel | None
    precision: Precision = EXACT
    is_view: bool = False
    inplace: tuple[tuple[int, int], ...] = ()
    dtypes: frozenset[DType] = field(default_factory=frozenset)
    rows: RowRule = no_row_rule
