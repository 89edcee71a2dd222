"""Recurrent layers against their numpy twins (L1-02..L1-05)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plumbline.kernels.contract import AttributeRefused, DTypeRefused, ShapeRefused
from plumbline.kernels.emit.target import AVX2
from plumbline.kernels.recurrent.activations import ACTIVATIONS
from plumbline.kernels.recurrent.contract import CONTRACTS
from plumbline.testing.kernels import run_native, verify_operation

OPERATIONS = {c.name: c for c in CONTRACTS}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
COUNTS = {"rnn": 1, "gru": 2, "lstm": 3}
rng = np.random.default_rng(17)


def layer(
    name: str,
    *,
    steps: int = 5,
    batch: int = 2,
    inputs: int = 6,
    hidden: int = 21,
    directions: int = 1,
    dtype: str = "float32",
    batch_first: bool = False,
    lengths: np.ndarray | None = None,
    peepholes: bool = False,
) -> list[np.ndarray | None]:
    def draw(*shape: int) -> np.ndarray:
        scale = min(0.4, hidden**-0.5)  # larger weights make a wide layer chaotic
        return (rng.standard_normal(shape) * scale).astype(dtype)

    width = GATES[name] * hidden
    x = draw(batch, steps, inputs) if batch_first else draw(steps, batch, inputs)
    state = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
    operands: list[np.ndarray | None] = [
        x, draw(directions, inputs, width), draw(directions, hidden, width), draw(directions, 2 * width),
        lengths, draw(*state),
    ]  # fmt: skip
    if name == "lstm":
        operands += [draw(*state), draw(directions, 3 * hidden) if peepholes else None]
    return operands


@pytest.mark.parametrize("name", list(GATES))
@pytest.mark.parametrize("hidden", [1, 5, 16, 50])
def test_layers_of_any_hidden_size_agree_with_numpy(name: str, hidden: int) -> None:
    for batch in (1, 3, 6):
        verify_operation(OPERATIONS[name], layer(name, batch=batch, hidden=hidden))


@pytest.mark.parametrize("name", list(GATES))
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_layers_in_any_direction_and_layout_agree_with_numpy(name: str, direction: str) -> None:
    directions = 2 if direction == "bidirectional" else 1
    for batch_first in (False, True):
        for lengths in (None, np.array([3, 0, 9], np.int32)):
            operands = layer(name, batch=3, directions=directions, batch_first=batch_first, lengths=lengths)
            verify_operation(OPERATIONS[name], operands, {"direction": direction, "batch_first": batch_first})


@pytest.mark.parametrize("name", list(GATES))
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_layers_of_other_float_types_agree_with_numpy(name: str, dtype: str) -> None:
    verify_operation(OPERATIONS[name], layer(name, dtype=dtype))


@pytest.mark.parametrize("name", list(GATES))
def test_layers_with_symbolic_time_and_batch_agree_with_numpy(name: str) -> None:
    symbolic = {(0, 0): "t", (0, 1): "b", (5, 1): "b", (6, 1): "b"}
    for steps, batch in ((1, 1), (4, 3), (0, 2)):
        verify_operation(OPERATIONS[name], layer(name, steps=steps, batch=batch), symbolic=symbolic)


WIDE = {"rnn": 210, "gru": 121, "lstm": 107}
"""Hidden sizes of layers that stream their weights."""


@pytest.mark.parametrize("name", list(GATES))
@pytest.mark.parametrize("batch", [1, 3, 6])
def test_wide_layers_agree_with_numpy(name: str, batch: int) -> None:
    for steps in (1, 19):
        operands = layer(name, steps=steps, batch=batch, hidden=WIDE[name])
        verify_operation(OPERATIONS[name], operands, {"direction": "reverse"})


@pytest.mark.parametrize("name", list(GATES))
def test_wide_layers_with_lengths_and_symbolic_time_agree_with_numpy(name: str) -> None:
    lengths = np.array([11, 0, 40], np.int32)
    operands = layer(name, steps=12, batch=3, directions=2, hidden=WIDE[name], lengths=lengths)
    attributes = {"direction": "bidirectional", "linear_before_reset": name == "gru"}
    verify_operation(OPERATIONS[name], operands, attributes)
    operands = layer(name, steps=9, batch=2, hidden=WIDE[name], peepholes=True)
    verify_operation(OPERATIONS[name], operands, {}, symbolic={(0, 0): "t"}, target=AVX2)


@pytest.mark.parametrize("attributes", [{"linear_before_reset": True}, {"clip": 0.3}])
def test_gru_variants_agree_with_numpy(attributes: dict[str, Any]) -> None:
    for hidden in (21, 64):
        verify_operation(OPERATIONS["gru"], layer("gru", hidden=hidden), attributes)
        verify_operation(OPERATIONS["gru"], layer("gru", hidden=hidden), attributes, target=AVX2)


@pytest.mark.parametrize("attributes", [{}, {"input_forget": True}, {"clip": 0.3}])
def test_lstm_variants_with_peepholes_agree_with_numpy(attributes: dict[str, Any]) -> None:
    verify_operation(OPERATIONS["lstm"], layer("lstm", peepholes=True), attributes)
    verify_operation(OPERATIONS["lstm"], layer("lstm", peepholes=True), attributes, target=AVX2)


@pytest.mark.parametrize("name", list(GATES))
def test_layers_without_optional_operands_agree_with_numpy(name: str) -> None:
    verify_operation(OPERATIONS[name], layer(name)[:3])


@pytest.mark.parametrize("function", list(ACTIVATIONS))
def test_every_activation_agrees_with_numpy(function: str) -> None:
    attributes = {"activations": (function,), "alphas": (0.6,), "betas": (0.3,)}
    verify_operation(OPERATIONS["rnn"], layer("rnn"), attributes)


def test_row_alone_has_the_bits_of_the_row_in_a_batch() -> None:
    for name, hidden in ((n, h) for n in GATES for h in (21, WIDE[n])):
        operands = layer(name, batch=6, hidden=hidden)
        whole = run_native(OPERATIONS[name], operands)[0]
        for row in (0, 5):
            alone = [
                x[:, row : row + 1] if i in (0, 5, 6) and x is not None else x for i, x in enumerate(operands)
            ]
            np.testing.assert_array_equal(run_native(OPERATIONS[name], alone)[0][:, :, 0], whole[:, :, row])


def test_layers_that_do_not_fit_are_refused() -> None:
    operands = layer("gru")
    with pytest.raises(ShapeRefused):
        run_native(OPERATIONS["gru"], [operands[0], operands[2], operands[2]])
    with pytest.raises(ShapeRefused):
        run_native(OPERATIONS["gru"], operands, {"direction": "bidirectional"})
    with pytest.raises(AttributeRefused):
        run_native(OPERATIONS["gru"], operands, {"activations": ("sigmoid", "nonsense")})
    with pytest.raises(AttributeRefused):
        run_native(OPERATIONS["gru"], operands, {"activations": ("sigmoid", "affine")})
    with pytest.raises(DTypeRefused):
        run_native(OPERATIONS["gru"], [np.zeros((2, 2, 2), np.int32)] * 3)
