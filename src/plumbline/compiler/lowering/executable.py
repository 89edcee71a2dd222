"""A planned program into object code with its entry points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.compiler.lowering.codegen import compile_object, compiler_version
from plumbline.compiler.lowering.segment import LoweredStep, Phase, emit_segment, plan_phases
from plumbline.compiler.lowering.step_function import emit_step_function
from plumbline.contracts.context_block import MAX_SYMBOLS
from plumbline.contracts.program import PlannedProgram
from plumbline.errors import ValidationError
from plumbline.kernels.emit.ir import ModuleBuilder
from plumbline.kernels.emit.runtime import HostSystem, add_runtime
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.registry import get_operation

__all__ = ["LoweredProgram", "TooManySymbols", "emit_program", "lower_program"]


@dataclass(eq=False, kw_only=True)
class TooManySymbols(ValidationError):
    """A program has more symbolic dimensions than a context has room for."""

    code = "validation.symbol_count"
    owner = "compiler"
    template = "program {program!r} has {symbols} symbolic dimensions; at most {most} are supported"

    program: str
    symbols: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredProgram:
    """Native code of a program.

    Attributes:
        code: relocatable object file.
        segments: (plain entry, traced entry) of each segment.
        phases: claim words that a context needs.
        threads: threads that the code uses.
        compiler: what made the code.
    """

    code: bytes
    segments: tuple[tuple[str, str], ...]
    phases: int
    threads: int
    compiler: str


def lower_program(program: PlannedProgram, target: TargetDescription, system: HostSystem) -> LoweredProgram:
    """Compile a program for a target.

    Raises:
        ValidationError: a leaf from a kernel that does not support a step.
        CodeGenerationFailed: LLVM refused the module.
    """
    text, segments, phases, threads = emit_program(program, target, system)
    return LoweredProgram(
        code=compile_object(text, target), segments=segments, phases=phases, threads=threads,
        compiler=compiler_version(),
    )  # fmt: skip


def emit_program(
    program: PlannedProgram, target: TargetDescription, system: HostSystem
) -> tuple[str, tuple[tuple[str, str], ...], int, int]:
    """LLVM text of a program, its entry points, number of claim words and threads used."""
    if len(program.symbols) > MAX_SYMBOLS:
        raise TooManySymbols(program=program.name, symbols=len(program.symbols), most=MAX_SYMBOLS)
    module = ModuleBuilder()
    add_runtime(module, system)
    symbols = tuple(program.symbols)
    steps = _emit_steps(module, program, target, symbols)
    threads = program.threads
    names: list[tuple[str, str]] = []
    words = 0
    for number, part in enumerate(_segments(steps, program.segments)):
        phases: tuple[Phase, ...] = plan_phases(part, program.symbols, threads)
        plain, traced = f"plumb_segment_{number}", f"plumb_segment_{number}_traced"
        emit_segment(module, plain, phases, symbols, threads=threads, first_phase=words)
        emit_segment(
            module, traced, phases, symbols, threads=threads, first_phase=words,
            traced_clock=system.monotonic_clock,
        )  # fmt: skip
        names.append((plain, traced))
        words += len(phases)
    return module.text(), tuple(names), words, threads


def _emit_steps(
    module: ModuleBuilder, program: PlannedProgram, target: TargetDescription, symbols: Sequence[str]
) -> list[LoweredStep]:
    """One function per distinct signature."""
    functions: dict[str, str] = {}
    lowered: list[LoweredStep] = []
    for index, step in enumerate(program.steps):
        signature = step.signature
        kernel = get_operation(step.operation).kernel
        if kernel is None:
            raise TypeError(f"step {step.name} has no kernel")
        key = repr(signature)
        if key not in functions:
            functions[key] = f"step_{len(functions)}_{step.operation}"
            emit_step_function(module, functions[key], signature, kernel, target, symbols)
        lowered.append(
            LoweredStep(index=index, step=step, function=functions[key], work=kernel.work(signature, target))
        )
    return lowered


def _segments(steps: Sequence[LoweredStep], starts: Sequence[int]) -> list[list[LoweredStep]]:
    ends = [*starts[1:], len(steps)]
    return [list(steps[a:b]) for a, b in zip(starts, ends, strict=True)]
