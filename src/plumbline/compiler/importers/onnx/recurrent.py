"""Converters of recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.kernels.recurrent.geometry import CELLS

__all__: list[str] = []

_FUNCTIONS = {
    "relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid", "affine": "affine", "leakyrelu": "leaky_relu",
    "thresholdedrelu": "thresholded_relu", "scaledtanh": "scaled_tanh", "hardsigmoid": "hard_sigmoid",
    "elu": "elu", "softsign": "softsign", "softplus": "softplus",
}  # fmt: skip
"""Our names of ONNX activations, which are compared without case."""
_TAKE_ALPHA = frozenset({"affine", "leaky_relu", "thresholded_relu", "scaled_tanh", "hard_sigmoid", "elu"})
_TAKE_BETA = frozenset({"affine", "scaled_tanh", "hard_sigmoid"})


@converts("RNN", since=7)
def rnn(node: NodeView) -> Converted:
    """Plain layer."""
    return _layer(node, "rnn", {})


@converts("GRU", since=7)
def gru(node: NodeView) -> Converted:
    """Gated layer."""
    return _layer(node, "gru", {"linear_before_reset": node.int("linear_before_reset", 0) != 0})


@converts("LSTM", since=7)
def lstm(node: NodeView) -> Converted:
    """Long short-term memory."""
    return _layer(node, "lstm", {"input_forget": node.int("input_forget", 0) != 0})


def _layer(node: NodeView, operation: str, extra: dict[str, Any]) -> Converted:
    direction = node.string("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        node.refuse(f"direction {direction} is not known")
    attributes = {
        "direction": direction, "batch_first": node.int("layout", 0) != 0, "clip": node.float("clip", 0.0),
        **_activations(node, operation, 2 if direction == "bidirectional" else 1), **extra,
    }  # fmt: skip
    weights = [_transposed(node, position) for position in (1, 2)]
    optional = [node.optional(position) for position in range(3, 8 if operation == "lstm" else 6)]
    return node.add(operation, [node.input(0), *weights, *optional], attributes)


def _transposed(node: NodeView, position: int) -> TensorID:
    """Weights with the gates along the last axis."""
    if node.rank(position) != 3:
        node.refuse(f"input {position} has rank {node.rank(position)}, not 3")
    return node.add1("transpose", [node.input(position)], {"perm": (0, 2, 1)})


def _activations(node: NodeView, operation: str, directions: int) -> dict[str, Any]:
    """Names, and the parameters that ONNX lists for those functions only that take them."""
    if not node.has("activations"):
        return {"activations": CELLS[operation].activations * directions}
    names = []
    for name in node.strings("activations"):
        if name.lower() not in _FUNCTIONS:
            node.refuse(f"activation {name} is not known")
        names.append(_FUNCTIONS[name.lower()])
    alphas, betas = (iter(node.floats(f"activation_{kind}", ())) for kind in ("alpha", "beta"))
    return {
        "activations": tuple(names),
        "alphas": tuple(_next(alphas) if name in _TAKE_ALPHA else None for name in names),
        "betas": tuple(_next(betas) if name in _TAKE_BETA else None for name in names),
    }


def _next(numbers: Iterator[float]) -> float | None:
    return next(numbers, None)
