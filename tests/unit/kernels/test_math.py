"""Accuracy of emitted float32 functions in units in the last place, over dense sweeps of their domains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from plumbline.kernels.pointwise.elementary_functions import reference_erf
from plumbline.kernels.registry import get_operation
from plumbline.testing.kernels import run_native

Oracle = Callable[[np.ndarray], np.ndarray]
COUNT = 200_001


def every_magnitude(low: float, high: float) -> np.ndarray:
    """Float32 numbers spread evenly over the bit patterns between two positive numbers."""
    first, last = (int(np.float32(v).view(np.uint32)) for v in (low, high))
    return np.linspace(first, last, COUNT).astype(np.uint32).view(np.float32)


def signed(values: np.ndarray) -> np.ndarray:
    return np.concatenate([-values[::-1], values])


def linear(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, COUNT).astype(np.float32)


def units_off(ours: np.ndarray, exact: np.ndarray) -> float:
    """Largest distance from the float64 result in spacings of float32 there."""
    spacing = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return float(np.max(np.abs(ours.astype(np.float64) - exact) / spacing))


CASES: list[tuple[str, Oracle, np.ndarray, float]] = [
    ("exp", np.exp, linear(-87.0, 88.7), 2.0),
    ("exp", np.exp, signed(every_magnitude(1e-30, 1.0)), 2.0),
    ("log", np.log, every_magnitude(1e-44, 3e38), 2.0),
    ("tanh", np.tanh, signed(every_magnitude(1e-30, 20.0)), 4.0),
    ("sigmoid", lambda x: 1.0 / (1.0 + np.exp(-x)), linear(-80.0, 80.0), 4.0),
    ("sin", np.sin, signed(every_magnitude(1e-30, 3e38)), 2.0),
    ("cos", np.cos, signed(every_magnitude(1e-30, 3e38)), 2.0),
    ("tan", np.tan, linear(-1000.0, 1000.0), 4.0),
    ("asin", np.arcsin, signed(every_magnitude(1e-30, 1.0)), 3.0),
    ("acos", np.arccos, linear(-1.0, 1.0), 3.0),
    ("atan", np.arctan, signed(every_magnitude(1e-30, 1e30)), 3.0),
    ("sinh", np.sinh, signed(every_magnitude(1e-30, 89.0)), 6.0),
    ("cosh", np.cosh, linear(-89.0, 89.0), 6.0),
    ("asinh", np.arcsinh, signed(every_magnitude(1e-30, 3e38)), 4.0),
    ("acosh", np.arccosh, every_magnitude(1.0, 3e38), 4.0),
    ("atanh", np.arctanh, signed(every_magnitude(1e-30, 0.9999999)), 4.0),
    ("softplus", lambda x: np.logaddexp(x, 0.0), linear(-60.0, 90.0), 4.0),
    ("mish", lambda x: x * np.tanh(np.logaddexp(x, 0.0)), linear(-30.0, 30.0), 8.0),
    ("erf", reference_erf, signed(every_magnitude(1e-30, 6.0)), 6.0),
    ("sqrt", np.sqrt, every_magnitude(1e-44, 3e38), 0.5),
]


@pytest.mark.parametrize(
    ("name", "oracle", "x", "limit"), CASES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_function_stays_within_its_units_in_the_last_place(
    name: str, oracle: Oracle, x: np.ndarray, limit: float
) -> None:
    """Relative accuracy everywhere, also where results are tiny (requirement L1-02)."""
    (ours,) = run_native(get_operation(name), [x])
    with np.errstate(all="ignore"):
        assert units_off(ours, oracle(x.astype(np.float64))) <= limit


def test_exp_at_the_limits_of_the_format() -> None:
    x = np.array([88.72, 88.73, 1e30, np.inf, -87.4, -103.0, -104.1, -1e30, -np.inf, np.nan], np.float32)
    (ours,) = run_native(get_operation("exp"), [x])
    with np.errstate(all="ignore"):
        exact = np.exp(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(np.isinf(ours), np.isinf(exact))
    np.testing.assert_allclose(ours, exact, rtol=1e-6, atol=3e-45)
