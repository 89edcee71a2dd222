"""Numpy twins of the recurrent layers, in float64, one time step and one row at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from plumbline.kernels.recurrent.activations import Activation
from plumbline.kernels.recurrent.geometry import CELLS, layer_activations

__all__ = ["reference_recurrent"]

Arrays = Sequence[np.ndarray | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Direction:
    """The weights of one direction: input and recurrent matrices, their biases, peepholes."""

    w: np.ndarray
    r: np.ndarray
    wb: np.ndarray
    rb: np.ndarray
    peepholes: np.ndarray
    activations: tuple[Activation, ...]
    attributes: Mapping[str, Any]


State = tuple[np.ndarray, np.ndarray]
Step = Callable[[_Direction, np.ndarray, State], State]


def _rnn(d: _Direction, x: np.ndarray, state: State) -> State:
    (f,) = d.activations
    return f.reference(x @ d.w + d.wb + state[0] @ d.r + d.rb), state[1]


def _gru(d: _Direction, x: np.ndarray, state: State) -> State:
    f, g = d.activations
    h = state[0]
    wz, wr, wn = np.split(x @ d.w + d.wb, 3)
    rz, rr, _ = np.split(h @ d.r + d.rb, 3)
    z, r = f.reference(wz + rz), f.reference(wr + rr)
    matrix, bias = np.split(d.r, 3, axis=1)[2], np.split(d.rb, 3)[2]
    if d.attributes.get("linear_before_reset", False):
        n = g.reference(wn + r * (h @ matrix + bias))
    else:
        n = g.reference(wn + (r * h) @ matrix + bias)
    return (1.0 - z) * n + z * h, state[1]


def _lstm(d: _Direction, x: np.ndarray, state: State) -> State:
    f, g, out = d.activations
    h, c = state
    i, o, forget, cell = np.split(x @ d.w + d.wb + h @ d.r + d.rb, 4)
    pi, po, pf = np.split(d.peepholes, 3)
    opened = f.reference(i + pi * c)
    coupled = d.attributes.get("input_forget", False)
    kept = 1.0 - opened if coupled else f.reference(forget + pf * c)
    new = kept * c + opened * g.reference(cell)
    return f.reference(o + po * new) * out.reference(new), new


_STEPS: Mapping[str, Step] = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}


def _operand(inputs: Arrays, position: int) -> np.ndarray | None:
    found = inputs[position] if position < len(inputs) else None
    return None if found is None else found.astype(np.float64)


def _directions(operation: str, inputs: Arrays, attributes: Mapping[str, Any]) -> list[_Direction]:
    w, r, bias, peepholes = (_operand(inputs, i) for i in (1, 2, 3, 7))
    if w is None or r is None:
        raise ValueError("a recurrent layer needs weights")
    count, hidden, width = r.shape
    bias = np.zeros((count, 2 * width)) if bias is None else bias
    peepholes = np.zeros((count, 3 * hidden)) if peepholes is None else peepholes
    functions = layer_activations(operation, attributes, count)
    return [
        _Direction(
            w=w[d], r=r[d], wb=bias[d, :width], rb=bias[d, width:], peepholes=peepholes[d],
            activations=functions[d], attributes=attributes,
        ) for d in range(count)
    ]  # fmt: skip


def _reference(operation: str, inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x = _operand(inputs, 0)
    if x is None or inputs[0] is None:
        raise ValueError("a recurrent layer needs inputs")
    batch_first = bool(attributes.get("batch_first", False))
    x = x.swapaxes(0, 1) if batch_first else x
    directions = _directions(operation, inputs, attributes)
    steps, batch, hidden = x.shape[0], x.shape[1], directions[0].r.shape[0]
    lengths = inputs[4] if len(inputs) > 4 and inputs[4] is not None else np.full(batch, steps)
    y = np.zeros((steps, len(directions), batch, hidden))
    last = [_first_state(inputs, i, (len(directions), batch, hidden), batch_first) for i in (5, 6)]
    backward_first = attributes.get("direction", "forward") == "reverse"
    for d, direction in enumerate(directions):
        for row in range(batch):
            state = (last[0][d, row], last[1][d, row])
            times = range(int(np.clip(lengths[row], 0, steps)))
            for time in reversed(times) if d == 1 or backward_first else times:
                state = _STEPS[operation](direction, x[time, row], state)
                y[time, d, row] = state[0]
            last[0][d, row], last[1][d, row] = state
    results = [y, *last[: 2 if operation == "lstm" else 1]]
    if batch_first:
        results = [y.transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in results[1:])]
    return tuple(np.ascontiguousarray(r.astype(inputs[0].dtype)) for r in results)


def _first_state(inputs: Arrays, position: int, shape: tuple[int, ...], batch_first: bool) -> np.ndarray:
    found = _operand(inputs, position)
    if found is None:
        return np.zeros(shape)
    return np.array(found.swapaxes(0, 1) if batch_first else found)


reference_recurrent = {name: partial(_reference, name) for name in CELLS}
"""The twin of each layer."""
