"""Native code of recurrent layers: a unit runs whole sequences of a few batch rows in one direction.

Gates are vectors along the hidden units, accumulated in registers: bias first, then the inputs in order, then
the hidden state in order, each a fused multiply-add. So a result does not depend on how many rows share a
unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from plumbline.contracts.dims import Dim, ceildiv, mul
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.matrix.tile import accumulate
from plumbline.kernels.recurrent.activations import Activation
from plumbline.kernels.recurrent.geometry import Layer, layer_activations, signature_layer

__all__ = ["Biases", "Chunk", "RecurrentKernel", "Run", "Weights"]

ROWS = 4
"""Batch rows that share the loads of weights."""
BUFFERS = {"rnn": 2, "gru": 4, "lstm": 3}
"""Vectors of hidden size in the workspace, per row: state, next state, and what the cell keeps."""


class Biases(StrEnum):
    """Which of the two bias vectors of a gate start its sum."""

    INPUT = "input"
    RECURRENT = "recurrent"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Hidden units `[first, first + vectors * lanes)`."""

    first: Index
    vectors: int
    lanes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A weight matrix `[depth, gates * hidden]` of one direction, and the vectors that multiply it."""

    matrix: TensorRef
    start: Index
    depth: int
    read: Callable[[int, Index], Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a cell sees while one unit runs in one direction."""

    b: FunctionBuilder
    call: KernelCall
    layer: Layer
    direction: int
    rows: int
    dtype: DType
    activations: tuple[Activation, ...]

    def buffer(self, number: int, row: int) -> Pointer:
        """A workspace vector of a row: 0 state, 1 next state, others as the cell likes."""
        count = BUFFERS[self.call.signature.operation]
        position = (row * count + number) * _padded(self.layer.hidden, self.dtype)
        return self.b.offset(self.call.workspace, self.dtype, position)

    def load(self, number: int, row: int, chunk: Chunk, vector: int) -> Value:
        """A piece of a workspace vector."""
        place = chunk.first + vector * chunk.lanes
        return self.b.load(self.buffer(number, row), self.dtype, place, lanes=chunk.lanes)

    def store(self, value: Value, number: int, row: int, chunk: Chunk, vector: int) -> None:
        """Write a piece of a workspace vector."""
        self.b.store(value, self.buffer(number, row), chunk.first + vector * chunk.lanes)

    def parameter(self, tensor: TensorRef, column: int, chunk: Chunk, vector: int) -> Value:
        """A piece of a per-direction parameter vector, from column `column * hidden`."""
        width = tensor.shape[1]
        place = self.direction * width + column * self.layer.hidden + (chunk.first + vector * chunk.lanes)
        return self.b.cast(tensor.load_flat(place, lanes=chunk.lanes), self.dtype)

    def bias(self, chunk: Chunk, gates: Sequence[int], biases: Biases) -> list[Value]:
        """Start of the sums of some gates, by gate and vector; zero without a bias operand."""
        tensor = self.call.optional_input(3)
        found: list[Value] = []
        for gate in gates:
            columns = {
                Biases.INPUT: (gate,),
                Biases.RECURRENT: (self.layer.gates + gate,),
                Biases.BOTH: (gate, self.layer.gates + gate),
            }[biases]
            for vector in range(chunk.vectors):
                if tensor is None:
                    found.append(self.b.const(self.dtype, 0.0, chunk.lanes))
                    continue
                parts = [self.parameter(tensor, column, chunk, vector) for column in columns]
                found.append(parts[0] if len(parts) == 1 else parts[0] + parts[1])
        return found

    def accumulate(
        self, weights: Weights, gates: Sequence[int], chunk: Chunk, sums: list[Value]
    ) -> list[Value]:
        """Add a matrix-vector product to the sums of some gates.

        Sums are ordered by row, gate, vector.
        """
        b, hidden = self.b, self.layer.hidden
        width = self.layer.gates * hidden

        def body(k: Index, carried: list[Value]) -> Sequence[Value]:
            base = k * width + weights.start
            loaded = [
                b.cast(
                    weights.matrix.load_flat(
                        base + (chunk.first + (gate * hidden + vector * chunk.lanes)), lanes=chunk.lanes
                    ),
                    self.dtype,
                )
                for gate in gates
                for vector in range(chunk.vectors)
            ]
            results = []
            for row in range(self.rows):
                x = b.splat(weights.read(row, k), chunk.lanes)
                start = row * len(loaded)
                results += [b.fma(x, w, carried[start + i]) for i, w in enumerate(loaded)]
            return results

        return b.reduce(0, weights.depth, sums, body)

    def chunks(self, kinds: int) -> Iterator[Chunk]:
        """Cover the hidden units; `kinds` accumulators per vector and row are alive at a time.

        Whole vectors first, then narrower ones, so that no lane is idle.
        """
        hidden, lanes = self.layer.hidden, self.call.target.lanes(self.dtype)
        registers = self.call.target.vector_registers - 6
        done = 0
        while lanes:
            most = max(1, registers // (kinds * self.rows))
            whole = (hidden - done) // lanes
            vectors = min(most, whole)
            if vectors:
                step = vectors * lanes
                end = done + whole // vectors * step
                with self.b.range(done, end, step) as first:
                    yield Chunk(first=first, vectors=vectors, lanes=lanes)
                done = end
                if whole % vectors:
                    yield Chunk(first=done, vectors=whole % vectors, lanes=lanes)
                    done += whole % vectors * lanes
            lanes //= 2


Cell = Callable[[Run, Weights, Weights], None]
"""Compute the next state (buffer 1) of one time step from inputs and state (buffer 0)."""


def _padded(hidden: int, dtype: DType) -> int:
    """Elements of a workspace vector: whole cache lines."""
    line = 64 // dtype.size_bytes
    return -(-hidden // line) * line


def _rows(signature: StepSignature, layer: Layer) -> int:
    """Rows of a unit: one where lengths differ or the batch is not known."""
    if len(signature.inputs) > 4 and signature.inputs[4] is not None:
        return 1
    return min(ROWS, layer.batch) if isinstance(layer.batch, int) and layer.batch > 0 else 1


def _blocks(signature: StepSignature, layer: Layer) -> Dim:
    return ceildiv(layer.batch, _rows(signature, layer))


class RecurrentKernel:
    """Native code of `rnn`, `gru` and `lstm` around a cell."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is up to four batch rows in one direction."""
        layer, dtype = signature_layer(signature), accumulate(signature.outputs[0].dtype)
        rows = _rows(signature, layer)
        steps = layer.steps if isinstance(layer.steps, int) else 32
        flops = 2.0 * rows * steps * layer.gates * layer.hidden * (layer.inputs + layer.hidden)
        bytes_ = rows * BUFFERS[signature.operation] * _padded(layer.hidden, dtype) * dtype.size_bytes
        return Work(
            units=mul(layer.directions, _blocks(signature, layer)),
            unit_cost=flops / 8,
            workspace_bytes=bytes_,
        )

    def emit(self, call: KernelCall) -> None:
        """Each direction has its own code; its units are those rows that fall into `[begin, end)`."""
        b, layer = call.builder, signature_layer(call.signature)
        activations = layer_activations(call.signature.operation, call.attributes, layer.directions)
        blocks = call.dim(_blocks(call.signature, layer))
        places = _Places(call, layer)
        for direction in range(layer.directions):
            run = Run(
                b=b, call=call, layer=layer, direction=direction, rows=_rows(call.signature, layer),
                dtype=accumulate(layer.dtype), activations=activations[direction],
            )  # fmt: skip
            low = b.maximum(b.index(call.begin) - blocks * direction, 0)
            high = b.minimum(b.index(call.end) - blocks * direction, b.index(blocks))
            with b.range(low, high) as block:
                self._emit_rows(run, places, places.rows(block, run.rows))

    def _emit_rows(self, run: Run, places: _Places, rows: Sequence[Index]) -> None:
        b, direction = run.b, run.direction
        backward = direction == 1 or run.call.attributes.get("direction", "forward") == "reverse"
        places.load_states(run, rows)
        length = places.length(rows[0])
        with b.range(0, length) as step:
            time = length - 1 - step if backward else step
            self._cell(run, *places.weights(run, rows, time))
            places.advance(run, rows, time)
        with b.range(length, places.steps) as time:
            for row in rows:
                _each(run, partial(_write_zero, run, places.y, places.y_start(row, time, direction)))
        places.store_states(run, rows)


def _write_zero(run: Run, tensor: TensorRef, start: Index, i: Index, lanes: int) -> None:
    tensor.store_flat(run.b.const(tensor.dtype, 0.0, lanes), start + i)


class _Places:
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

    def load_states(self, run: Run, rows: Sequence[Index]) -> None:
        """Fill the states of a unit: h in buffer 0, c in buffer 2."""
        for number, tensor in enumerate(self.first_states):
            for r, row in enumerate(rows):
                buffer, start = run.buffer(2 * number, r), self.state_start(row, run.direction)
                _each(run, partial(_load_state, run, tensor, start, buffer))

    def advance(self, run: Run, rows: Sequence[Index], time: Index) -> None:
        """Make the next state current and write it to the output row."""
        for r, row in enumerate(rows):
            start = self.y_start(row, time, run.direction)
            _each(run, partial(_copy_state, run, run.buffer(1, r), self.y, start, run.buffer(0, r)))

    def store_states(self, run: Run, rows: Sequence[Index]) -> None:
        """Write the last states."""
        for number, tensor in enumerate(self.last_states):
            for r, row in enumerate(rows):
                buffer, start = run.buffer(2 * number, r), self.state_start(row, run.direction)
                _each(run, partial(_copy_state, run, buffer, tensor, start, None))


def _each(run: Run, body: Callable[[Index, int], None]) -> None:
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
