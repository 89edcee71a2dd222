"""The three cells: how gates become the next state."""

from __future__ import annotations

from plumbline.kernels.emit.ir import Value
from plumbline.kernels.recurrent.kernel import Biases, Chunk, Run, Weights

__all__ = ["gru_cell", "lstm_cell", "rnn_cell"]


def _starts(run: Run, chunk: Chunk, gates: tuple[int, ...]) -> list[Value]:
    """Both biases of some gates, repeated for every row."""
    return run.bias(chunk, gates, Biases.BOTH) * run.rows


def _pick(sums: list[Value], chunk: Chunk, gates: int, row: int, gate: int, vector: int) -> Value:
    return sums[(row * gates + gate) * chunk.vectors + vector]


def rnn_cell(run: Run, inputs: Weights, recurrent: Weights) -> None:
    """h' = f(W x + R h + b)."""
    for chunk in run.chunks(1):
        sums = run.accumulate(inputs, (0,), chunk, _starts(run, chunk, (0,)))
        sums = run.accumulate(recurrent, (0,), chunk, sums)
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
    for chunk in run.chunks(4):
        first = run.bias(chunk, (0, 1), Biases.BOTH) + run.bias(chunk, (2,), Biases.INPUT)
        sums = run.accumulate(inputs, (0, 1, 2), chunk, first * run.rows)
        hidden_bias = run.bias(chunk, (2,), Biases.RECURRENT)
        width = 3 * chunk.vectors
        start: list[Value] = []
        for row in range(run.rows):
            start += sums[row * width : row * width + 2 * chunk.vectors] + hidden_bias
        total = run.accumulate(recurrent, (0, 1, 2), chunk, start)
        for row in range(run.rows):
            for vector in range(chunk.vectors):
                z, r, hidden = (_pick(total, chunk, 3, row, gate, vector) for gate in range(3))
                outer = _pick(sums, chunk, 3, row, 2, vector)
                n = g.emit(run.b, run.b.fma(f.emit(run.b, r), hidden, outer))
                _mix(run, row, chunk, vector, f.emit(run.b, z), n)


def _gru_reset(run: Run, inputs: Weights, recurrent: Weights) -> None:
    """Two passes: the reset gate of all hidden units must be known before the candidate of any."""
    f, g = run.activations
    for chunk in run.chunks(2):
        sums = run.accumulate(inputs, (0, 1), chunk, _starts(run, chunk, (0, 1)))
        sums = run.accumulate(recurrent, (0, 1), chunk, sums)
        for row in range(run.rows):
            for vector in range(chunk.vectors):
                run.store(f.emit(run.b, _pick(sums, chunk, 2, row, 0, vector)), 2, row, chunk, vector)
                reset = f.emit(run.b, _pick(sums, chunk, 2, row, 1, vector))
                run.store(reset * run.load(0, row, chunk, vector), 3, row, chunk, vector)
    masked = Weights(
        matrix=recurrent.matrix, start=recurrent.start, depth=recurrent.depth,
        read=lambda row, k: run.b.load(run.buffer(3, row), run.dtype, k),
    )  # fmt: skip
    for chunk in run.chunks(1):
        sums = run.accumulate(inputs, (2,), chunk, _starts(run, chunk, (2,)))
        sums = run.accumulate(masked, (2,), chunk, sums)
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
    for chunk in run.chunks(4):
        sums = run.accumulate(inputs, gates, chunk, _starts(run, chunk, gates))
        sums = run.accumulate(recurrent, gates, chunk, sums)
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
