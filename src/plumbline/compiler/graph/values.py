"""Shape arithmetic: operators on small integer tensors whose entries are dimensions.

Values are object arrays whose entries are `Dim`. Only what shape computations use is here; anything else is
None and stays an operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from plumbline.contracts import dims
from plumbline.contracts.dims import Dim, Expr
from plumbline.contracts.tensors import DType, TensorType

__all__ = ["MAX_TRACKED_ELEMENTS", "evaluate_symbolically"]

MAX_TRACKED_ELEMENTS = 4096
Values = Sequence[np.ndarray]
Rule = Callable[[Values, Mapping[str, Any], tuple[TensorType, ...]], tuple[np.ndarray, ...] | None]


def evaluate_symbolically(
    operation: str,
    inputs: Sequence[np.ndarray | None],
    attributes: Mapping[str, Any],
    outputs: tuple[TensorType, ...],
) -> tuple[np.ndarray, ...] | None:
    """Results of an operator on known integers and dimensions, or None where they cannot be known.

    Args:
        operation: name of the operation.
        inputs: object arrays of `Dim`, None for absent operands.
        attributes: attributes of the operator.
        outputs: inferred result types; float results are not tracked.
    """
    rule = _RULES.get(operation)
    present = [x for x in inputs if x is not None]
    if rule is None or len(present) != len(inputs) or any(t.dtype.is_float for t in outputs):
        return None
    if not all(isinstance(t.elements, int) and t.elements <= MAX_TRACKED_ELEMENTS for t in outputs):
        return None
    results = rule(present, attributes, outputs)
    if results is None or not all(_fits(r, t.dtype) for r, t in zip(results, outputs, strict=True)):
        return None
    return tuple(_shaped(r, t) for r, t in zip(results, outputs, strict=True))


def _fits(values: np.ndarray, dtype: DType) -> bool:
    """Whether no known integer wraps around in its type; what wraps is left to native arithmetic."""
    if dtype is DType.BOOL:
        return True
    limits = np.iinfo(dtype.numpy)
    known = np.asarray(values, dtype=object).ravel()
    return all(limits.min <= v <= limits.max for v in known if isinstance(v, int))


def _shaped(values: np.ndarray, type_: TensorType) -> np.ndarray:
    shape = tuple(d for d in type_.shape if isinstance(d, int))
    array = np.empty(shape, dtype=object)
    array[...] = np.asarray(values, dtype=object).reshape(shape)
    return array


def _elementwise(function: Callable[..., Dim | bool | None]) -> Rule:
    def rule(
        inputs: Values, attributes: Mapping[str, Any], outputs: tuple[TensorType, ...]
    ) -> tuple[np.ndarray, ...] | None:
        result = np.frompyfunc(function, len(inputs), 1)(*inputs)
        array = np.asarray(result, dtype=object)
        return None if any(v is None for v in array.ravel()) else (array,)

    return rule


def _divide(a: Dim, b: Dim) -> Dim | None:
    """Division that truncates; known to equal floor division only for operands that cannot be negative."""
    if isinstance(b, int) and b == 0:
        return None
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    return dims.floordiv(a, b) if _is_non_negative(a) and _is_non_negative(b) else None


def _is_non_negative(dim: Dim) -> bool:
    if isinstance(dim, int):
        return dim >= 0
    return all(coefficient > 0 for _, coefficient in dim.terms)


def _compare(relation: str) -> Callable[[Dim, Dim], bool | None]:
    tests: Mapping[str, Callable[[int], bool]] = {
        "equal": lambda d: d == 0, "less": lambda d: d < 0, "less_or_equal": lambda d: d <= 0,
        "greater": lambda d: d > 0, "greater_or_equal": lambda d: d >= 0,
    }  # fmt: skip

    def compare(a: Dim, b: Dim) -> bool | None:
        difference = dims.sub(int(a) if isinstance(a, bool) else a, int(b) if isinstance(b, bool) else b)
        if isinstance(difference, int):
            return tests[relation](difference)
        if relation == "equal" and _is_strictly_positive(difference):
            return False
        return None

    return compare


def _is_strictly_positive(dim: Expr) -> bool:
    """Certain for every value of the symbols: all terms non-negative and a positive constant."""
    return _is_non_negative(dim) and dict(dim.terms).get((), 0) > 0


def _equal(a: Dim, b: Dim) -> bool | None:
    """Equality; a dimension never equals a negative number (the -1 of Reshape and Expand)."""
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Expr) and isinstance(y, int) and y < 0 and _is_non_negative(x):
            return False
    return _compare("equal")(a, b)


def _where(condition: Dim, a: Dim, b: Dim) -> Dim | None:
    return None if isinstance(condition, Expr) else (a if condition else b)


def _cast(inputs: Values, attributes: Mapping[str, Any], outputs: tuple[TensorType, ...]) -> Any:
    if outputs[0].dtype is DType.BOOL:
        if any(isinstance(v, Expr) for v in inputs[0].ravel()):
            return None
        return (np.array([bool(v) for v in inputs[0].ravel()], dtype=object),)
    return (np.array([int(v) if isinstance(v, bool) else v for v in inputs[0].ravel()], dtype=object),)


def _same(inputs: Values, attributes: Mapping[str, Any], outputs: tuple[TensorType, ...]) -> Any:
    return (inputs[0],)


def _gather(inputs: Values, attributes: Mapping[str, Any], outputs: tuple[TensorType, ...]) -> Any:
    data, indices = inputs
    if any(isinstance(i, Expr) for i in indices.ravel()):
        return None
    positions = indices.astype(np.int64)
    extent = data.shape[attributes.get("axis", 0)]
    if ((positions < -extent) | (positions >= extent)).any():
        return None
    return (np.take(data, positions, axis=attributes.get("axis", 0)),)


def _concat(inputs: Values, attributes: Mapping[str, Any], outputs: tuple[TensorType, ...]) -> Any:
    return (np.concatenate(inputs, axis=attributes["axis"]),)


def _slice(inputs: Values, attributes: Mapping[str, Any], outputs: tuple[TensorType, ...]) -> Any:
    bounds = [attributes[k] for k in ("starts", "sizes", "steps")]
    if any(isinstance(v, Expr) for b in bounds for v in b):
        return None
    chosen = inputs[0]
    for axis, (start, size, step) in enumerate(zip(*bounds, strict=True)):
        chosen = np.take(chosen, start + step * np.arange(size), axis=axis)
    return (chosen,)


def _split(inputs: Values, attributes: Mapping[str, Any], outputs: tuple[TensorType, ...]) -> Any:
    if any(isinstance(v, Expr) for v in attributes["sizes"]):
        return None
    return tuple(np.split(inputs[0], np.cumsum(attributes["sizes"])[:-1], axis=attributes["axis"]))


def _transpose(inputs: Values, attributes: Mapping[str, Any], outputs: tuple[TensorType, ...]) -> Any:
    return (np.transpose(inputs[0], attributes["perm"]),)


def _reduce(function: Callable[[Dim, Dim], Dim], initial: Dim) -> Rule:
    def rule(
        inputs: Values, attributes: Mapping[str, Any], outputs: tuple[TensorType, ...]
    ) -> tuple[np.ndarray, ...] | None:
        axes = attributes.get("axes")
        rank = inputs[0].ndim
        if axes is not None and {a % max(rank, 1) for a in axes} != set(range(rank)):
            return None
        return (np.array([reduce(function, inputs[0].ravel(), initial)], dtype=object),)

    return rule


def _expand(inputs: Values, attributes: Mapping[str, Any], outputs: tuple[TensorType, ...]) -> Any:
    shape = tuple(d for d in outputs[0].shape if isinstance(d, int))
    return (np.broadcast_to(inputs[0], shape),)


_RULES: Mapping[str, Rule] = {
    "identity": _same,
    "reshape": _same,
    "cast": _cast,
    "add": _elementwise(dims.add),
    "sub": _elementwise(dims.sub),
    "mul": _elementwise(dims.mul),
    "div": _elementwise(_divide),
    "neg": _elementwise(lambda a: dims.mul(a, -1)),
    "minimum": _elementwise(dims.minimum),
    "maximum": _elementwise(dims.maximum),
    "equal": _elementwise(_equal),
    **{
        name: _elementwise(_compare(name))
        for name in ("less", "less_or_equal", "greater", "greater_or_equal")
    },
    "where": _elementwise(_where),
    "gather": _gather,
    "concat": _concat,
    "slice": _slice,
    "split": _split,
    "transpose": _transpose,
    "reduce_prod": _reduce(dims.mul, 1),
    "reduce_sum": _reduce(dims.add, 0),
    "expand": _expand,
}
