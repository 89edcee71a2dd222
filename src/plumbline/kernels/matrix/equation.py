"""Einsum equations: reading them, and how each operand walks along each label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plumbline.contracts.dims import Dim
from plumbline.contracts.tensors import Shape
from plumbline.kernels.contract import AttributeRefused, Inference

__all__ = ["Equation", "label_extents", "parse_equation"]

ELLIPSIS = "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation:
    """Labels of every operand and of the result, with ellipses spelled out as labels `.0`, `.1`, ... counted
    from the last broadcast axis."""

    operands: tuple[tuple[str, ...], ...]
    result: tuple[str, ...]

    @property
    def summed(self) -> tuple[str, ...]:
        """Labels that the result lacks, in order of first appearance."""
        seen = dict.fromkeys(label for operand in self.operands for label in operand)
        return tuple(label for label in seen if label not in self.result)


def parse_equation(text: str, ranks: tuple[int, ...]) -> Equation:
    """Read an equation for operands of these ranks.

    Raises:
        AttributeRefused: the text is not an einsum equation for these operands.
    """
    compact = text.replace(" ", "")
    left, arrow, right = compact.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise _refused(text, f"{len(terms)} terms for {len(ranks)} operands")
    operands = tuple(_labels(text, term, rank) for term, rank in zip(terms, ranks, strict=True))
    dots = sorted({d for o in operands for d in o if d.startswith(".")}, key=lambda d: -int(d[1:]))
    if arrow:
        result = _result(text, right, tuple(dots))
    else:
        letters = [letter for operand in operands for letter in operand if not letter.startswith(".")]
        result = (*dots, *sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    known = {label for operand in operands for label in operand}
    if len(set(result)) != len(result) or not set(result) <= known:
        raise _refused(text, "the result repeats a label or names an unknown one")
    return Equation(operands=operands, result=result)


def _labels(text: str, term: str, rank: int) -> tuple[str, ...]:
    before, dots, after = term.partition(ELLIPSIS)
    if not (before + after).isalpha() and before + after:
        raise _refused(text, f"term {term!r} is not letters and at most one ellipsis")
    hidden = rank - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise _refused(text, f"term {term!r} does not fit rank {rank}")
    return (*before, *(f".{i}" for i in reversed(range(hidden))), *after)


def _result(text: str, term: str, dots: tuple[str, ...]) -> tuple[str, ...]:
    before, ellipsis, after = term.partition(ELLIPSIS)
    if (before + after) and not (before + after).isalpha():
        raise _refused(text, f"result {term!r} is not letters and at most one ellipsis")
    return (*before, *(dots if ellipsis else ()), *after)


def _refused(text: str, reason: str) -> AttributeRefused:
    return AttributeRefused(operation="einsum", attribute="equation", value=text, reason=reason)


def label_extents(inference: Inference, equation: Equation, shapes: tuple[Shape, ...]) -> Mapping[str, Dim]:
    """The extent of every label; an axis of extent 1 stretches.

    Raises:
        ShapeRefused: two axes of one label differ and neither is 1.
    """
    extents: dict[str, Dim] = {}
    for labels, shape in zip(equation.operands, shapes, strict=True):
        for label, dim in zip(labels, shape, strict=True):
            known = extents.get(label, 1)
            inference.require(dim == 1 or known == 1 or dim == known, f"label {label!r} is {known} and {dim}")
            extents[label] = dim if known == 1 else known
    return extents
