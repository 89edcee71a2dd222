"""Operations that repeat elements or surround them: expand, tile, constant padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, Expr, add, maximum, mul, sub
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, Shape, TensorType
from plumbline.kernels.contract import AttributeRefused, Inference, KernelCall, OperationContract, Work
from plumbline.kernels.emit.ir import Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.movement.copying import CopyKernel
from plumbline.kernels.movement.folding import FoldedPadKernel
from plumbline.kernels.movement.operands import array, input_type, required_shape
from plumbline.kernels.movement.pieces import Piece, Side, dense_strides, region, whole
from plumbline.kernels.movement.runs import bits_of
from plumbline.kernels.row_rules.moving import expanded, padded, tiled

__all__ = ["CONTRACTS"]

Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


def _infer_expand(inference: Inference) -> tuple[TensorType, ...]:
    """Attribute `shape`: the whole output shape; the input broadcasts to it."""
    source, shape = inference.type(0), required_shape(inference, inference.attributes["shape"])
    inference.require(len(shape) >= source.rank, f"{source} does not broadcast to {shape}")
    for extent, wanted in zip(reversed(source.shape), reversed(shape), strict=False):
        inference.require(extent in (1, wanted), f"{source} does not broadcast to {shape}")
    return (TensorType(source.dtype, shape),)


def _expand_pieces(signature: StepSignature) -> tuple[Piece, ...]:
    source, shape = input_type(signature).shape, signature.outputs[0].shape
    strides: list[Dim] = [0] * (len(shape) - len(source))
    strides += [0 if e == 1 else s for e, s in zip(source, dense_strides(source), strict=True)]
    side = Side(operand=0, offset=0, strides=tuple(strides))
    return (Piece(shape=shape, source=side, destination=whole(0, shape)),)


def _infer_tile(inference: Inference) -> tuple[TensorType, ...]:
    """Attribute `repeats`: how often each axis is repeated."""
    source, repeats = inference.type(0), tuple(inference.attributes["repeats"])
    inference.require(len(repeats) == source.rank, f"{len(repeats)} repeats for rank {source.rank}")
    for repeat in repeats:
        if isinstance(repeat, int) and repeat < 0:
            raise AttributeRefused(
                operation="tile", attribute="repeats", value=str(repeats), reason="negative"
            )
    shape = tuple(mul(r, e) for r, e in zip(repeats, source.shape, strict=True))
    return (TensorType(source.dtype, shape),)


def _tile_pieces(signature: StepSignature) -> tuple[Piece, ...]:
    source = input_type(signature).shape
    shape: list[Dim] = []
    strides: list[Dim] = []
    for repeat, extent, stride in zip(
        signature.attributes["repeats"], source, dense_strides(source), strict=True
    ):
        shape += [repeat, extent]
        strides += [0, stride]
    side = Side(operand=0, offset=0, strides=tuple(strides))
    return (Piece(shape=tuple(shape), source=side, destination=whole(0, tuple(shape))),)


# -- pad

MODES = ("constant", "edge", "reflect", "wrap")


def _infer_pad(inference: Inference) -> tuple[TensorType, ...]:
    """Input 1 (optional): the scalar of constant mode, 0 where absent.

    Attributes: `before` and `after` (elements added to each axis; negative crops first), `mode` (of `MODES`).
    """
    source, attributes = inference.type(0), inference.attributes
    before, after, mode = tuple(attributes["before"]), tuple(attributes["after"]), attributes["mode"]
    if mode not in MODES:
        raise AttributeRefused(
            operation="pad", attribute="mode", value=str(mode), reason=f"not one of {MODES}"
        )
    inference.require(len(before) == len(after) == source.rank, "pads need one entry for each axis")
    shape = []
    for axis, (extent, low, high) in enumerate(zip(source.shape, before, after, strict=True)):
        kept = add(extent, add(_cropped(low), _cropped(high)))
        inference.require(
            isinstance(kept, Expr) or kept >= 0, f"axis {axis}: more is cropped than its {extent}"
        )
        filled = mode != "constant" and kept == 0 and (low, high) != (0, 0)
        total = add(extent, add(low, high))
        inference.require(not filled or total == 0, f"axis {axis}: {mode} of no elements")
        shape.append(total)
    if len(inference.inputs) > 1 and inference.inputs[1] is not None:
        value = inference.type(1)
        inference.require(value.dtype is source.dtype and value.elements == 1, f"fill {value} for {source}")
    return (TensorType(source.dtype, tuple(shape)),)


def _cropped(pad: Dim) -> Dim:
    """The (not positive) part of a pad that crops."""
    return sub(0, maximum(sub(0, pad), 0))


def _pad_pieces(signature: StepSignature) -> tuple[Piece, ...]:
    """The kept box and the slabs around it: full along later axes, as the box along earlier ones."""
    source, shape = input_type(signature).shape, signature.outputs[0].shape
    before, after = signature.attributes["before"], signature.attributes["after"]
    low = tuple(maximum(p, 0) for p in before)
    high = tuple(maximum(p, 0) for p in after)
    kept = tuple(sub(sub(e, a), b) for e, a, b in zip(shape, low, high, strict=True))
    skipped = tuple(maximum(sub(0, p), 0) for p in before)
    pieces = [Piece(shape=kept, source=region(0, source, skipped), destination=region(0, shape, low))]
    for axis in range(len(shape)):
        ends = ((0, low[axis]), (add(low[axis], kept[axis]), high[axis]))
        pieces += [_slab(shape, kept, low, axis, start, extent) for start, extent in ends if extent != 0]
    return tuple(pieces)


def _slab(shape: Shape, kept: Shape, low: Shape, axis: int, start: Dim, extent: Dim) -> Piece:
    box = (*kept[:axis], extent, *shape[axis + 1 :])
    starts = (*low[:axis], start, *(0 for _ in shape[axis + 1 :]))
    return Piece(shape=box, source=None, destination=region(0, shape, starts))


def _pad_fill(call: KernelCall) -> Value:
    bits = bits_of(call.signature.outputs[0].dtype)
    value = call.optional_input(1)
    if value is None:
        return call.builder.const(bits, 0)
    return call.builder.load(value.pointer, bits)


class PadKernel:
    """Constant padding as pieces; the other modes fold coordinates back into the tensor."""

    def __init__(self) -> None:
        self._constant, self._folded = CopyKernel(_pad_pieces, _pad_fill), FoldedPadKernel()

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """Units of the kernel for the mode."""
        return self._chosen(signature).work(signature, target)

    def emit(self, call: KernelCall) -> None:
        """Code of the kernel for the mode."""
        self._chosen(call.signature).emit(call)

    def _chosen(self, signature: StepSignature) -> CopyKernel | FoldedPadKernel:
        return self._constant if signature.attributes["mode"] == "constant" else self._folded


def _reference_pad(inputs: Arrays, attributes: Attributes) -> tuple[np.ndarray, ...]:
    x, before, after = array(inputs), attributes["before"], attributes["after"]
    crop = tuple(
        slice(max(-low, 0), extent - max(-high, 0))
        for extent, low, high in zip(x.shape, before, after, strict=True)
    )
    widths = [(max(low, 0), max(high, 0)) for low, high in zip(before, after, strict=True)]
    if x.ndim == 0:
        return (x.copy(),)
    x = x[crop]
    if attributes["mode"] != "constant":
        return (np.pad(x, widths, mode=attributes["mode"]),)
    fill = inputs[1] if len(inputs) > 1 and inputs[1] is not None else np.zeros((), x.dtype)
    return (np.pad(x, widths, constant_values=np.asarray(fill).reshape(())),)


ALL = frozenset(DType)

CONTRACTS = (
    OperationContract(
        name="expand",
        rows=expanded,
        infer=_infer_expand,
        kernel=CopyKernel(_expand_pieces),
        dtypes=ALL,
        reference=lambda inputs, attributes: (np.broadcast_to(array(inputs), attributes["shape"]).copy(),),
    ),
    OperationContract(
        name="tile",
        rows=tiled,
        infer=_infer_tile,
        kernel=CopyKernel(_tile_pieces),
        dtypes=ALL,
        reference=lambda inputs, attributes: (np.tile(array(inputs), attributes["repeats"]),),
    ),
    OperationContract(
        name="pad", infer=_infer_pad, reference=_reference_pad, kernel=PadKernel(), dtypes=ALL, rows=padded
    ),
)
