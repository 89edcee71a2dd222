"""The loop nest of pointwise operations.

Operands broadcast to the output shape. Axes that every operand walks alike are merged, so that most maps
become one flat loop. The innermost loop is vectorised; a unit of work is a run of consecutive output
elements (flat maps) or one row of the merged shape.
"""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.contracts.dims import Dim, ceildiv, mul, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import Shape, TensorType
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef, unflatten
from plumbline.kernels.pointwise.expression import Instruction, cost_of, emit_program, program_of

__all__ = ["MapKernel", "MergedAxes", "merge_axes"]

FLAT_RUN = 2048
"""Output elements of one unit of a flat map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedAxes:
    """The output shape with mergeable neighbours merged.

    `walks[k][axis]` says whether operand k advances along the merged axis (else it is broadcast there).
    """

    shape: Shape
    walks: tuple[tuple[bool, ...], ...]


def merge_axes(output: Shape, operands: tuple[Shape, ...]) -> MergedAxes:
    """Merge neighbouring axes along which each operand either walks both or stretches both."""
    rank = len(output)
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in operands]
    shape: list[Dim] = []
    walks: list[tuple[bool, ...]] = []
    for axis in range(rank):
        if output[axis] == 1:
            continue
        walk = tuple(p[axis] != 1 for p in padded)
        if walks and walks[-1] == walk:
            shape[-1] = mul(shape[-1], output[axis])
        else:
            shape.append(output[axis])
            walks.append(walk)
    if not shape:
        shape, walks = [1], [(True,) * len(operands)]
    return MergedAxes(shape=tuple(shape), walks=tuple(zip(*walks, strict=True)))


class MapKernel:
    """Native code of `fused_map` and of every single pointwise function."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is `FLAT_RUN` elements of a flat map, or one innermost row."""
        merged = _merged(signature)
        cost = cost_of(_program(signature)) + 1.0
        if len(merged.shape) == 1:
            return Work(units=ceildiv(merged.shape[0], FLAT_RUN), unit_cost=cost * FLAT_RUN / 4)
        inner = merged.shape[-1]
        width = inner if isinstance(inner, int) else 256
        return Work(units=product(merged.shape[:-1]), unit_cost=cost * max(width, 8) / 4)

    def emit(self, call: KernelCall) -> None:
        """Flat run or row by row."""
        merged = _merged(call.signature)
        if len(merged.shape) == 1:
            _emit_flat(call, merged)
        else:
            _emit_rows(call, merged)


def _types(signature: StepSignature) -> tuple[TensorType, ...]:
    return tuple(t for t in signature.inputs if t is not None)


def _merged(signature: StepSignature) -> MergedAxes:
    return merge_axes(signature.outputs[0].shape, tuple(t.shape for t in _types(signature)))


def _program(signature: StepSignature) -> tuple[Instruction, ...]:
    return program_of(signature.operation, signature.attributes, len(_types(signature)))


def _vector_lanes(call: KernelCall) -> int:
    """Lanes by the widest element that takes part, at least float32."""
    types = (*_types(call.signature), *call.signature.outputs)
    widest = max(max(t.dtype.size_bytes for t in types), 4)
    return call.target.vector_bytes // widest


def _emit_flat(call: KernelCall, merged: MergedAxes) -> None:
    b = call.builder
    operands = [call.input(i) for i in range(len(call.signature.inputs))]
    output = call.output()
    walks = [w[0] for w in merged.walks]
    total = output.elements
    constants = [None if walk else x.load_flat(0) for x, walk in zip(operands, walks, strict=True)]
    program = _program(call.signature)
    with b.range(call.begin, call.end) as run:
        first = run * FLAT_RUN
        count = b.minimum(b.index(total) - first, FLAT_RUN)

        def body(i: Index, lanes: int) -> None:
            position = i + first
            loaded = [
                (_operand(b, x, constant, position, lanes), x.dtype)
                for x, constant in zip(operands, constants, strict=True)
            ]
            output.store_flat(emit_program(b, program, loaded)[0], position)

        b.vectorize(count, _vector_lanes(call), body)


def _operand(b: FunctionBuilder, x: TensorRef, constant: Value | None, position: Index, lanes: int) -> Value:
    if constant is not None:
        return b.splat(constant, lanes)
    return x.load_flat(position, lanes=lanes)


def _emit_rows(call: KernelCall, merged: MergedAxes) -> None:
    b = call.builder
    operands = [call.input(i) for i in range(len(call.signature.inputs))]
    output = call.output()
    shape = tuple(call.dim(d) for d in merged.shape)
    strides = [_strides(shape, walk) for walk in merged.walks]
    inner = shape[-1]
    program = _program(call.signature)
    with b.range(call.begin, call.end) as row:
        outer = unflatten(b, row, shape[:-1])
        starts = [_start(outer, s[:-1]) for s in strides]
        constants = [
            None if walk[-1] else x.load_flat(start)
            for x, walk, start in zip(operands, merged.walks, starts, strict=True)
        ]
        base = row * inner

        def body(i: Index, lanes: int) -> None:
            loaded = [
                (_operand(b, x, constant, start + i, lanes), x.dtype)
                for x, constant, start in zip(operands, constants, starts, strict=True)
            ]
            output.store_flat(emit_program(b, program, loaded)[0], base + i)

        b.vectorize(inner, _vector_lanes(call), body)


def _strides(shape: tuple[Index, ...], walks: tuple[bool, ...]) -> tuple[Index, ...]:
    strides: list[Index] = []
    running: Index = 1
    for extent, walk in zip(reversed(shape), reversed(walks), strict=True):
        strides.append(running if walk else 0)
        running = extent * running if walk else running
    return tuple(reversed(strides))


def _start(indices: tuple[Index, ...], strides: tuple[Index, ...]) -> Index:
    total: Index = 0
    for index, stride in zip(indices, strides, strict=True):
        if not (isinstance(stride, int) and stride == 0):
            total = index * stride + total
    return total
