"""`max_unpool`: values put back where a max pooling found them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import mul, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, KernelCall, OperationContract, Work
from plumbline.kernels.emit.ir import Index
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import unflatten
from plumbline.kernels.movement.operands import array, required_shape
from plumbline.kernels.movement.runs import bits_of, fill_run
from plumbline.kernels.rows import NeverRows

__all__ = ["CONTRACTS"]


def _infer(inference: Inference) -> tuple[TensorType, ...]:
    """Inputs: x `[N, C, *D]`, int64 indices of that shape, flat into `[N, C, *inner]`.

    Attributes: `inner` (spatial shape that the indices count in), `outer` (spatial shape of the output, whose
    leading corner holds the inner box). Indices that leave the plane of their element are dropped; of equal
    indices the last counts.
    """
    x, indices = inference.type(0), inference.type(1)
    inference.require(x.rank >= 3 and indices.shape == x.shape, f"indices {indices} for {x}")
    rank = x.rank - 2
    inner, outer = tuple(inference.attributes["inner"]), tuple(inference.attributes["outer"])
    inference.require(len(inner) == len(outer) == rank, f"inner and outer need {rank} extents")
    required_shape(inference, (*inner, *outer))
    if indices.dtype is not DType.INT64:
        raise DTypeRefused(operation="max_unpool", dtype=indices.dtype.value, needed="int64 indices")
    return (TensorType(x.dtype, (*x.shape[:2], *outer)),)


class _Kernel:
    """A unit is one plane."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        shape = signature.outputs[0].shape
        plane = product(shape[2:])
        return Work(units=mul(shape[0], shape[1]), unit_cost=float(plane) if isinstance(plane, int) else 4096)

    def emit(self, call: KernelCall) -> None:
        b, x, indices, output = call.builder, call.input(0), call.input(1), call.output()
        bits = bits_of(x.dtype)
        inner = tuple(call.dim(e) for e in call.attributes["inner"])
        inner_plane = call.dim(product(call.attributes["inner"]))
        outer_plane = call.dim(product(call.attributes["outer"]))
        elements = call.dim(product(call.signature.inputs[0].shape[2:])) if call.signature.inputs[0] else 0
        zero = b.const(bits, 0)
        with b.range(call.begin, call.end) as plane:
            fill_run(b, call.target, zero, (output.pointer, b.index(plane) * outer_plane), outer_plane)
            with b.range(0, elements) as i:
                read = b.index(plane) * elements + i
                place = indices.load_flat(read) - b.index(plane) * inner_plane
                with b.when((place >= 0) & (place < inner_plane)):
                    write: Index = b.index(plane) * outer_plane
                    inside = b.const(DType.BOOL, True)
                    for k, at in enumerate(unflatten(b, place, inner)):
                        write = b.index(at) * output.strides[2 + k] + write
                        inside = inside & (b.index(at) < output.shape[2 + k])
                    with b.when(inside):
                        b.store(b.load(x.pointer, bits, read), output.pointer, write)


def _reference(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x, indices = array(inputs, 0), array(inputs, 1)
    inner, outer = attributes["inner"], attributes["outer"]
    whole = np.zeros((*x.shape[:2], *inner), x.dtype)
    size = int(np.prod(inner))
    for plane in range(x.shape[0] * x.shape[1]):
        n, c = divmod(plane, x.shape[1])
        target = whole[n, c].reshape(-1)
        for value, index in zip(x[n, c].ravel(), indices[n, c].ravel() - plane * size, strict=True):
            if 0 <= index < size:
                target[index] = value
        whole[n, c] = target.reshape(inner)
    result = np.zeros((*x.shape[:2], *outer), x.dtype)
    box = tuple(slice(0, min(a, z)) for a, z in zip(inner, outer, strict=True))
    result[(slice(None), slice(None), *box)] = whole[(slice(None), slice(None), *box)]
    return (result,)


CONTRACTS = (
    OperationContract(
        name="max_unpool",
        rows=NeverRows("its indices count elements through the whole batch"),
        infer=_infer,
        reference=_reference,
        kernel=_Kernel(),
        dtypes=frozenset(DType),
    ),
)
