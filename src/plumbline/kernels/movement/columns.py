"""`col2im`: sums overlapping sliding blocks back into an image of any rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product as every
from math import prod
from typing import Any

import numpy as np

from plumbline.contracts.dims import Dim, Expr, add, floordiv, product, sub
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import Inference, KernelCall, OperationContract, Precision, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef, row_major_strides, unflatten
from plumbline.kernels.movement.operands import array, required_positive, required_shape
from plumbline.kernels.movement.runs import RowSplit
from plumbline.kernels.rows import rows_first

__all__ = ["CONTRACTS"]


def _infer(inference: Inference) -> tuple[TensorType, ...]:
    """Input: `[N, C * prod(block), L]`.

    Attributes, one entry for each image axis: extents `image`, `block`; `strides`, `dilations`, pads `before`
    and `after`; all but `image` are integers.
    """
    source, attributes = inference.type(0), inference.attributes
    block = tuple(attributes["block"])
    inference.require(source.rank == 3, f"[N, C * block, L] is needed, not {source}")
    columns = source.shape[1]
    required_positive(inference, len(block), "block", "strides", "dilations")
    for name in ("image", "before", "after"):
        inference.require(len(attributes[name]) == len(block) > 0, f"{name} needs {len(block)} entries")
    required_shape(inference, attributes["image"])
    cells = prod(block)
    inference.require(
        isinstance(columns, Expr) or columns % cells == 0, f"{columns} is no multiple of {cells}"
    )
    expected = product(_positions(attributes))
    both = isinstance(expected, int) and isinstance(source.shape[2], int)
    inference.require(
        not both or expected == source.shape[2], f"{source.shape[2]} blocks where {expected} fit"
    )
    return (TensorType(source.dtype, (source.shape[0], floordiv(columns, cells), *attributes["image"])),)


def _positions(attributes: Mapping[str, Any]) -> tuple[Dim, ...]:
    """Block positions along each image axis."""
    keys = ("image", "block", "strides", "dilations", "before", "after")
    return tuple(
        add(floordiv(sub(add(image, low + high), dilation * (cells - 1) + 1), stride), 1)
        for image, cells, stride, dilation, low, high in zip(*(attributes[k] for k in keys), strict=True)
    )


class _Kernel:
    """One unit is a few image rows; each element adds its blocks in row-major block order."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        split = _split(signature)
        return Work(
            units=split.units,
            unit_cost=4.0 * split.unit_elements * float(prod(signature.attributes["block"])),
        )

    def emit(self, call: KernelCall) -> None:
        b, source, output = call.builder, call.input(0), call.output()
        positions = tuple(call.dim(p) for p in _positions(call.attributes))
        with _split(call.signature).each(call, call.begin, call.end) as (row, _, width):
            outer = unflatten(b, row, output.shape[:-1])
            with b.range(0, width) as i:
                place = (*outer, i)
                total = _Sum(call, source, positions, place).emit()
                output.store_flat(b.cast(total, output.dtype), b.index(row) * width + i)


class _Sum:
    """The sum of the block cells that fall on one image element."""

    def __init__(
        self, call: KernelCall, source: TensorRef, positions: tuple[Index, ...], place: tuple[Index, ...]
    ) -> None:
        self._call, self._source, self._positions, self._place = call, source, positions, place
        self._block = tuple(int(k) for k in call.attributes["block"])
        dtype = source.dtype
        wide = DType.FLOAT32 if dtype.is_float and dtype.size_bytes == 2 else dtype
        self._sum = call.builder.variable(wide, 0)

    def emit(self) -> Value:
        """The finished sum in its wide type."""
        self._axis(0, 0, 0, None)
        return self._sum.get()

    def _axis(self, axis: int, cell: Index, column: Index, inside: Value | None) -> None:
        b, attributes = self._call.builder, self._call.attributes
        if axis == len(self._block):
            self._add(cell, column, inside)
            return
        stride = int(attributes["strides"][axis])
        with b.range(0, self._block[axis]) as k:
            shifted = b.index(self._place[2 + axis]) + int(attributes["before"][axis])
            shifted = shifted - b.index(k) * int(attributes["dilations"][axis])
            position = shifted // stride
            hit = (shifted >= 0) & (position < self._positions[axis])
            hit = hit & b.compare("eq", position * stride, shifted)
            self._axis(
                axis + 1,
                b.index(cell) * self._block[axis] + k,
                b.index(column) * self._positions[axis] + position,
                hit if inside is None else inside & hit,
            )

    def _add(self, cell: Index, column: Index, inside: Value | None) -> None:
        b = self._call.builder
        if inside is None:
            return
        n, channel = self._place[0], self._place[1]
        line = b.index(channel) * prod(self._block) + cell
        strides = row_major_strides(self._source.shape)
        with b.when(inside):
            value = self._source.load_flat(b.index(n) * strides[0] + line * strides[1] + column)
            self._sum.set(self._sum.get() + b.cast(value, self._sum.dtype))


def _split(signature: StepSignature) -> RowSplit:
    shape = signature.outputs[0].shape
    return RowSplit.plan(product(shape[:-1]), shape[-1], divisible=False, elements=256)


def _reference(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x = array(inputs)
    block, strides, dilations = attributes["block"], attributes["strides"], attributes["dilations"]
    positions = _positions(attributes)
    channels = x.shape[1] // prod(block)
    cells = x.reshape(x.shape[0], channels, *block, *positions)
    padded_shape = [
        e + a + z
        for e, a, z in zip(attributes["image"], attributes["before"], attributes["after"], strict=True)
    ]
    wide = np.float64 if x.dtype.kind == "f" else x.dtype
    padded = np.zeros((x.shape[0], channels, *padded_shape), wide)
    for cell in every(*(range(k) for k in block)):
        where: Any = tuple(
            slice(k * d, k * d + s * p, s)
            for k, d, s, p in zip(cell, dilations, strides, positions, strict=True)
        )
        target: Any = (slice(None), slice(None), *where)
        origin: Any = (slice(None), slice(None), *cell)
        padded[target] += cells[origin]
    crop = tuple(slice(a, a + e) for a, e in zip(attributes["before"], attributes["image"], strict=True))
    chosen: Any = (slice(None), slice(None), *crop)
    return (padded[chosen].astype(x.dtype),)


CONTRACTS = (
    OperationContract(
        name="col2im",
        infer=_infer,
        reference=_reference,
        kernel=_Kernel(),
        dtypes=frozenset(DType) - {DType.BOOL},
        precision=Precision(relative=1e-5, absolute=1e-5),
        rows=rows_first(0),
    ),
)
