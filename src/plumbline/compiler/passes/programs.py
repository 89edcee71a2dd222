"""Pointwise programs on nodes: which operators carry one, and how two are joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plumbline.compiler.graph.graph import OperatorNode, TensorID
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.kernels.pointwise.compose import StoredInstruction, compose_programs, stored_program
from plumbline.kernels.pointwise.functions import FUNCTIONS

__all__ = ["EPILOGUE_OPERANDS", "is_map", "join_map", "map_program"]

EPILOGUE_OPERANDS: Mapping[str, int] = {
    "packed_gemm": 2, "conv_blocked": 2, "conv_grouped_blocked": 3, "depthwise_blocked": 2, "pool_blocked": 1,
}  # fmt: skip
"""Structured operators with an `epilogue`, and how many operands come before those of the epilogue."""


def is_map(node: OperatorNode) -> bool:
    """Whether a node is a pointwise program over its operands."""
    return node.operation in FUNCTIONS or node.operation in ("fused_map", "map_blocked")


def map_program(node: OperatorNode) -> tuple[StoredInstruction, ...]:
    """The program of a pointwise node."""
    if node.operation == "map_blocked":
        return tuple(node.attributes["program"])
    return stored_program(node.operation, node.attributes, len(node.inputs))


def join_map(
    editor: GraphEditor,
    before: tuple[StoredInstruction, ...],
    operands: tuple[TensorID | None, ...],
    after: OperatorNode,
    through: TensorID,
) -> tuple[tuple[StoredInstruction, ...], tuple[TensorID | None, ...]] | None:
    """Program and operands of `before` followed by `after`, joined at tensor `through`.

    Returns None where `after` reads `through` more than once through different operands.
    """
    positions = [i for i, t in enumerate(after.inputs) if t == through]
    if len(positions) != 1:
        return None
    position = positions[0]
    program = compose_programs(before, len(operands), map_program(after), len(after.inputs), position)
    rest = tuple(t for i, t in enumerate(after.inputs) if i != position)
    return _deduplicate(program, (*operands, *rest), keep=len(operands))


def _deduplicate(
    program: tuple[StoredInstruction, ...], operands: tuple[TensorID | None, ...], keep: int
) -> tuple[tuple[StoredInstruction, ...], tuple[TensorID | None, ...]]:
    """Read an operand once even if two programs name it; the first `keep` stay in place."""
    places: dict[Any, int] = {}
    renumber: list[int] = []
    kept: list[TensorID | None] = []
    for position, tensor in enumerate(operands):
        if position >= keep and tensor in places:
            renumber.append(places[tensor])
            continue
        places.setdefault(tensor, len(kept))
        renumber.append(len(kept))
        kept.append(tensor)
    dropped = len(operands) - len(kept)
    if not dropped:
        return program, operands

    def register(number: int) -> int:
        return renumber[number] if number < len(operands) else number - dropped

    changed = tuple((n, tuple(register(a) for a in arguments), p) for n, arguments, p in program)
    return changed, tuple(kept)
