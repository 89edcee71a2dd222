"""Resolving ONNX slice bounds to starts and sizes inside the tensor, with symbolic extents."""

from __future__ import annotations

from collections.abc import Mapping

from plumbline.contracts.dims import Dim, SymbolicValueError, add, bounds, floordiv, maximum, minimum, sub

__all__ = ["count_steps", "resolve_slice"]


def resolve_slice(extent: Dim, start: Dim, end: Dim, step: int, limits: Mapping[str, int]) -> tuple[Dim, Dim]:
    """First element and number of elements of `x[start:end:step]` along an axis.

    Negative bounds count from the end and out-of-range bounds are clamped, as ONNX Slice says. Where the
    declared bounds of the symbols decide a clamp, it disappears: `x[:, :sequence]` has extent `sequence`.

    Args:
        extent: elements of the axis.
        start: first bound; a symbolic bound is taken as counted from the front.
        end: second bound, exclusive.
        step: not 0.
        limits: declared upper bounds of the symbols.

    Returns:
        (start, size), with `start` meaningful only where `size` is not 0.
    """
    low: Dim = 0 if step > 0 else -1
    high: Dim = extent if step > 0 else sub(extent, 1)
    first = _clamp(_from_front(start, extent), low, high, limits)
    last = _clamp(_from_front(end, extent), low, high, limits)
    return first, count_steps(first, last, step, limits)


def count_steps(first: Dim, last: Dim, step: int, limits: Mapping[str, int]) -> Dim:
    """Number of elements from `first` to before `last` by `step` (not 0); 0 where `last` lies behind."""
    span = sub(last, first) if step > 0 else sub(first, last)
    stride = abs(step)
    return _larger(floordiv(add(span, stride - 1), stride), 0, limits)


def _from_front(bound: Dim, extent: Dim) -> Dim:
    return add(bound, extent) if isinstance(bound, int) and bound < 0 else bound


def _clamp(bound: Dim, low: Dim, high: Dim, limits: Mapping[str, int]) -> Dim:
    return _smaller(_larger(bound, low, limits), high, limits)


def _larger(a: Dim, b: Dim, limits: Mapping[str, int]) -> Dim:
    low, high = _difference(a, b, limits)
    return a if low is not None and low >= 0 else b if high is not None and high <= 0 else maximum(a, b)


def _smaller(a: Dim, b: Dim, limits: Mapping[str, int]) -> Dim:
    low, high = _difference(a, b, limits)
    return a if high is not None and high <= 0 else b if low is not None and low >= 0 else minimum(a, b)


def _difference(a: Dim, b: Dim, limits: Mapping[str, int]) -> tuple[int | None, int | None]:
    try:
        return bounds(sub(a, b), limits)
    except SymbolicValueError:
        return None, None
