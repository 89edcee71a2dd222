"""A backend as a third party would write it: it sees the port and numpy, nothing else of the runtime."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.execution.backend import (
    CompiledPart,
    FailureMode,
    GraphPart,
    OperationCapability,
    OperationResult,
    PlacedTensor,
    ResourceLimits,
    RetargetPath,
    Specialisation,
    find_capability_refusal,
    verify_call,
)
from plumbline.execution.backend_refusals import BackendClosed, BackendMemoryRefused, OperationUnsupported

FUNCTIONS = {
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * y,
    "relu": lambda x: np.where(x < 0, np.zeros((), x.dtype), x),
}


@dataclass
class Beads:
    """A tensor of this backend: a copy nobody else sees."""

    array: np.ndarray
    dtype: DType

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def release(self) -> None:
        self.array = np.empty(self.array.shape, self.array.dtype)


class AbacusBackend:
    """Adds, multiplies and cuts off below zero, in float32."""

    name = "abacus"
    memory = "abacus"
    limits = ResourceLimits(memory_bytes=1 << 16)
    failure_modes = (FailureMode(code="backend.abacus", recoverability="permanent", when="a bead falls off"),)
    specialisation = Specialisation(
        backend="abacus", path=RetargetPath.PORTABLE, target="beads", reason="beads are beads"
    )

    def __init__(self) -> None:
        self.closed = False

    def get_capabilities(self) -> list[OperationCapability]:
        dtypes = frozenset({DType.FLOAT32})
        return [OperationCapability(operation=name, dtypes=dtypes) for name in FUNCTIONS]

    def find_refusal(self, signature: StepSignature) -> str | None:
        return find_capability_refusal({c.operation: c for c in self.get_capabilities()}, signature)

    async def execute(self, operation: StepSignature, params: Sequence[np.ndarray | None]) -> OperationResult:
        self.verify_open()
        verify_call(self, operation, params)
        required = sum(p.nbytes for p in params if p is not None)
        limit = self.limits.memory_bytes
        if required > limit:
            raise BackendMemoryRefused(
                backend=self.name,
                operation=operation.operation,
                required_bytes=required,
                limit_bytes=limit,
            )
        began_ns = time.monotonic_ns()
        output = self.compute(operation.operation, *params)
        took_ns = time.monotonic_ns() - began_ns
        return OperationResult(outputs=(output,), backend=self.name, duration_ns=took_ns)

    def compute(self, operation: str, *operands: np.ndarray) -> np.ndarray:
        return FUNCTIONS[operation](*operands)

    def place(self, array: np.ndarray, dtype: DType) -> Beads:
        self.verify_open()
        return Beads(array.copy(), dtype)

    def fetch(self, tensor: PlacedTensor) -> np.ndarray:
        self.verify_open()
        return tensor.array.copy()

    def compile(self, part: GraphPart) -> CompiledPart:
        self.verify_open()
        for node in part.nodes:
            reason = self.find_refusal(node.signature)
            if reason is not None:
                name = node.signature.operation
                raise OperationUnsupported(backend=self.name, operation=name, reason=reason)
        return AbacusPart(self, part)

    def close(self) -> None:
        self.closed = True

    def verify_open(self) -> None:
        if self.closed:
            raise BackendClosed(backend=self.name)


class AbacusPart:
    """Operations one by one."""

    def __init__(self, backend: AbacusBackend, part: GraphPart) -> None:
        self.backend, self.part = backend, part
        self.specialisation = backend.specialisation

    def run(self, inputs: Mapping[str, Beads], symbols: Mapping[str, int]) -> dict[str, PlacedTensor]:
        known = {name: constant.read() for name, constant in self.part.constants.items()}
        known |= {name: tensor.array for name, tensor in inputs.items()}
        for node in self.part.nodes:
            (output,) = node.outputs
            known[output] = self.backend.compute(node.signature.operation, *(known[t] for t in node.inputs))
        return {t: Beads(known[t], self.part.types[t].dtype) for t in self.part.outputs}

    def close(self) -> None:
        """Nothing to give back."""
