"""Elementary functions of floats: powers, exponentials, logarithms, circular and hyperbolic functions."""

from __future__ import annotations

import math as scalar

import numpy as np

from plumbline.kernels.emit import math, trigonometry
from plumbline.kernels.pointwise.definition import unary

__all__ = ["TABLE", "reference_erf"]


def reference_erf(x: np.ndarray) -> np.ndarray:
    """The error function in float64."""
    return np.asarray(np.vectorize(scalar.erf, otypes=[np.float64])(x))


TABLE = (
    unary("sqrt", lambda b, x: b.sqrt(x), np.sqrt, ulps=1, cost=4, keeps_zero=True),
    unary("exp", math.exp, np.exp, ulps=4, cost=14),
    unary("log", math.log, np.log, ulps=4, cost=20),
    unary("erf", math.erf, reference_erf, ulps=16, cost=30, keeps_zero=True),
    unary("sin", trigonometry.sin, np.sin, ulps=4, cost=20, keeps_zero=True),
    unary("cos", trigonometry.cos, np.cos, ulps=4, cost=20),
    unary("tan", trigonometry.tan, np.tan, ulps=8, cost=24, keeps_zero=True),
    unary("asin", trigonometry.asin, np.arcsin, ulps=4, cost=20, keeps_zero=True),
    unary("acos", trigonometry.acos, np.arccos, ulps=4, cost=30),
    unary("atan", trigonometry.atan, np.arctan, ulps=4, cost=20, keeps_zero=True),
    unary("sinh", trigonometry.sinh, np.sinh, ulps=8, cost=40, keeps_zero=True),
    unary("cosh", trigonometry.cosh, np.cosh, ulps=8, cost=40),
    unary("tanh", math.tanh, np.tanh, ulps=8, cost=26, keeps_zero=True),
    unary("asinh", trigonometry.asinh, np.arcsinh, ulps=8, cost=50, keeps_zero=True),
    unary("acosh", trigonometry.acosh, np.arccosh, ulps=8, cost=50),
    unary("atanh", trigonometry.atanh, np.arctanh, ulps=8, cost=30, keeps_zero=True),
)
