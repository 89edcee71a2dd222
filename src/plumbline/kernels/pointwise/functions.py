"""The table of pointwise functions: how each is emitted and what numpy computes for it.

A `PointwiseFunction` is scalar mathematics only. Broadcasting, loops, half-width types and fusion belong to
the kernel. `emit` sees operands in compute type (float16 and bfloat16 arrive as float32).
"""

from __future__ import annotations

from collections.abc import Mapping

from plumbline.kernels.pointwise import (
    activation_functions,
    arithmetic_functions,
    conversion_functions,
    elementary_functions,
    logic_functions,
)
from plumbline.kernels.pointwise.definition import Domain, PointwiseFunction, Result

__all__ = ["FUNCTIONS", "Domain", "PointwiseFunction", "Result"]

_TABLE = (
    *arithmetic_functions.TABLE,
    *elementary_functions.TABLE,
    *activation_functions.TABLE,
    *logic_functions.TABLE,
    *conversion_functions.TABLE,
)

FUNCTIONS: Mapping[str, PointwiseFunction] = {f.name: f for f in _TABLE}
