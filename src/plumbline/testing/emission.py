"""What was emitted for a target, without a machine that runs it: instructions of the loops of a step.

Text of LLVM's assembly printer is cut into labels and instructions; a loop is what lies between a label and a
later jump back to it. That is enough to count multiply-adds and to see registers spilled to the stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.lowering.codegen import compile_assembly
from plumbline.compiler.lowering.step_function import emit_step_function
from plumbline.compiler.passes.pipeline import run_passes
from plumbline.compiler.planning.program import plan_program
from plumbline.contracts.program import StepSignature
from plumbline.kernels.emit.ir import ModuleBuilder
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.registry import get_operation

__all__ = ["EmittedStep", "Loop", "emit_steps", "find_innermost_loops"]

_LABEL = re.compile(r"^([.\w$]+):")
_JUMP = re.compile(r"^(?:j[a-z]+|b|b\.\w+|cbn?z|tbn?z)\s+(?:.*[ ,])?(\.L[\w$]+)$")
_CALL = re.compile(r"^(?:callq?|bl)\s+(\S+)")
_STACK = re.compile(r"\(%rsp|\[sp\b")
_FRAME = re.compile(r"^(?:movq %rsp, %rbp|(?:mov|add) x29, sp)")
"""Where this occurs, the frame pointer is one; elsewhere it is a register like others."""
_STACK_BY_FRAME = re.compile(r"\(%rsp|\(%rbp|\[sp\b|\[x29\b")
_VECTOR_FMA = {
    "x86_64": re.compile(r"^vfn?m(?:add|sub)\d+ps\b.*%[yz]mm"),
    "aarch64": re.compile(r"^fml[as]\s+v\d+\.4s"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """An innermost loop: its instructions in order, without labels and directives."""

    architecture: str
    instructions: tuple[str, ...]
    has_frame: bool = False

    @property
    def multiply_adds(self) -> tuple[str, ...]:
        """Vector multiply-adds of float32."""
        return tuple(i for i in self.instructions if _VECTOR_FMA[self.architecture].match(i))

    @property
    def stack_accesses(self) -> tuple[str, ...]:
        """Instructions with an operand on the stack: spilled registers."""
        stack = _STACK_BY_FRAME if self.has_frame else _STACK
        return tuple(i for i in self.instructions if stack.search(i))

    @property
    def calls(self) -> tuple[str, ...]:
        """Names of called functions."""
        return tuple(m.group(1) for i in self.instructions if (m := _CALL.match(i)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EmittedStep:
    """One step function in assembly.

    Attributes:
        signature: what it computes.
        target: what it was compiled for.
        assembly: text of its module, which holds no other function but those it calls.
    """

    signature: StepSignature
    target: TargetDescription
    assembly: str

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Its innermost loops."""
        return find_innermost_loops(self.assembly, self.target.architecture)

    @property
    def calls(self) -> frozenset[str]:
        """Every function that it calls, anywhere."""
        lines = (line.split("#")[0].strip() for line in self.assembly.splitlines())
        return frozenset(m.group(1) for line in lines if (m := _CALL.match(line)))


def emit_steps(graph: ExecutionGraph, target: TargetDescription) -> tuple[EmittedStep, ...]:
    """The steps of a graph after all passes, each compiled to assembly for `target`.

    Args:
        graph: verified graph as an importer makes it.
        target: any description; this machine need not run it.
    """
    optimised, _ = run_passes(graph, target)
    program = plan_program(optimised, target, 1).program
    emitted = []
    for step in program.steps:
        kernel = get_operation(step.operation).kernel
        if kernel is None:
            raise TypeError(f"step {step.name} has no kernel")
        module = ModuleBuilder()
        symbols = tuple(program.symbols)
        emit_step_function(module, "step", step.signature, kernel, target, symbols, internal=False)
        text = compile_assembly(module.text(), target)
        emitted.append(EmittedStep(signature=step.signature, target=target, assembly=text))
    return tuple(emitted)


def find_innermost_loops(assembly: str, architecture: str) -> tuple[Loop, ...]:
    """The loops that hold no other loop, in order of appearance."""
    instructions, labels = _instructions(assembly, "#" if architecture == "x86_64" else "//")
    has_frame = any(_FRAME.match(i) for i in instructions)
    spans = set()
    for position, instruction in enumerate(instructions):
        jump = _JUMP.match(instruction)
        if jump and labels.get(jump.group(1), position + 1) <= position:
            spans.add((labels[jump.group(1)], position))
    innermost = [
        (first, last)
        for first, last in sorted(spans)
        if not any((a, b) != (first, last) and first <= a and b <= last for a, b in spans)
    ]
    return tuple(
        Loop(
            architecture=architecture, instructions=tuple(instructions[first : last + 1]), has_frame=has_frame
        )
        for first, last in innermost
    )


def _instructions(assembly: str, comment: str) -> tuple[list[str], dict[str, int]]:
    """Instructions in order, and the position of the instruction behind each label."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in assembly.splitlines():
        text = " ".join(line.split(comment)[0].split())
        label = _LABEL.match(text)
        if label:
            labels[label.group(1)] = len(instructions)
        elif text and not text.startswith("."):
            instructions.append(text)
    return instructions, labels
