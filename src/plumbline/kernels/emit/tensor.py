"""A tensor operand inside a kernel: an address, a shape in integers or registers, row-major strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.contracts import dims
from plumbline.contracts.dims import Dim
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value, is_value

__all__ = ["DimEmitter", "TensorRef", "product", "row_major_strides", "unflatten"]


class DimEmitter:
    """Turns dimensions into integers or registers. Symbols are read once, in the entry of the function."""

    def __init__(self, builder: FunctionBuilder, symbols: Pointer, names: Sequence[str]) -> None:
        self._builder = builder
        self._cache: dict[Dim, Value] = {}
        self._values = {
            name: builder.load(symbols, DType.INT64, position) for position, name in enumerate(names)
        }

    def __call__(self, dim: Dim) -> Index:
        """The run-time value of a dimension. Call it before the first loop: it must dominate every use."""
        if isinstance(dim, int):
            return dim
        if dim not in self._cache:
            self._cache[dim] = self._emit(dim)
        return self._cache[dim]

    def _emit(self, dim: dims.Expr) -> Value:
        total: Index = 0
        for monomial, coefficient in dim.terms:
            term: Index = coefficient
            for atom in monomial:
                term = self._atom(atom) * term
            total = term + total
        return self._builder.index(total)

    def _atom(self, atom: dims.Symbol | dims.Opaque) -> Value:
        if isinstance(atom, dims.Symbol):
            return self._values[atom.name]
        b = self._builder
        left, right = (b.index(self(a)) for a in atom.arguments)
        match atom.function:
            case "min":
                return b.minimum(left, right)
            case "max":
                return b.maximum(left, right)
        remainder = b.rem(left, right)
        adjust = b.select(_rounds_down(b, remainder, right), 1, b.index(0))
        if atom.function == "floordiv":
            return b.div(left, right) - adjust
        return remainder + b.select(adjust > 0, right, 0)


def _rounds_down(b: FunctionBuilder, remainder: Value, right: Value) -> Value:
    """Whether a truncated division must be corrected to floor."""
    return b.compare("ne", remainder, 0) & b.compare("lt", remainder ^ right, 0)


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A row-major tensor operand. Indices are element positions; `Index` is an int or an int64 register."""

    builder: FunctionBuilder
    pointer: Pointer
    type: TensorType
    shape: tuple[Index, ...]
    strides: tuple[Index, ...]

    @classmethod
    def row_major(
        cls, builder: FunctionBuilder, pointer: Pointer, type_: TensorType, dim: DimEmitter
    ) -> TensorRef:
        """Describe a dense tensor."""
        shape = tuple(dim(d) for d in type_.shape)
        return cls(builder, pointer, type_, shape, row_major_strides(shape))

    @property
    def dtype(self) -> DType:
        """Element type in memory."""
        return self.type.dtype

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def elements(self) -> Index:
        """Number of elements."""
        return product(self.shape)

    def offset(self, indices: Sequence[Index]) -> Index:
        """Element offset of a position."""
        total: Index = 0
        for index, stride in zip(indices, self.strides, strict=True):
            total = index * stride + total
        return total

    def load(self, *indices: Index, lanes: int = 1) -> Value:
        """Read at a position (`lanes` consecutive elements along the last axis)."""
        return self.load_flat(self.offset(indices), lanes=lanes)

    def store(self, value: Value, *indices: Index) -> None:
        """Write at a position."""
        self.store_flat(value, self.offset(indices))

    def load_flat(self, position: Index, lanes: int = 1) -> Value:
        """Read at an element offset."""
        return self.builder.load(self.pointer, self.dtype, position, lanes=lanes)

    def store_flat(self, value: Value, position: Index) -> None:
        """Write at an element offset."""
        self.builder.store(value, self.pointer, position)


def row_major_strides(shape: Sequence[Index]) -> tuple[Index, ...]:
    """Element strides of a dense shape."""
    strides: list[Index] = []
    running: Index = 1
    for extent in reversed(shape):
        strides.append(running)
        running = extent * running
    return tuple(reversed(strides))


def product(shape: Sequence[Index]) -> Index:
    """Product of extents."""
    total: Index = 1
    for extent in shape:
        total = extent * total
    return total


def unflatten(b: FunctionBuilder, flat: Index, shape: Sequence[Index]) -> tuple[Index, ...]:
    """Split a row-major flat position into indices; emits no division for axes of extent 1."""
    indices: list[Index] = []
    rest = flat
    for position in range(len(shape) - 1, -1, -1):
        extent = shape[position]
        if position == 0:
            indices.append(rest)
        elif not is_value(extent) and extent == 1:
            indices.append(0)
        elif isinstance(rest, int) and isinstance(extent, int):
            indices.append(rest % extent)
            rest = rest // extent
        else:
            value = b.index(rest)
            indices.append(value % extent)
            rest = value // extent
    return tuple(reversed(indices))
