"""Addresses of constants: one read-only space, equal constants stored once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plumbline.compiler.graph.constant import Constant
from plumbline.compiler.graph.graph import ExecutionGraph, TensorID
from plumbline.compiler.planning.lifetimes import align_up
from plumbline.contracts.tensors import Packed, TensorType, storage_bytes

__all__ = ["WeightsPlan", "constant_bytes", "plan_weights"]

TAIL_BYTES = 4096
"""Readable bytes after the last constant, so that prefetch and whole-vector reads stay inside the mapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsPlan:
    """Offsets of constants in the weights space, and what must be written where."""

    offsets: Mapping[TensorID, int]
    stored: tuple[tuple[int, TensorID], ...]
    size_bytes: int


def constant_bytes(constant: Constant, type_: TensorType) -> int:
    """Size of a constant in the weights space, known without reading it."""
    if isinstance(type_.layout, Packed):
        size = getattr(constant, "size_bytes", None)
        if not isinstance(size, int):
            raise TypeError("a packed constant must know its size")
        return size
    size = storage_bytes(type_)
    if not isinstance(size, int):
        raise TypeError("a constant has a static shape")
    return max(size, 1)


def plan_weights(graph: ExecutionGraph) -> WeightsPlan:
    """Place every constant once, in the order in which the steps read them."""
    order: dict[TensorID, None] = {}
    for node in graph.nodes:
        order.update(dict.fromkeys(t for t in node.inputs if t is not None and t in graph.constants))
    order.update(dict.fromkeys(t for t in graph.constants))
    offsets: dict[TensorID, int] = {}
    places: dict[tuple[str, str], int] = {}
    stored: list[tuple[int, TensorID]] = []
    total = 0
    for tensor in order:
        key = (graph.constants[tensor].identity, str(graph.type_of(tensor)))
        if key not in places:
            places[key] = total
            stored.append((total, tensor))
            total += align_up(constant_bytes(graph.constants[tensor], graph.type_of(tensor)))
        offsets[tensor] = places[key]
    return WeightsPlan(offsets=offsets, stored=tuple(stored), size_bytes=total + (TAIL_BYTES if total else 0))
