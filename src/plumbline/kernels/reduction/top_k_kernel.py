"""Native code of top-k: the k first elements of each line in order, with their places.

The outputs of a line serve as a heap whose root is the worst of the best so far (R. W. Floyd, "Algorithm 245:
Treesort", 1964); it is then sorted in place. Equal elements keep their order in the line. NaN counts as
larger than any number and -0 as equal to 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value
from plumbline.kernels.emit.math import any_lane
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.pointwise.expression import compute_dtype
from plumbline.kernels.reduction.axes import normal_axis, split_at

__all__ = ["TopKKernel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heap:
    """The outputs of one line: element i of both lies `i * stride` after its pointer."""

    builder: FunctionBuilder
    values: Pointer
    places: Pointer
    stride: Index
    dtype: DType
    largest: bool

    def value(self, i: Index) -> Value:
        """Element i."""
        return self.builder.load(self.values, self.dtype, i * self.stride)

    def place(self, i: Index) -> Value:
        """Where element i stood in the line."""
        return self.builder.load(self.places, DType.INT64, i * self.stride)

    def put(self, i: Index, value: Value, place: Value) -> None:
        """Replace element i."""
        self.builder.store(value, self.values, i * self.stride)
        self.builder.store(place, self.places, i * self.stride)

    def worse(self, value: Value, place: Value, other: Value, other_place: Value) -> Value:
        """Whether the first comes after the second in the result."""
        b = self.builder
        left, right = _rank(b, value, self.largest), _rank(b, other, self.largest)
        tie = b.compare("eq", left, right) & b.compare("gt", place, other_place)
        return b.compare("lt", left, right) | tie


class TopKKernel:
    """Two outputs: values in the input's type and places in int64."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one line."""
        source = signature.inputs[0]
        shape = () if source is None else source.shape
        line = split_at(shape, normal_axis("top_k", int(signature.attributes.get("axis", -1)), len(shape)))
        extent = line.extent if isinstance(line.extent, int) else 256
        return Work(units=line.outer * line.inner, unit_cost=8.0 * max(extent, 1))

    def emit(self, call: KernelCall) -> None:
        """Fill the heap, offer the rest of the line, sort."""
        b = call.builder
        source, values, places = call.input(0), call.output(0), call.output(1)
        axis = normal_axis("top_k", int(call.attributes.get("axis", -1)), source.rank)
        line = split_at(source.type.shape, axis)
        extent, inner = call.dim(line.extent), call.dim(line.inner)
        wanted = values.shape[axis]
        size = b.minimum(b.index(wanted), extent)
        largest = bool(call.attributes.get("largest", True))
        with b.range(call.begin, call.end) as unit:
            outer, column = b.index(unit) / inner, b.index(unit) % inner
            start = outer * extent * inner + column
            base = outer * wanted * inner + column
            heap = _Heap(
                builder=b, values=b.offset(values.pointer, values.dtype, base), stride=inner,
                places=b.offset(places.pointer, DType.INT64, base), dtype=values.dtype, largest=largest,
            )  # fmt: skip
            with b.range(0, size) as i:
                heap.put(i, source.load_flat(i * inner + start), b.index(i))
            with b.range(0, size / 2) as i:
                _sift_down(heap, size / 2 - 1 - i, size)
            with b.when(b.compare("gt", size, 0)):
                if line.is_row:
                    lanes = call.target.vector_bytes // max(source.dtype.size_bytes, 4)
                    _offer_row(heap, source, start, (size, b.index(extent)), lanes)
                else:
                    with b.range(size, extent) as i:
                        _offer(heap, source.load_flat(i * inner + start), b.index(i), size)
            with b.range(1, size) as i:
                _retire_root(heap, size - i)
            zero = b.cast(b.const(DType.INT8, 0), values.dtype)
            with b.range(size, wanted) as i:
                heap.put(i, zero, b.index(0))


def _offer(heap: _Heap, value: Value, place: Value, size: Value) -> None:
    """Let a later element take the root's place where the root is worse."""
    b = heap.builder
    with b.when(heap.worse(heap.value(0), heap.place(0), value, place)):
        heap.put(0, value, place)
        _sift_down(heap, b.index(0), size)


def _offer_row(heap: _Heap, source: TensorRef, start: Index, bounds: tuple[Value, Value], lanes: int) -> None:
    """Offer the elements of a contiguous row after the first `size`, skipping vectors without a better one.

    A later element that equals the root is worse than it, so only greater ranks count.
    """
    b = heap.builder
    size, extent = bounds

    def body(j: Index, width: int) -> None:
        i = size + j
        if width == 1:
            _offer(heap, source.load_flat(start + i), i, size)
            return
        ranks = _rank(b, source.load_flat(start + i, lanes=width), heap.largest)
        better = b.compare("gt", ranks, _rank(b, heap.value(0), heap.largest))
        with b.when(any_lane(b, better)), b.range(0, width) as lane:
            _offer(heap, source.load_flat(start + (i + lane)), i + lane, size)

    b.vectorize(extent - size, lanes, body)


def _retire_root(heap: _Heap, end: Value) -> None:
    """Move the worst of the first `end + 1` elements to position `end` and repair the heap before it."""
    value, place = heap.value(0), heap.place(0)
    heap.put(0, heap.value(end), heap.place(end))
    heap.put(end, value, place)
    _sift_down(heap, heap.builder.index(0), end)


def _sift_down(heap: _Heap, start: Index, size: Value) -> None:
    """Sink the element at `start` under worse children."""
    b = heap.builder
    value, place = heap.value(start), heap.place(start)
    hole, going = b.variable(DType.INT64, b.index(start)), b.variable(DType.BOOL, True)
    with _while(b, lambda: going.get() & b.compare("lt", hole.get() * 2 + 1, size)):
        left = hole.get() * 2 + 1
        right = b.minimum(left + 1, size - 1)
        swap = heap.worse(heap.value(right), heap.place(right), heap.value(left), heap.place(left))
        child = b.select(swap, right, left)
        child_value, child_place = heap.value(child), heap.place(child)
        sinks = heap.worse(child_value, child_place, value, place)
        going.set(sinks)
        with b.when(sinks):
            heap.put(hole.get(), child_value, child_place)
            hole.set(child)
    heap.put(hole.get(), value, place)


@contextmanager
def _while(b: FunctionBuilder, condition: Callable[[], Value]) -> Iterator[None]:
    """A loop whose test stands before its body."""
    head, body, done = b.fresh("while"), b.fresh("do"), b.fresh("od")
    b.statement(f"br label %{head}")
    b.label(head)
    again = condition()
    b.statement(f"br i1 {again.text}, label %{body}, label %{done}")
    b.label(body)
    yield
    b.statement(f"br label %{head}")
    b.label(done)


def _rank(b: FunctionBuilder, value: Value, largest: bool) -> Value:
    """An integer that orders values as the result does: greater stands earlier."""
    if value.dtype is DType.BOOL:
        key = b.cast(value, DType.UINT8)
    elif value.dtype.is_float:
        key = _float_rank(b, b.cast(value, compute_dtype(value.dtype)))
    else:
        key = value
    return key if largest else ~key


def _float_rank(b: FunctionBuilder, value: Value) -> Value:
    """Float bits as a signed integer in the order of the numbers, NaN on top."""
    wide = value.dtype is DType.FLOAT64
    integer, shift, low = (DType.INT64, 63, 2**63 - 1) if wide else (DType.INT32, 31, 2**31 - 1)
    bits = b.bitcast(b.select(b.compare("eq", value, 0.0), 0.0, value), integer)
    ordered = bits ^ (b.shift_right(bits, shift) & low)
    return b.select(b.is_nan(value), b.const(integer, low), ordered)
