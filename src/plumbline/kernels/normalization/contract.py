"""Contracts of normalisation.

`layer_normalization(x, scale, bias?)`, `rms_normalization(x, scale)`: `axis` (default -1), `epsilon`; scale
and bias have the shape of the axes from `axis` on. `statistics=True` adds mean and inverse deviation, shape
with those axes as 1, in the compute type. The result of `rms_normalization` has the type of scale.
`group_normalization(x, scale, bias)`: x `[N, C, ...]`, scale and bias `[C]`, `groups` (divides C), `epsilon`.
`batch_normalization(x, scale, bias, mean, variance)`: x `[N, C, ...]`, the others `[C]`, `epsilon`.
`local_response_normalization(x)`: x `[N, C, ...]`, `size`, `alpha`, `beta`, `bias`.
"""

from __future__ import annotations

from plumbline.contracts.dims import floordiv, mul
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, OperationContract, Precision
from plumbline.kernels.normalization.batch_kernel import BatchNormalizationKernel
from plumbline.kernels.normalization.group_kernel import GroupNormalizationKernel
from plumbline.kernels.normalization.local_response_kernel import LocalResponseKernel
from plumbline.kernels.normalization.reference import (
    reference_batch,
    reference_group,
    reference_local_response,
    reference_rows,
)
from plumbline.kernels.normalization.row_kernel import RowNormalizationKernel
from plumbline.kernels.pointwise.expression import compute_dtype
from plumbline.kernels.reduction.axes import normal_axis
from plumbline.kernels.row_rules.folding import before_axis
from plumbline.kernels.row_rules.moving import of_first
from plumbline.kernels.rows import rows_first

__all__ = ["CONTRACTS"]

_FLOATS = frozenset(t for t in DType if t.is_float)
_PRECISION = Precision(relative=2e-5, absolute=2e-5)


def _float_input(inference: Inference, position: int) -> TensorType:
    found = inference.type(position)
    if found.dtype not in _FLOATS:
        raise DTypeRefused(operation=inference.operation, dtype=found.dtype.value, needed="floats")
    return found


def _infer_rows(inference: Inference) -> tuple[TensorType, ...]:
    source, scale = _float_input(inference, 0), _float_input(inference, 1)
    centred = inference.operation == "layer_normalization"
    axis = normal_axis(inference.operation, int(inference.attributes.get("axis", -1)), source.rank)
    parameters = [scale]
    if len(inference.inputs) > 2 and inference.inputs[2] is not None:
        parameters.append(_float_input(inference, 2))
    for parameter in parameters:
        same = parameter.shape == source.shape[axis:]
        inference.require(same, f"a parameter has shape {parameter.shape}, not that of axes {axis}..")
    result = source.dtype if centred else scale.dtype
    if centred and any(p.dtype is not source.dtype for p in parameters):
        raise DTypeRefused(operation=inference.operation, dtype=scale.dtype.value, needed=source.dtype.value)
    outputs = [TensorType(result, source.shape)]
    if inference.attributes.get("statistics", False):
        shape = (*source.shape[:axis], *[1] * (source.rank - axis))
        outputs += [TensorType(compute_dtype(source.dtype), shape)] * 2
    return tuple(outputs)


def _channels(inference: Inference, parameters: int) -> TensorType:
    source = _float_input(inference, 0)
    inference.require(source.rank >= 2, "the input needs a batch axis and a channel axis")
    for position in range(1, parameters + 1):
        shape = _float_input(inference, position).shape
        inference.require(shape == (source.shape[1],), f"input {position} has shape {shape}, not [C]")
    return TensorType(source.dtype, source.shape)


def _infer_group(inference: Inference) -> tuple[TensorType, ...]:
    result = _channels(inference, 2)
    channels, groups = result.shape[1], inference.attributes["groups"]
    if groups == 0 or mul(floordiv(channels, groups), groups) != channels:
        reason = f"it does not divide {channels} channels"
        raise AttributeRefused(
            operation=inference.operation, attribute="groups", value=str(groups), reason=reason
        )
    return (result,)


def _infer_batch(inference: Inference) -> tuple[TensorType, ...]:
    return (_channels(inference, 4),)


def _infer_local_response(inference: Inference) -> tuple[TensorType, ...]:
    size = int(inference.attributes["size"])
    if size < 1:
        raise AttributeRefused(
            operation=inference.operation, attribute="size", value=str(size), reason="it must be positive"
        )
    return (_channels(inference, 0),)


def _row_contract(name: str) -> OperationContract:
    return OperationContract(
        name=name, infer=_infer_rows, kernel=RowNormalizationKernel(), dtypes=_FLOATS, precision=_PRECISION,
        rows=before_axis(-1), reference=lambda inputs, attributes: reference_rows(name, inputs, attributes),
    )  # fmt: skip


CONTRACTS = (
    _row_contract("layer_normalization"),
    _row_contract("rms_normalization"),
    OperationContract(
        name="group_normalization", infer=_infer_group, reference=reference_group, dtypes=_FLOATS,
        kernel=GroupNormalizationKernel(), precision=_PRECISION, rows=rows_first(0),
    ),
    OperationContract(
        name="batch_normalization", infer=_infer_batch, reference=reference_batch, dtypes=_FLOATS,
        kernel=BatchNormalizationKernel(), precision=_PRECISION, inplace=((0, 0),), rows=of_first,
    ),
    OperationContract(
        name="local_response_normalization", infer=_infer_local_response, reference=reference_local_response,
        kernel=LocalResponseKernel(), precision=_PRECISION, dtypes=_FLOATS, rows=rows_first(0),
    ),
)  # fmt: skip
