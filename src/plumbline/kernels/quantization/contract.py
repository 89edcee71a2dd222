"""Contracts of quantisation.

`quantize_linear(x, scale, zero_point?)`: `to` (int8, uint8, int16, uint16), `axis` (default 1), `block_size`
(default 0), `precision` (element type of the division, default that of scale). NaN becomes 0.
`dequantize_linear(x, scale, zero_point?)`: x of 8, 16 or 32 bits, `axis`, `block_size`, `to` (default: the
type of scale). One scale for the tensor is 0-d or of one element; one for each index of `axis` is 1-d; with
`block_size` the scales have the shape of x with `axis` divided by it, rounded up. Zero points lie as scales
do.
"""

from __future__ import annotations

from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, OperationContract, Precision
from plumbline.kernels.quantization.granularity import granularity
from plumbline.kernels.quantization.kernel import DequantizeKernel, QuantizeKernel
from plumbline.kernels.quantization.reference import reference_dequantize, reference_quantize
from plumbline.kernels.row_rules.moving import of_first

__all__ = ["CONTRACTS"]

_FLOATS = frozenset(t for t in DType if t.is_float)
_QUANTIZED = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16})
_STORED = _QUANTIZED | {DType.INT32}


def _layout(inference: Inference) -> None:
    source, scale = inference.type(0), inference.type(1)
    block = int(inference.attributes.get("block_size", 0))
    if block < 0:
        raise AttributeRefused(
            operation=inference.operation, attribute="block_size", value=str(block), reason="it is negative"
        )
    granularity(inference.operation, source, scale, int(inference.attributes.get("axis", 1)), block)
    if len(inference.inputs) > 2 and inference.inputs[2] is not None:
        same = inference.inputs[2].shape == scale.shape
        inference.require(same, f"zero points have shape {inference.inputs[2].shape}, not {scale.shape}")


def _demand(inference: Inference, dtype: DType, allowed: frozenset[DType]) -> None:
    if dtype not in allowed:
        needed = "one of " + ", ".join(sorted(t.value for t in allowed))
        raise DTypeRefused(operation=inference.operation, dtype=dtype.value, needed=needed)


def _infer_quantize(inference: Inference) -> tuple[TensorType, ...]:
    source, to = inference.type(0), DType(inference.attributes["to"])
    _demand(inference, source.dtype, _FLOATS | {DType.INT32})
    _demand(inference, inference.type(1).dtype, _FLOATS | {DType.INT32})
    _demand(inference, to, _QUANTIZED)
    zero = inference.inputs[2] if len(inference.inputs) > 2 else None
    if zero is not None:
        _demand(inference, zero.dtype, frozenset({to}))
    _layout(inference)
    return (TensorType(to, source.shape),)


def _infer_dequantize(inference: Inference) -> tuple[TensorType, ...]:
    source, scale = inference.type(0), inference.type(1)
    _demand(inference, source.dtype, _STORED)
    _demand(inference, scale.dtype, _FLOATS)
    zero = inference.inputs[2] if len(inference.inputs) > 2 else None
    if zero is not None:
        _demand(inference, zero.dtype, frozenset({source.dtype}))
    _layout(inference)
    to = DType(inference.attributes.get("to") or scale.dtype)
    _demand(inference, to, _FLOATS)
    return (TensorType(to, source.shape),)


CONTRACTS = (
    OperationContract(
        name="quantize_linear", infer=_infer_quantize, reference=reference_quantize, kernel=QuantizeKernel(),
        rows=of_first,
        dtypes=_FLOATS | {DType.INT32},
    ),
    OperationContract(
        name="dequantize_linear", infer=_infer_dequantize, reference=reference_dequantize,
        kernel=DequantizeKernel(), rows=of_first, precision=Precision(relative=2.0**-22), dtypes=_STORED,
    ),
)  # fmt: skip
