"""Activation functions of recurrent cells, by the names that ONNX gives them in snake case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from plumbline.kernels.contract import AttributeRefused
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import FunctionBuilder, Value

__all__ = ["ACTIVATIONS", "Activation", "ActivationFunction", "find_activation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationFunction:
    """A function with up to two parameters: native code and numpy twin."""

    emit: Callable[[FunctionBuilder, Value, float, float], Value]
    reference: Callable[[np.ndarray, float, float], np.ndarray]
    alpha: float | None = 0.0
    beta: float | None = 0.0
    """default parameters; None means that the model must give one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A function with its parameters fixed and the clip of its argument (0: none)."""

    function: ActivationFunction
    alpha: float
    beta: float
    clip: float

    def emit(self, b: FunctionBuilder, x: Value) -> Value:
        """Native code for a scalar or vector."""
        if self.clip > 0.0:
            x = b.minimum(b.maximum(x, -self.clip), self.clip)
        return self.function.emit(b, x, self.alpha, self.beta)

    def reference(self, x: np.ndarray) -> np.ndarray:
        """Numpy twin."""
        if self.clip > 0.0:
            x = x.clip(-self.clip, self.clip)
        with np.errstate(all="ignore"):
            return self.function.reference(x, self.alpha, self.beta)


def _zero(b: FunctionBuilder, x: Value) -> Value:
    return b.const(x.dtype, 0.0, x.lanes)


def _hard_sigmoid(b: FunctionBuilder, x: Value, alpha: float, beta: float) -> Value:
    return b.minimum(b.maximum(x * alpha + beta, 0.0), 1.0)


def _elu(b: FunctionBuilder, x: Value, alpha: float, beta: float) -> Value:
    return b.select(x < 0.0, (math.exp(b, x) - 1.0) * alpha, x)


def _softplus(b: FunctionBuilder, x: Value, alpha: float, beta: float) -> Value:
    magnitude = b.absolute(x)
    return b.maximum(x, 0.0) + math.log(b, math.exp(b, b.neg(magnitude)) + 1.0)


ACTIVATIONS: Mapping[str, ActivationFunction] = {
    "relu": ActivationFunction(
        emit=lambda b, x, alpha, beta: b.maximum(x, 0.0), reference=lambda x, alpha, beta: np.maximum(x, 0.0)
    ),
    "tanh": ActivationFunction(
        emit=lambda b, x, alpha, beta: math.tanh(b, x), reference=lambda x, alpha, beta: np.tanh(x)
    ),
    "sigmoid": ActivationFunction(
        emit=lambda b, x, alpha, beta: math.sigmoid(b, x),
        reference=lambda x, alpha, beta: 1.0 / (1.0 + np.exp(-x)),
    ),
    "affine": ActivationFunction(
        emit=lambda b, x, alpha, beta: x * alpha + beta, reference=lambda x, alpha, beta: alpha * x + beta,
        alpha=None, beta=None,
    ),
    "leaky_relu": ActivationFunction(
        emit=lambda b, x, alpha, beta: b.select(x < 0.0, x * alpha, x),
        reference=lambda x, alpha, beta: np.where(x < 0, alpha * x, x), alpha=0.01,
    ),
    "thresholded_relu": ActivationFunction(
        emit=lambda b, x, alpha, beta: b.select(x > alpha, x, _zero(b, x)),
        reference=lambda x, alpha, beta: np.where(x > alpha, x, 0.0), alpha=1.0,
    ),
    "scaled_tanh": ActivationFunction(
        emit=lambda b, x, alpha, beta: math.tanh(b, x * beta) * alpha,
        reference=lambda x, alpha, beta: alpha * np.tanh(beta * x), alpha=None, beta=None,
    ),
    "hard_sigmoid": ActivationFunction(
        emit=_hard_sigmoid, reference=lambda x, alpha, beta: (alpha * x + beta).clip(0.0, 1.0),
        alpha=0.2, beta=0.5,
    ),
    "elu": ActivationFunction(
        emit=_elu, reference=lambda x, alpha, beta: np.where(x < 0, alpha * np.expm1(x), x), alpha=1.0
    ),
    "softsign": ActivationFunction(
        emit=lambda b, x, alpha, beta: x / (b.absolute(x) + 1.0),
        reference=lambda x, alpha, beta: x / (1.0 + np.abs(x)),
    ),
    "softplus": ActivationFunction(
        emit=_softplus, reference=lambda x, alpha, beta: np.logaddexp(x, 0.0)
    ),
}  # fmt: skip
"""Every activation that ONNX allows in RNN, GRU and LSTM."""


def find_activation(
    operation: str, name: str, alpha: float | None, beta: float | None, clip: float
) -> Activation:
    """The activation of a name.

    Raises:
        AttributeRefused: no such function, or a parameter without default is missing.
    """
    function = ACTIVATIONS.get(name)
    if function is None:
        known = ", ".join(ACTIVATIONS)
        raise AttributeRefused(
            operation=operation, attribute="activations", value=name, reason=f"one of {known}"
        )
    first = function.alpha if alpha is None else alpha
    second = function.beta if beta is None else beta
    if first is None or second is None:
        raise AttributeRefused(
            operation=operation, attribute="activations", value=name, reason="needs alpha and beta"
        )
    return Activation(function=function, alpha=float(first), beta=float(second), clip=clip)
