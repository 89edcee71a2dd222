"""Converters by domain, operator and opset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from plumbline.compiler.graph.graph import TensorID

if TYPE_CHECKING:
    from plumbline.compiler.importers.onnx.node import NodeView

__all__ = [
    "FAMILIES",
    "Converted",
    "Converter",
    "converted_operators",
    "converts",
    "find_converter",
    "registered_converters",
]

Converted = TensorID | Sequence[TensorID | None]
Converter = Callable[["NodeView"], Converted]

FAMILIES: tuple[str, ...] = (
    "structure",
    "data_dependent",
    "pointwise",
    "reduction",
    "normalization",
    "quantization",
    "movement",
    "generation",
    "indexing",
    "sampling",
    "matrix",
    "convolution",
    "pooling",
    "recurrent",
    "attention",
    "signal",
    "training",
    "trees",
)
"""Modules of this package that register converters when imported."""

_converters: dict[tuple[str, str], list[tuple[int, Converter]]] = {}
_loaded: list[str] = []


def converts(operator: str, *, since: int = 1, domain: str = "") -> Callable[[Converter], Converter]:
    """Register a converter for an operator from opset `since` on."""

    def register(function: Converter) -> Converter:
        versions = _converters.setdefault((domain, operator), [])
        versions.append((since, function))
        versions.sort(key=lambda item: item[0], reverse=True)
        return function

    return register


def find_converter(domain: str, operator: str, opset: int) -> Converter | None:
    """The newest converter that covers an opset, or None."""
    _load_families()
    versions = _converters.get((domain, operator), ())
    return next((function for since, function in versions if since <= opset), None)


def converted_operators() -> tuple[tuple[str, str, int], ...]:
    """(domain, operator, since) of every converter, sorted."""
    _load_families()
    return tuple(sorted((d, o, s) for (d, o), versions in _converters.items() for s, _ in versions))


def registered_converters() -> tuple[Converter, ...]:
    """What is registered so far; loads no family."""
    return tuple(function for versions in _converters.values() for _, function in versions)


def _load_families() -> None:
    if _loaded:
        return
    _loaded.append("done")
    for family in FAMILIES:
        import_module(f"plumbline.compiler.importers.onnx.{family}")
