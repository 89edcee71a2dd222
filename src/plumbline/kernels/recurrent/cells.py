"""The three cells: how gates become the next state."""

from __future__ import annotations

from collections.abc import Callable

from plumbline.kernels.emit.ir import Value
from plumbline.kernels.recurrent.run import Biases, Chunk, Run, Weights

__all__ = ["gru_cell", "lstm_cell", "rnn_cell"]


def _pick(sums: list[Value], chunk: Chunk, gates: int, row: int, gate: int, vector: int) -> Value:
    return sums[(row * gates + gate) * chunk.vectors + vector]


def rnn_cell(run: Run, inputs: Weights, recurrent: Weights) -> None:
    """h' = f(W x + R h + b)."""
    prepared = run.prepare((inputs, recurrent), (0,), Biases.BOTH)
    for chunk in run.chunks(1):
        sums = prepared(chunk)
        for row in range(run.rows):
            for vector in range(chunk.vectors):
                value = run.activations[0].emit(run.b, _pick(sums, chunk, 1, row, 0, vector))
                run.store(value, 1, row, chunk, vector)


def gru_cell(run: Run, inputs: Weights, recurrent: Weights) -> None:
    """z, r = f(.); n = g(Wx + R(r h)), or g(Wx + r (R h)) with linear_before_reset; h' = (1 - z) n + z h."""
    if run.call.attributes.get("linear_before_reset", False):
        _gru_linear(run, inputs, recurrent)
    else:
        _gru_reset(run, inputs, recurrent)


def _gru_linear(run: Run, inputs: Weights, recurrent: Weights) -> None:
    f, g = run.activations
    prepared = _linear_sums(run, inputs, recurrent)
    for chunk in run.chunks(4):
        gates, outer, hidden = prepared(chunk)
        for row in range(run.rows):
            for vector in range(chunk.vectors):
                z, r = (_pick(gates, chunk, 2, row, gate, vector) for gate in range(2))
                inner = _pick(hidden, chunk, 1, row, 0, vector)
                n = run.b.fma(f.emit(run.b, r), inner, _pick(outer, chunk, 1, row, 0, vector))
                _mix(run, row, chunk, vector, f.emit(run.b, z), g.emit(run.b, n))


def _linear_sums(run: Run, inputs: Weights, recurrent: Weights) -> Callable[[Chunk], tuple[list[Value], ...]]:
    """For a chunk the sums of the gates z and r, of the candidate's inputs, and of its recurrent part."""
    if run.wide:
        parts = (
            run.prepare((inputs, recurrent), (0, 1), Biases.BOTH),
            run.prepare((inputs,), (2,), Biases.INPUT),
            run.prepare((recurrent,), (2,), Biases.RECURRENT),
        )
        return lambda chunk: tuple(part(chunk) for part in parts)
    return lambda chunk: _linear_in_registers(run, inputs, recurrent, chunk)


def _linear_in_registers(
    run: Run, inputs: Weights, recurrent: Weights, chunk: Chunk
) -> tuple[list[Value], ...]:
    """One pass over each matrix, for all three gates at once."""
    first = run.bias(chunk, (0, 1), Biases.BOTH) + run.bias(chunk, (2,), Biases.INPUT)
    sums = run.accumulate(inputs, (0, 1, 2), chunk, first * run.rows)
    hidden_bias = run.bias(chunk, (2,), Biases.RECURRENT)
    width, gated = 3 * chunk.vectors, 2 * chunk.vectors
    rows = range(0, run.rows * width, width)
    start = [value for row in rows for value in (*sums[row : row + gated], *hidden_bias)]
    total = run.accumulate(recurrent, (0, 1, 2), chunk, start)
    return (
        [value for row in rows for value in total[row : row + gated]],
        [value for row in rows for value in sums[row + gated : row + width]],
        [value for row in rows for value in total[row + gated : row + width]],
    )


def _gru_reset(run: Run, inputs: Weights, recurrent: Weights) -> None:
    """Two passes: the reset gate of all hidden units must be known before the candidate of any."""
    f, g = run.activations
    prepared = run.prepare((inputs, recurrent), (0, 1), Biases.BOTH)
    for chunk in run.chunks(2):
        sums = prepared(chunk)
        for row in range(run.rows):
            for vector in range(chunk.vectors):
                run.store(f.emit(run.b, _pick(sums, chunk, 2, row, 0, vector)), 2, row, chunk, vector)
                reset = f.emit(run.b, _pick(sums, chunk, 2, row, 1, vector))
                run.store(reset * run.load(0, row, chunk, vector), 3, row, chunk, vector)
    masked = Weights(
        matrix=recurrent.matrix, start=recurrent.start, depth=recurrent.depth,
        read=lambda row, k: run.b.load(run.buffer(3, row), run.dtype, k),
    )  # fmt: skip
    prepared = run.prepare((inputs, masked), (2,), Biases.BOTH)
    for chunk in run.chunks(1):
        sums = prepared(chunk)
        for row in range(run.rows):
            for vector in range(chunk.vectors):
                n = g.emit(run.b, _pick(sums, chunk, 1, row, 0, vector))
                _mix(run, row, chunk, vector, run.load(2, row, chunk, vector), n)


def _mix(run: Run, row: int, chunk: Chunk, vector: int, z: Value, n: Value) -> None:
    """Store (1 - z) n + z h."""
    h = run.load(0, row, chunk, vector)
    run.store((1.0 - z) * n + z * h, 1, row, chunk, vector)


def lstm_cell(run: Run, inputs: Weights, recurrent: Weights) -> None:
    """Gates in the order input, output, forget, cell; peepholes in the order input, output, forget."""
    gates = (0, 1, 2, 3)
    prepared = run.prepare((inputs, recurrent), gates, Biases.BOTH)
    for chunk in run.chunks(4):
        sums = prepared(chunk)
        for row in range(run.rows):
            for vector in range(chunk.vectors):
                i, o, forget, cell = (_pick(sums, chunk, 4, row, gate, vector) for gate in gates)
                _lstm_unit(run, row, chunk, vector, i, o, forget, cell)


def _lstm_unit(
    run: Run, row: int, chunk: Chunk, vector: int, i: Value, o: Value, forget: Value, cell: Value
) -> None:
    b, (f, g, h) = run.b, run.activations
    peepholes = run.call.optional_input(7)
    old = run.load(2, row, chunk, vector)
    if peepholes is not None:
        i = i + run.parameter(peepholes, 0, chunk, vector) * old
        forget = forget + run.parameter(peepholes, 2, chunk, vector) * old
    opened = f.emit(b, i)
    kept = 1.0 - opened if run.call.attributes.get("input_forget", False) else f.emit(b, forget)
    new = kept * old + opened * g.emit(b, cell)
    if peepholes is not None:
        o = o + run.parameter(peepholes, 1, chunk, vector) * new
    run.store(new, 2, row, chunk, vector)
    run.store(f.emit(b, o) * h.emit(b, new), 1, row, chunk, vector)
