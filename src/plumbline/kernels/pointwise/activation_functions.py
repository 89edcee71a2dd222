"""Activation functions of networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import FunctionBuilder, Value
from plumbline.kernels.pointwise.conversion_functions import saturated
from plumbline.kernels.pointwise.definition import (
    Domain,
    Params,
    PointwiseFunction,
    binary,
    precision_of,
    unary,
)
from plumbline.kernels.pointwise.elementary_functions import reference_erf

__all__ = ["TABLE"]


def _relu(b: FunctionBuilder, x: Value) -> Value:
    return math.at_least(b, x, 0) if x.dtype.is_signed else x


def _gelu(b: FunctionBuilder, x: Value) -> Value:
    half = x * 0.5
    return b.fma(half, math.erf(b, x * 0.7071067811865476), half)


def _gelu_tanh(b: FunctionBuilder, x: Value) -> Value:
    """0.5 x (1 + tanh(y)) as x * sigmoid(2 y)."""
    inner = x * b.fma(x * x, 0.07135481627260025, b.const(x.dtype, 1.5957691216057308, x.lanes))
    return x * math.sigmoid(b, inner)


def _reference_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _swish(b: FunctionBuilder, x: Value, alpha: float) -> Value:
    scaled = x if alpha == 1.0 else x * alpha
    return x * math.sigmoid(b, scaled)


def _reference_swish(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.asarray(x * _reference_sigmoid(alpha * x))


def _mish(b: FunctionBuilder, x: Value) -> Value:
    """x * tanh(softplus(x)) = x * n / (n + 2) with n = e (e + 2), e = exp(min(x, 20))."""
    e = math.exp(b, math.at_most(b, x, 20.0))
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


def _reference_softplus(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp(x, 0.0))


def _elu(b: FunctionBuilder, x: Value, alpha: float, inner: float, outer: float) -> Value:
    """outer * (x > 0 ? x : alpha * expm1(x / inner))."""
    scaled = x if inner == 1.0 else x / inner
    below = alpha * math.expm1(b, math.at_most(b, scaled, 0.0))
    result = b.select(b.compare("gt", x, 0.0), x, below)
    return result if outer == 1.0 else outer * result


def _reference_elu(x: np.ndarray, alpha: float, inner: float, outer: float) -> np.ndarray:
    return np.asarray(outer * np.where(x > 0, x, alpha * np.expm1(np.minimum(x / inner, 0.0))))


def _ramp(b: FunctionBuilder, x: Value, alpha: float, beta: float) -> Value:
    """max(0, min(1, alpha x + beta))."""
    sloped = b.fma(x, b.const(x.dtype, alpha, x.lanes), b.const(x.dtype, beta, x.lanes))
    return math.at_most(b, math.at_least(b, sloped, 0.0), 1.0)


def _reference_ramp(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return np.asarray(np.minimum(np.maximum(alpha * x + beta, 0.0), 1.0))


def _leaky(b: FunctionBuilder, x: Value, slope: Value | float) -> Value:
    """Negative values times the slope."""
    return b.select(b.compare("lt", x, 0), x * slope, x)


def _shrink(b: FunctionBuilder, x: Value, lambd: float, bias: float) -> Value:
    """x + bias under -lambd, x - bias over lambd, else 0; integers are computed in float64 and truncated."""
    if not x.dtype.is_float:
        return b.cast(_shrink(b, b.cast(x, DType.FLOAT64), lambd, bias), x.dtype)
    zero = b.const(x.dtype, 0.0, x.lanes)
    upper = b.select(b.compare("gt", x, lambd), x - bias, zero)
    return b.select(b.compare("lt", x, -lambd), x + bias, upper)


def _parametric(
    name: str,
    emit: Callable[[FunctionBuilder, Value, Params], Value],
    reference: Callable[[np.ndarray, Params], np.ndarray],
    *,
    ulps: float = 0.0,
    cost: float = 1.0,
    keeps_zero: bool = True,
) -> PointwiseFunction:
    return PointwiseFunction(
        name=name, arity=1, domain=Domain.FLOAT, cost=cost, keeps_zero=keeps_zero,
        precision=precision_of(ulps), emit=lambda b, x, params: emit(b, x[0], params), reference=reference,
    )  # fmt: skip


def _alpha(params: Params, default: float = 1.0) -> float:
    return float(params.get("alpha", default))


def _hard_sigmoid_params(params: Params) -> tuple[float, float]:
    return float(params.get("alpha", 0.2)), float(params.get("beta", 0.5))


def _selu_params(params: Params) -> tuple[float, float, float]:
    alpha = float(params.get("alpha", 1.6732632423543772))
    return alpha, 1.0, float(params.get("gamma", 1.0507009873554805))


def _shrink_params(params: Params) -> tuple[float, float]:
    return float(params.get("lambd", 0.5)), float(params.get("bias", 0.0))


def _reference_shrink(x: np.ndarray, lambd: float, bias: float) -> np.ndarray:
    wide = x.astype(np.float64)
    result = np.where(wide < -lambd, wide + bias, np.where(wide > lambd, wide - bias, 0.0))
    return result if np.issubdtype(x.dtype, np.floating) else saturated(result, DType.of(x))


def _reference_gelu_tanh(x: np.ndarray) -> np.ndarray:
    inner = np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1.0 + np.tanh(inner)))


_SIXTH = 1.0 / 6.0

TABLE = (
    unary("relu", _relu, lambda x: np.maximum(x, 0), Domain.NUMBER, keeps_zero=True),
    unary("sigmoid", math.sigmoid, _reference_sigmoid, ulps=8, cost=18),
    unary("gelu", _gelu, lambda x: 0.5 * x * (1.0 + reference_erf(x / np.sqrt(2.0))),
          ulps=32, cost=34, keeps_zero=True),
    unary("gelu_tanh", _gelu_tanh, _reference_gelu_tanh, ulps=32, cost=24, keeps_zero=True),
    unary("mish", _mish, lambda x: x * np.tanh(_reference_softplus(x)), ulps=16, cost=24, keeps_zero=True),
    unary("softplus", math.softplus, _reference_softplus, ulps=16, cost=50),
    unary("softsign", lambda b, x: x / (b.absolute(x) + 1.0), lambda x: x / (1 + np.abs(x)), ulps=4, cost=5,
          keeps_zero=True),
    unary("hard_swish", lambda b, x: x * _ramp(b, x, _SIXTH, 0.5),
          lambda x: x * _reference_ramp(x, _SIXTH, 0.5),
          ulps=4, cost=5, keeps_zero=True),
    _parametric("hard_sigmoid", lambda b, x, p: _ramp(b, x, *_hard_sigmoid_params(p)),
                lambda x, p: _reference_ramp(x, *_hard_sigmoid_params(p)), ulps=4, cost=4, keeps_zero=False),
    _parametric("swish", lambda b, x, p: _swish(b, x, _alpha(p)), lambda x, p: _reference_swish(x, _alpha(p)),
                ulps=16, cost=20),
    _parametric("elu", lambda b, x, p: _elu(b, x, _alpha(p), 1.0, 1.0),
                lambda x, p: _reference_elu(x, _alpha(p), 1.0, 1.0), ulps=16, cost=20),
    _parametric("celu", lambda b, x, p: _elu(b, x, _alpha(p), _alpha(p), 1.0),
                lambda x, p: _reference_elu(x, _alpha(p), _alpha(p), 1.0), ulps=16, cost=22),
    _parametric("selu", lambda b, x, p: _elu(b, x, *_selu_params(p)),
                lambda x, p: _reference_elu(x, *_selu_params(p)), ulps=16, cost=20),
    _parametric("leaky_relu", lambda b, x, p: _leaky(b, x, _alpha(p, 0.01)),
                lambda x, p: np.where(x < 0, x * _alpha(p, 0.01), x), ulps=2, cost=2),
    _parametric("thresholded_relu", lambda b, x, p: b.select(b.compare("gt", x, _alpha(p)), x, 0.0),
                lambda x, p: np.where(x > np.float32(_alpha(p)), x, 0.0), cost=2),
    binary("prelu", lambda b, x, slope: _leaky(b, x, slope), lambda x, slope: np.where(x < 0, x * slope, x),
           ulps=2, cost=2),
    PointwiseFunction(
        name="shrink", arity=1, cost=3, precision=precision_of(2),
        emit=lambda b, x, params: _shrink(b, x[0], *_shrink_params(params)),
        reference=lambda x, params: _reference_shrink(x, *_shrink_params(params)),
    ),
    PointwiseFunction(
        name="swiglu", arity=2, domain=Domain.FLOAT, cost=22, precision=precision_of(32),
        emit=lambda b, x, params: _swish(b, x[0], _alpha(params)) * x[1],
        reference=lambda x, y, params: _reference_swish(x, _alpha(params)) * y,
    ),
)  # fmt: skip
