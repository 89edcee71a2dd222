"""What shape rules, kernels and references of many operations ask of their operands and attributes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from plumbline.contracts.dims import Dim, evaluate
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, Shape, TensorType
from plumbline.kernels.contract import AttributeRefused, Inference

__all__ = [
    "array",
    "input_type",
    "reference_dtype",
    "required_axis",
    "required_positive",
    "required_shape",
    "static_extents",
]


def array(inputs: Sequence[np.ndarray | None], position: int = 0) -> np.ndarray:
    """A required input of a reference."""
    found = inputs[position]
    if found is None:
        raise ValueError(f"input {position} is missing")
    return np.asarray(found)


def input_type(signature: StepSignature, position: int = 0) -> TensorType:
    """The type of a required input of a step."""
    found = signature.inputs[position]
    if found is None:
        raise ValueError(f"input {position} of {signature.operation} is missing")
    return found


def reference_dtype(dtype: DType) -> np.dtype:
    """The numpy type in which a reference returns an element type; bfloat16 results are float32 numbers."""
    return np.dtype(np.float32) if dtype is DType.BFLOAT16 else dtype.numpy


def static_extents(shape: Iterable[Dim]) -> tuple[int, ...]:
    """Extents as integers.

    Raises:
        SymbolicValueError: one is symbolic.
    """
    return tuple(evaluate(extent, {}) for extent in shape)


def required_shape(inference: Inference, shape: Sequence[Dim]) -> Shape:
    """A shape given as an attribute.

    Raises:
        ShapeRefused: an extent is negative.
    """
    for extent in shape:
        negative = isinstance(extent, int) and extent < 0
        inference.require(not negative, f"extent {extent} of {tuple(shape)} is negative")
    return tuple(shape)


def required_axis(inference: Inference, rank: int) -> int:
    """Attribute `axis` counted from the front.

    Raises:
        AttributeRefused: the tensor has no such axis.
    """
    axis = int(inference.attributes["axis"])
    if not -rank <= axis < rank:
        raise AttributeRefused(
            operation=inference.operation,
            attribute="axis",
            value=str(axis),
            reason=f"rank is {rank}",
        )
    return axis % rank


def required_positive(inference: Inference, count: int, *names: str) -> None:
    """Check that attributes hold `count` integers of at least 1.

    Raises:
        AttributeRefused: one does not.
    """
    for name in names:
        values = tuple(inference.attributes[name])
        if len(values) != count or any(v < 1 for v in values):
            raise AttributeRefused(
                operation=inference.operation,
                attribute=name,
                value=str(values),
                reason=f"not {count} positive integers",
            )
