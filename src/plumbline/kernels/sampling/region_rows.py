"""What operations on regions of interest share: their element types and how their output splits."""

from __future__ import annotations

from plumbline.contracts.dims import product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import TensorType
from plumbline.kernels.contract import (
    DTypeRefused,
    Inference,
)
from plumbline.kernels.movement.runs import RowSplit

__all__ = ["region_rows", "require_floats"]


def require_floats(inference: Inference, *types: TensorType) -> None:
    """Check that types are floats.

    Raises:
        DTypeRefused: one is not.
    """
    for type_ in types:
        if not type_.dtype.is_float:
            raise DTypeRefused(operation=inference.operation, dtype=type_.dtype.value, needed="floats")


def region_rows(signature: StepSignature) -> RowSplit:
    """Units of a few output rows."""
    shape = signature.outputs[0].shape
    return RowSplit.plan(product(shape[:-1]), shape[-1], divisible=False, elements=64)
