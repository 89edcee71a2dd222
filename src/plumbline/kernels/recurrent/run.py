"""What a recurrent cell sees while it runs: its vectors in the workspace, and the sums of its gates.

A narrow layer sums in registers, chunk by chunk of hidden units. A wide one streams its weights from end to
end and keeps sums in the workspace, and multiplies the inputs of several time steps at once. Both add bias,
inputs and hidden state in the same order with the same operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.recurrent.activations import Activation
from plumbline.kernels.recurrent.geometry import Layer

__all__ = ["BUFFERS", "Biases", "Chunk", "Run", "Weights", "padded", "steps_ahead", "workspace_vectors"]

BUFFERS = {"rnn": 2, "gru": 4, "lstm": 3}
"""Vectors of hidden size in the workspace, per row: state, next state, and what the cell keeps."""
AHEAD = 8
"""Time steps times rows whose inputs a wide layer multiplies at once: input weights are read seldom."""
WIDE = 160 * 1024
"""Bytes of recurrent weights of a direction from which sums are kept in memory and weights are streamed."""


Read = Callable[[int, Index], Value]
"""(row of the unit, position) -> an element of the vector that multiplies a matrix."""


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
    """A weight matrix `[depth, gates * hidden]` of one direction, and the vectors that multiply it.

    `ahead` is set where the products are in the workspace already: the number of the time step there.
    """

    matrix: TensorRef
    start: Index
    depth: int
    read: Callable[[int, Index], Value]
    ahead: Index | None = None


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
        position = (row * count + number) * padded(self.layer.hidden, self.dtype)
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

    @property
    def wide(self) -> bool:
        """Whether sums are kept in memory."""
        return is_wide(self.layer)

    def prepare(
        self, terms: Sequence[Weights], gates: Sequence[int], biases: Biases
    ) -> Callable[[Chunk], list[Value]]:
        """What gives the sums of some gates for a chunk, ordered by row, gate, vector.

        A narrow layer computes them in registers when asked. A wide one completes them in memory here,
        starting from the products of inputs that `project` left there. Both apply the same operations to each
        element in the same order.
        """
        if not self.wide:
            return lambda chunk: self._in_registers(terms, gates, biases, chunk)
        ahead = next((w.ahead for w in terms if w.ahead is not None), None)
        places = [[self._sums(row, ahead, gate) for gate in gates] for row in range(self.rows)]
        if ahead is None:
            self._start_sums(gates, [biases] * len(gates), places)
        for weights in terms:
            if weights.ahead is None:
                self._stream(weights, gates, places, [weights.read] * self.rows)
        return lambda chunk: [
            self.b.load(place, self.dtype, chunk.first + vector * chunk.lanes, lanes=chunk.lanes)
            for row in places
            for place in row
            for vector in range(chunk.vectors)
        ]

    def project(self, inputs: Sequence[Weights]) -> None:
        """Leave bias plus input products of some time steps in the workspace (wide layers)."""
        gates = range(self.layer.gates)
        linear = self.call.attributes.get("linear_before_reset", False)
        biases = [Biases.INPUT if linear and gate == 2 else Biases.BOTH for gate in gates]
        pairs = [(step, row) for step in range(len(inputs)) for row in range(self.rows)]
        places = [[self._sums(row, step, gate) for gate in gates] for step, row in pairs]
        self._start_sums(gates, biases, places)
        reads = [partial(_read_row, inputs[step].read, row) for step, row in pairs]
        self._stream(inputs[0], gates, places, reads)

    def _sums(self, row: int, ahead: Index | None, gate: int) -> Pointer:
        """Where a wide layer keeps the sums of a gate: by time step, or apart where no input takes part."""
        hidden = padded(self.layer.hidden, self.dtype)
        first = self.rows * BUFFERS[self.call.signature.operation]
        if ahead is None:
            return self.b.offset(self.call.workspace, self.dtype, (first + row) * hidden)
        place = (ahead * self.rows + row) * self.layer.gates + gate + (first + self.rows)
        return self.b.offset(self.call.workspace, self.dtype, place * hidden)

    def _start_sums(
        self, gates: Sequence[int], biases: Sequence[Biases], places: Sequence[Sequence[Pointer]]
    ) -> None:
        for position, (gate, kind) in enumerate(zip(gates, biases, strict=True)):
            targets = [row[position] for row in places]
            body = partial(self._store_bias, gate, kind, targets)
            self.b.vectorize(self.layer.hidden, self.call.target.lanes(self.dtype), body)

    def _in_registers(
        self, terms: Sequence[Weights], gates: Sequence[int], biases: Biases, chunk: Chunk
    ) -> list[Value]:
        sums = self.bias(chunk, gates, biases) * self.rows
        for weights in terms:
            sums = self.accumulate(weights, gates, chunk, sums)
        return sums

    def _store_bias(
        self, gate: int, biases: Biases, targets: Sequence[Pointer], i: Index, lanes: int
    ) -> None:
        (value,) = self.bias(Chunk(first=i, vectors=1, lanes=lanes), (gate,), biases)
        for target in targets:
            self.b.store(value, target, i)

    def _stream(
        self,
        weights: Weights,
        gates: Sequence[int],
        places: Sequence[Sequence[Pointer]],
        reads: Sequence[Read],
    ) -> None:
        """Add products to sums in memory: a few rows of the matrix at a time, each read from end to end.

        Args:
            weights: the matrix.
            gates: which of its columns.
            places: the sums of each vector, by gate.
            reads: element (row, k) of each vector.
        """
        b = self.b
        depth = min(8, max(1, (self.call.target.vector_registers - 8) // (len(places) + 1)))
        whole = weights.depth // depth * depth
        for low, high, count in ((0, whole, depth), (whole, weights.depth, 1)):
            if low < high:
                with b.range(low, high, count) as k:
                    self._stream_rows(weights, gates, places, reads, k, count)

    def _stream_rows(
        self, weights: Weights, gates: Sequence[int], places: Sequence[Sequence[Pointer]],
        reads: Sequence[Read], k: Index, count: int,
    ) -> None:  # fmt: skip
        b, full = self.b, self.call.target.lanes(self.dtype)
        scalars = [[read(row % self.rows, k + j) for j in range(count)] for row, read in enumerate(reads)]
        vectors = {1: scalars, full: [[b.splat(x, full) for x in row] for row in scalars]}
        width = self.layer.gates * self.layer.hidden
        bases = [(k + j) * width + weights.start for j in range(count)]
        for position, gate in enumerate(gates):

            def columns(i: Index, lanes: int, gate: int = gate, position: int = position) -> None:
                place = i + gate * self.layer.hidden
                loaded = [
                    b.cast(weights.matrix.load_flat(base + place, lanes=lanes), self.dtype) for base in bases
                ]
                for row, target in enumerate(places):
                    total = b.load(target[position], self.dtype, i, lanes=lanes)
                    for x, w in zip(vectors[lanes][row], loaded, strict=True):
                        total = b.fma(x, w, total)
                    b.store(total, target[position], i)

            b.vectorize(self.layer.hidden, full, columns)

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


def _read_row(read: Read, row: int, _: int, k: Index) -> Value:
    return read(row, k)


def steps_ahead(rows: int) -> int:
    """Time steps whose inputs a wide layer with `rows` rows to a unit multiplies at once."""
    return max(1, AHEAD // rows)


def padded(hidden: int, dtype: DType) -> int:
    """Elements of a workspace vector: whole cache lines."""
    line = 64 // dtype.size_bytes
    return -(-hidden // line) * line


def is_wide(layer: Layer) -> bool:
    """Whether a layer streams its weights."""
    return layer.hidden * layer.hidden * layer.gates * layer.dtype.size_bytes >= WIDE


def workspace_vectors(operation: str, layer: Layer, rows: int) -> int:
    """Workspace vectors of hidden size of a unit: states, and for a wide layer sums."""
    sums = 1 + steps_ahead(rows) * layer.gates if is_wide(layer) else 0
    return rows * (BUFFERS[operation] + sums)
