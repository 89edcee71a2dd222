"""Shape rules of the pools: `[N, C, *spatial]` to one number per window or per image."""

from __future__ import annotations

from plumbline.contracts.dims import Dim, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, Shape, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, Work
from plumbline.kernels.convolution.windows import Window, window_of

__all__ = [
    "infer_average",
    "infer_global",
    "infer_lp",
    "infer_max",
    "pool_units",
    "pool_work",
    "signature_window",
]


def pooled_shape(inference: Inference) -> Shape:
    """The result shape of a pool with attributes kernel, strides, dilations, pads, ceil.

    Raises:
        ShapeRefused: the input is no image.
    """
    images = inference.type(0)
    inference.require(images.rank >= 3, "a pool takes [N, C, *spatial]")
    window = window_of(inference, inference.attributes["kernel"])
    inference.require(len(window.kernel) == images.rank - 2, "the kernel has one extent per spatial axis")
    ceil = bool(inference.attributes.get("ceil", False))
    spatial = (window.output_extent(i, e, ceil=ceil) for i, e in enumerate(images.shape[2:]))
    return (*images.shape[:2], *spatial)


def infer_max(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `max_pool`; attribute `indices` adds the int64 positions of the maxima."""
    images = inference.type(0)
    if images.dtype is DType.BOOL:
        raise DTypeRefused(operation="max_pool", dtype="bool", needed="a number type")
    shape = pooled_shape(inference)
    result = TensorType(images.dtype, shape)
    return (result, TensorType(DType.INT64, shape)) if inference.attributes.get("indices") else (result,)


def infer_average(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `average_pool`; attribute `count_padding` counts padded positions in the divisor."""
    return (TensorType(_float(inference), pooled_shape(inference)),)


def infer_lp(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `lp_pool`; attribute `p` is the power, an integer of at least 1."""
    _require_power(inference)
    return (TensorType(_float(inference), pooled_shape(inference)),)


def infer_global(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of the global pools: every spatial extent becomes 1."""
    images = inference.type(0)
    inference.require(images.rank >= 2, "a global pool takes [N, C, *spatial]")
    _float(inference)
    if inference.operation == "global_lp_pool":
        _require_power(inference)
    return (TensorType(images.dtype, (*images.shape[:2], *(1,) * (images.rank - 2))),)


def _float(inference: Inference) -> DType:
    dtype = inference.type(0).dtype
    if not dtype.is_float:
        raise DTypeRefused(operation=inference.operation, dtype=dtype.value, needed="a float type")
    return dtype


def _require_power(inference: Inference) -> None:
    power = inference.attributes.get("p", 2)
    if not isinstance(power, int) or power < 1:
        raise AttributeRefused(
            operation=inference.operation, attribute="p", value=str(power), reason="an integer of at least 1"
        )


def signature_window(signature: StepSignature) -> Window:
    """The window of a pool step."""
    inference = Inference(
        operation=signature.operation, inputs=signature.inputs, attributes=signature.attributes
    )
    return window_of(inference, signature.attributes["kernel"])


def pool_units(signature: StepSignature) -> Shape:
    """Units of a pool: every row of the result."""
    return signature.outputs[0].shape[:-1]


def pool_work(signature: StepSignature, per_tap: float) -> Work:
    """One unit is a row of the result."""
    width: Dim = signature.outputs[0].shape[-1]
    taps = signature_window(signature).taps
    cost = per_tap * taps * max(width if isinstance(width, int) else 64, 8) / 8
    return Work(units=product(pool_units(signature)), unit_cost=cost)
