"""What a pointwise function is, and short ways to write one down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from plumbline.kernels.contract import EXACT, Precision
from plumbline.kernels.emit.ir import FunctionBuilder, Value

__all__ = ["Domain", "Params", "PointwiseFunction", "Result", "binary", "precision_of", "unary"]

Params = Mapping[str, Any]


class Domain(StrEnum):
    """Element types that a function accepts."""

    FLOAT = "float"
    NUMBER = "number"
    INTEGER = "integer"
    BOOL = "bool"
    BITS = "bits"
    """integers and bool"""
    ANY = "any"


class Result(StrEnum):
    """Element type of the result."""

    SAME = "same"
    BOOL = "bool"
    PARAMETER = "parameter"
    """attribute `to`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointwiseFunction:
    """One function of one to three operands of one element type (a selector may come first)."""

    name: str
    arity: int
    emit: Callable[[FunctionBuilder, tuple[Value, ...], Params], Value]
    reference: Callable[..., np.ndarray]
    domain: Domain = Domain.NUMBER
    result: Result = Result.SAME
    precision: Precision = EXACT
    cost: float = 1.0
    selector: bool = False
    """operand 0 is a bool that chooses between the others"""
    keeps_zero: bool = False
    """f(0) = 0, so zero padding stays zero"""
    raw: bool = False
    """operands come in the element type of memory, half-width floats too"""
    wide_reference: bool = True
    """the reference computes floats in float64; else in the element type"""


def precision_of(ulps: float) -> Precision:
    """Distance in units in the last place of float32; 0 means bit-exact."""
    return Precision(relative=ulps * 2.0**-23, absolute=ulps * 2.0**-24 if ulps else 0.0)


def unary(
    name: str,
    emit: Callable[[FunctionBuilder, Value], Value],
    reference: Callable[[np.ndarray], np.ndarray],
    domain: Domain = Domain.FLOAT,
    *,
    ulps: float = 0.0,
    cost: float = 1.0,
    keeps_zero: bool = False,
    result: Result = Result.SAME,
    raw: bool = False,
) -> PointwiseFunction:
    """A function of one operand without parameters."""
    return PointwiseFunction(
        name=name, arity=1, domain=domain, cost=cost, keeps_zero=keeps_zero, result=result, raw=raw,
        precision=precision_of(ulps),
        emit=lambda b, x, params: emit(b, x[0]), reference=lambda x, params: reference(x),
    )  # fmt: skip


def binary(
    name: str,
    emit: Callable[[FunctionBuilder, Value, Value], Value],
    reference: Callable[[np.ndarray, np.ndarray], np.ndarray],
    domain: Domain = Domain.NUMBER,
    *,
    result: Result = Result.SAME,
    ulps: float = 0.0,
    cost: float = 1.0,
) -> PointwiseFunction:
    """A function of two operands without parameters."""
    return PointwiseFunction(
        name=name, arity=2, domain=domain, result=result, cost=cost, precision=precision_of(ulps),
        emit=lambda b, x, params: emit(b, x[0], x[1]), reference=lambda x, y, params: reference(x, y),
    )  # fmt: skip
