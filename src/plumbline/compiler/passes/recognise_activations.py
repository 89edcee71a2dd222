"""Recognise activations that models spell out, inside pointwise programs.

`x * 0.5 * (1 + erf(x / sqrt(2)))`, in any order of the factors, is one `gelu`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose, sqrt

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.programs import map_program
from plumbline.compiler.passes.report import PassReport
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.pointwise.compose import StoredInstruction

__all__ = ["prune_program", "recognise_activations"]


def recognise_activations(
    graph: ExecutionGraph, target: TargetDescription, report: PassReport
) -> ExecutionGraph:
    """See the module docstring."""
    editor = GraphEditor(graph)
    for node in graph.nodes:
        if node.operation in ("fused_map", "map_blocked"):
            _rewrite(editor, node, report)
    return editor.finish()


def _rewrite(editor: GraphEditor, node: OperatorNode, report: PassReport) -> None:
    program = map_program(node)
    scalars = {i: v for i, t in enumerate(node.inputs) if (v := editor.find_scalar(t)) is not None}
    found = _with_gelu(program, len(node.inputs), scalars)
    if found is None:
        return
    pruned, kept = prune_program(found, len(node.inputs))
    result = node.outputs[0]
    layout = editor.type_of(result).layout
    editor.remove(node)
    editor.add_node(
        node.operation, [node.inputs[i] for i in kept], {"program": pruned}, name=node.name, outputs=[result],
        layouts=[layout], sources=node.sources,
    )  # fmt: skip
    report.note("recognise_activations", "fused", node.name, "a spelled-out gelu")


def _with_gelu(
    program: Sequence[StoredInstruction], operands: int, scalars: Mapping[int, float]
) -> tuple[StoredInstruction, ...] | None:
    """The program with one gelu in place of its pattern, or None."""
    match = _Matcher(program, operands, scalars)
    for position, (name, _, _) in enumerate(program):
        if name != "erf":
            continue
        found = match.gelu(operands + position)
        if found is not None:
            source, end = found
            changed = list(program)
            changed[end - operands] = ("gelu", (source,), ())
            return tuple(changed)
    return None


class _Matcher:
    """Looks for patterns among numbered registers."""

    def __init__(
        self, program: Sequence[StoredInstruction], operands: int, scalars: Mapping[int, float]
    ) -> None:
        self._program, self._operands, self._scalars = program, operands, scalars

    def _instruction(self, register: int) -> StoredInstruction | None:
        return self._program[register - self._operands] if register >= self._operands else None

    def _scaled(self, register: int) -> tuple[int, float] | None:
        """(source, factor) where a register is another one times a number."""
        instruction = self._instruction(register)
        if instruction is None or instruction[0] not in ("mul", "div"):
            return None
        name, (a, b), _ = instruction[0], instruction[1][:2], instruction[2]
        if b in self._scalars and self._scalars[b] != 0.0:
            return a, self._scalars[b] if name == "mul" else 1.0 / self._scalars[b]
        if a in self._scalars and name == "mul":
            return b, self._scalars[a]
        return None

    def _only_use(self, register: int, name: str) -> tuple[int, int] | None:
        """(result, other operand) of the single instruction of that name that reads a register."""
        uses = [
            (self._operands + i, instruction)
            for i, instruction in enumerate(self._program)
            if register in instruction[1]
        ]
        if len(uses) != 1 or uses[0][1][0] != name or len(uses[0][1][1]) != 2:
            return None
        a, b = uses[0][1][1]
        return uses[0][0], b if a == register else a

    def gelu(self, erf: int) -> tuple[int, int] | None:
        """(x, register that holds gelu(x)) for the register of an erf."""
        instruction = self._instruction(erf)
        scaled = self._scaled(instruction[1][0]) if instruction is not None else None
        if scaled is None or not isclose(scaled[1], sqrt(0.5), rel_tol=1e-5):
            return None
        x = scaled[0]
        shifted = self._only_use(erf, "add")
        if shifted is None or self._scalars.get(shifted[1]) != 1.0:
            return None
        return self._finish(x, shifted[0])

    def _finish(self, x: int, one_plus: int) -> tuple[int, int] | None:
        """Multiply by x and by a half, in either order."""
        product = self._only_use(one_plus, "mul")
        if product is None:
            return None
        result, other = product
        if other == x:
            half = self._only_use(result, "mul")
            return (x, half[0]) if half is not None and self._scalars.get(half[1]) == 0.5 else None
        if self._scalars.get(other) == 0.5:
            last = self._only_use(result, "mul")
            return (x, last[0]) if last is not None and last[1] == x else None
        scaled = self._scaled(other)
        return (x, result) if scaled == (x, 0.5) else None


def prune_program(
    program: Sequence[StoredInstruction], operands: int
) -> tuple[tuple[StoredInstruction, ...], tuple[int, ...]]:
    """The program without what its result does not need, and the positions of the operands that stay."""
    needed: set[int] = set()
    stack = [operands + len(program) - 1]
    while stack:
        register = stack.pop()
        if register not in needed:
            needed.add(register)
            if register >= operands:
                stack += program[register - operands][1]
    kept = [r for r in range(operands + len(program)) if r in needed]
    number = {register: position for position, register in enumerate(kept)}
    pruned = tuple(
        (name, tuple(number[a] for a in arguments), params)
        for position, (name, arguments, params) in enumerate(program)
        if operands + position in needed
    )
    return pruned, tuple(r for r in kept if r < operands)
