"""Where the operands of a recurrent layer lie, and the copies between them and the workspace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall
from plumbline.kernels.emit.ir import Index, Pointer
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.recurrent.geometry import Layer
from plumbline.kernels.recurrent.run import Run, Weights, steps_ahead

__all__ = ["Places", "each_unit", "time_of", "write_zero"]


def time_of(step: Index, length: Index, backward: bool) -> Index:
    """The time of a step in the order of a direction."""
    return length - 1 - step if backward else step


def write_zero(run: Run, tensor: TensorRef, start: Index, i: Index, lanes: int) -> None:
    """Clear some elements of an output row."""
    tensor.store_flat(run.b.const(tensor.dtype, 0.0, lanes), start + i)


class Places:
    """Where the operands of a layer lie."""

    def __init__(self, call: KernelCall, layer: Layer) -> None:
        self.call, self.layer = call, layer
        self.x, self.w, self.r = call.input(0), call.input(1), call.input(2)
        self.lengths = call.optional_input(4)
        self.first_states = [call.optional_input(i) for i in (5, 6)][: len(call.signature.outputs) - 1]
        self.y = call.output(0)
        self.last_states = [call.output(i) for i in range(1, len(call.signature.outputs))]
        self.steps, self.batch = call.dim(layer.steps), call.dim(layer.batch)

    def rows(self, block: Index, count: int) -> list[Index]:
        """Batch rows of a block; those past the end repeat the last row."""
        b = self.call.builder
        first = block * count
        exact = isinstance(self.batch, int) and self.batch % count == 0
        last = self.batch - 1
        return [
            first + i if exact or i == 0 else b.minimum(b.index(first + i), b.index(last))
            for i in range(count)
        ]

    def length(self, row: Index) -> Index:
        """Time steps of a row."""
        b = self.call.builder
        if self.lengths is None:
            return self.steps
        given = b.cast(self.lengths.load_flat(row), DType.INT64)
        return b.maximum(b.minimum(given, b.index(self.steps)), 0)

    def y_start(self, row: Index, time: Index, direction: int) -> Index:
        """Element offset of an output row."""
        if self.layer.batch_first:
            return self.y.offset((row, time, direction, 0))
        return self.y.offset((time, direction, row, 0))

    def state_start(self, row: Index, direction: int) -> Index:
        """Element offset of a state row."""
        d, h = self.layer.directions, self.layer.hidden
        if self.layer.batch_first:
            return (row * d + direction) * h
        return (self.batch * direction + row) * h

    def weights(self, run: Run, rows: Sequence[Index], time: Index) -> tuple[Weights, Weights]:
        """Input and recurrent weights with the vectors of a time step."""
        b, layer = run.b, self.layer
        width = layer.gates * layer.hidden
        index = [(row, time, 0) if layer.batch_first else (time, row, 0) for row in rows]
        starts = [self.x.offset(i) for i in index]
        states = [run.buffer(0, r) for r in range(run.rows)]
        inputs = Weights(
            matrix=self.w, start=run.direction * layer.inputs * width, depth=layer.inputs,
            read=lambda row, k: b.cast(self.x.load_flat(starts[row] + k), run.dtype),
        )  # fmt: skip
        recurrent = Weights(
            matrix=self.r, start=run.direction * layer.hidden * width, depth=layer.hidden,
            read=lambda row, k: b.load(states[row], run.dtype, k),
        )  # fmt: skip
        return inputs, recurrent

    def project(self, run: Run, rows: Sequence[Index], first: Index, length: Index, backward: bool) -> None:
        """Multiply the inputs of the next time steps; those past the end repeat the last step."""
        b = run.b
        last = b.index(length - 1)
        steps = [b.minimum(b.index(first + i), last) for i in range(steps_ahead(run.rows))]
        run.project([self.weights(run, rows, time_of(step, length, backward))[0] for step in steps])

    def load_states(self, run: Run, rows: Sequence[Index]) -> None:
        """Fill the states of a unit: h in buffer 0, c in buffer 2."""
        for number, tensor in enumerate(self.first_states):
            for r, row in enumerate(rows):
                buffer, start = run.buffer(2 * number, r), self.state_start(row, run.direction)
                each_unit(run, partial(_load_state, run, tensor, start, buffer))

    def advance(self, run: Run, rows: Sequence[Index], time: Index) -> None:
        """Make the next state current and write it to the output row."""
        for r, row in enumerate(rows):
            start = self.y_start(row, time, run.direction)
            each_unit(run, partial(_copy_state, run, run.buffer(1, r), self.y, start, run.buffer(0, r)))

    def store_states(self, run: Run, rows: Sequence[Index]) -> None:
        """Write the last states."""
        for number, tensor in enumerate(self.last_states):
            for r, row in enumerate(rows):
                buffer, start = run.buffer(2 * number, r), self.state_start(row, run.direction)
                each_unit(run, partial(_copy_state, run, buffer, tensor, start, None))


def each_unit(run: Run, body: Callable[[Index, int], None]) -> None:
    """Call `body` over the hidden units in vectors."""
    run.b.vectorize(run.layer.hidden, run.call.target.lanes(run.dtype), body)


def _load_state(
    run: Run, tensor: TensorRef | None, start: Index, buffer: Pointer, i: Index, lanes: int
) -> None:
    value = run.b.const(run.dtype, 0.0, lanes)
    if tensor is not None:
        value = run.b.cast(tensor.load_flat(start + i, lanes=lanes), run.dtype)
    run.b.store(value, buffer, i)


def _copy_state(
    run: Run, source: Pointer, tensor: TensorRef, start: Index, also: Pointer | None, i: Index, lanes: int
) -> None:
    """Write a workspace vector to a tensor, and to another workspace vector."""
    value = run.b.load(source, run.dtype, i, lanes=lanes)
    if also is not None:
        run.b.store(value, also, i)
    tensor.store_flat(run.b.cast(value, tensor.dtype), start + i)
