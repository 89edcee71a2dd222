"""Contract, reference and kernel of `symbolic_value`.

Attributes: `values` (dimensions in row-major order), `shape` (static), `dtype` (an integer type or bool).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import Inference, KernelCall, OperationContract, Work
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.rows import NeverRows

__all__ = ["CONTRACTS"]


def _infer(inference: Inference) -> tuple[TensorType, ...]:
    return (TensorType(inference.attributes["dtype"], tuple(inference.attributes["shape"])),)


def _reference(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    dtype = DType(attributes["dtype"]).numpy
    return (np.array(attributes["values"]).astype(dtype).reshape(attributes["shape"]),)


class _SymbolicValueKernel:
    """Stores each dimension."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit: the whole tensor."""
        return Work(units=1, unit_cost=len(signature.attributes["values"]))

    def emit(self, call: KernelCall) -> None:
        """One store per value."""
        output = call.output()
        numbers = [call.builder.index(call.dim(v)) for v in call.attributes["values"]]
        for position, number in enumerate(numbers):
            output.store_flat(call.builder.cast(number, output.dtype), position)


CONTRACTS = (
    OperationContract(
        name="symbolic_value", infer=_infer, reference=_reference, kernel=_SymbolicValueKernel(),
        dtypes=frozenset(d for d in DType if not d.is_float), rows=NeverRows("it is the number of rows"),
    ),
)  # fmt: skip
