"""`einsum`: one loop nest for any equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plumbline.contracts.dims import Dim, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value, is_value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef, unflatten
from plumbline.kernels.matrix.equation import Equation, label_extents, parse_equation
from plumbline.kernels.matrix.tile import accumulate, multiply_add

__all__ = ["EinsumKernel", "infer_einsum"]


def infer_einsum(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `einsum`: attribute `equation`, operands of one number type."""
    types = tuple(inference.type(i) for i in range(len(inference.inputs)))
    inference.require(bool(types), "einsum has at least one operand")
    dtype = types[0].dtype
    if any(t.dtype is not dtype for t in types) or not (dtype.is_float or dtype.is_integer):
        raise DTypeRefused(
            operation="einsum", dtype=", ".join(t.dtype for t in types), needed="one number type"
        )
    equation = parse_equation(inference.attributes["equation"], tuple(t.rank for t in types))
    extents = label_extents(inference, equation, tuple(t.shape for t in types))
    return (TensorType(dtype, tuple(extents[label] for label in equation.result)),)


class EinsumKernel:
    """Native code of `einsum`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row of the result."""
        equation, extents = _read(signature)
        summed = product(extents[label] for label in equation.summed)
        inner = extents[equation.result[-1]] if equation.result else 1
        cost = 2.0 * max(1, _known(summed)) * max(1, _known(inner)) / 4
        return Work(units=product(signature.outputs[0].shape[:-1]), unit_cost=cost)

    def emit(self, call: KernelCall) -> None:
        """Rows of the result; the last label in vectors where every operand is contiguous or constant."""
        b = call.builder
        equation, dims = _read(call.signature)
        operands = [call.input(i) for i in range(len(call.signature.inputs))]
        output = call.output()
        extents = {label: call.dim(dim) for label, dim in dims.items()}
        strides = [_strides(x, labels) for x, labels in zip(operands, equation.operands, strict=True)]
        last = equation.result[-1:]
        steps = [s.get(last[0], 0) if last else 0 for s in strides]
        plain = bool(last) and all(not is_value(s) and s in (0, 1) for s in steps)
        lanes = call.target.lanes(accumulate(output.dtype)) if plain else 1
        width: Index = extents[last[0]] if last else 1
        with b.range(call.begin, call.end) as row:
            outer = unflatten(b, row, output.shape[:-1])
            starts = [_position(s, dict(zip(equation.result[:-1], outer, strict=True))) for s in strides]

            def element(i: Index, count: int) -> None:
                nest = _Nest(b, operands, strides, steps, count)
                bases = [start + i * step for start, step in zip(starts, steps, strict=True)]
                total = nest.total([(label, extents[label]) for label in equation.summed], bases)
                output.store_flat(b.cast(total, output.dtype), row * width + i)

            b.vectorize(width, lanes, element)


class _Nest:
    """The loops over summed labels for one vector of the result."""

    def __init__(
        self,
        b: FunctionBuilder,
        operands: Sequence[TensorRef],
        strides: Sequence[Mapping[str, Index]],
        steps: Sequence[Index],
        lanes: int,
    ) -> None:
        self.b, self.operands, self.strides, self.steps, self.lanes = b, operands, strides, steps, lanes
        self.dtype = accumulate(operands[0].dtype)

    def total(self, loops: Sequence[tuple[str, Index]], bases: Sequence[Index]) -> Value:
        """The sum over all loops of the product of the operands."""
        return self._loop(loops, bases, self.b.const(self.dtype, 0, self.lanes))

    def _loop(self, loops: Sequence[tuple[str, Index]], bases: Sequence[Index], total: Value) -> Value:
        if not loops:
            return self._term(bases, total)
        (label, extent), rest = loops[0], loops[1:]

        def body(i: Index, carried: list[Value]) -> Sequence[Value]:
            moved = [
                base + i * s[label] if label in s else base
                for base, s in zip(bases, self.strides, strict=True)
            ]
            return [self._loop(rest, moved, carried[0])]

        return self.b.reduce(0, extent, [total], body)[0]

    def _term(self, bases: Sequence[Index], total: Value) -> Value:
        factors = [self._load(k, base) for k, base in enumerate(bases)]
        if len(factors) == 1:
            return total + factors[0]
        first = factors[0]
        for factor in factors[1:-1]:
            first = first * factor
        return multiply_add(self.b, first, factors[-1], total)

    def _load(self, operand: int, base: Index) -> Value:
        step = self.steps[operand]
        contiguous = not is_value(step) and step == 1
        value = self.operands[operand].load_flat(base, lanes=self.lanes if contiguous else 1)
        return self.b.splat(self.b.cast(value, self.dtype), self.lanes)


def _read(signature: StepSignature) -> tuple[Equation, Mapping[str, Dim]]:
    types = tuple(t for t in signature.inputs if t is not None)
    inference = Inference(operation="einsum", inputs=types, attributes=signature.attributes)
    equation = parse_equation(signature.attributes["equation"], tuple(t.rank for t in types))
    return equation, label_extents(inference, equation, tuple(t.shape for t in types))


def _strides(tensor: TensorRef, labels: tuple[str, ...]) -> dict[str, Index]:
    """Elements between neighbours along a label: a repeated one walks a diagonal, extent 1 stands still."""
    found: dict[str, Index] = {}
    for axis, label in enumerate(labels):
        if tensor.type.shape[axis] != 1:
            found[label] = tensor.strides[axis] + found.get(label, 0)
    return found


def _position(strides: Mapping[str, Index], indices: Mapping[str, Index]) -> Index:
    total: Index = 0
    for label, index in indices.items():
        if label in strides:
            total = index * strides[label] + total
    return total


def _known(dim: Dim) -> int:
    return dim if isinstance(dim, int) else 64
