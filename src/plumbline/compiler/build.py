"""From a verified graph to an executable folder: passes, plan, weights, code.

The order matters for the memory promise: the plan is made and held against the budget before any weight is
read.
"""

from __future__ import annotations

import hashlib
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.index_ranges import find_index_ranges
from plumbline.compiler.lowering.executable import LoweredProgram, lower_program
from plumbline.compiler.lowering.link import find_linker, link_shared
from plumbline.compiler.passes.pipeline import PassReport, run_passes
from plumbline.compiler.planning.plan_file import write_plan
from plumbline.compiler.planning.program import ProgramPlan, plan_program
from plumbline.compiler.planning.program_text import format_program
from plumbline.compiler.planning.segments import SegmentPlan
from plumbline.compiler.planning.weights import constant_bytes
from plumbline.compiler.rows import RowProof, prove_rows
from plumbline.contracts.dims import upper_bound
from plumbline.contracts.program import Operand
from plumbline.contracts.tensors import storage_bytes
from plumbline.errors import BackendError
from plumbline.execution.artifact import Binding, Manifest, PlanSummary, write_manifest
from plumbline.execution.backend import RetargetPath
from plumbline.kernels.emit.runtime import HostSystem
from plumbline.kernels.emit.target import AVX2, AVX512, NEON, TargetDescription

__all__ = [
    "Build",
    "BuildOptions",
    "TargetUnsupported",
    "compile_graph",
    "host_system",
    "plan_graph",
    "with_rows",
]

Progress = Callable[[str], None]


@dataclass(eq=False, kw_only=True)
class TargetUnsupported(BackendError):
    """No target description fits this machine."""

    code = "backend.target_unsupported"
    owner = "compiler"
    template = "this machine ({machine}) is not a target: {reason}"

    machine: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What the caller decides about a build.

    Attributes:
        target: instruction set.
        threads: threads of one context.
        memory_budget: most bytes for weights, state and all contexts, or None.
        contexts: arenas that will be made.
        max_segment_ns: longest segment wanted, by estimated cost, or None for one segment.
        streams: with more than one, independent branches get memory of their own, so that they can overlap.
    """

    target: TargetDescription
    threads: int = 1
    memory_budget: int | None = None
    contexts: int = 1
    max_segment_ns: int | None = None
    streams: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What a build produced and decided."""

    graph: ExecutionGraph
    passes: PassReport
    plan: ProgramPlan
    lowered: LoweredProgram
    manifest: Manifest
    seconds: dict[str, float]


def host_system() -> HostSystem:
    """Operating system and architecture of this machine.

    Raises:
        TargetUnsupported: Windows, or an unknown architecture.
    """
    machine = platform.machine().lower()
    architecture = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}.get(
        machine
    )
    if sys.platform not in ("linux", "darwin") or architecture is None:
        reason = "Linux and macOS on x86-64 and arm64 are supported"
        raise TargetUnsupported(machine=f"{sys.platform} {machine}", reason=reason)
    return HostSystem(name=sys.platform, architecture=architecture)


def choose_target(flags: frozenset[str]) -> TargetDescription:
    """The widest target description whose instruction flags this machine has.

    Raises:
        TargetUnsupported: none fits.
    """
    system = host_system()
    candidates = (NEON,) if system.architecture == "aarch64" else (AVX512, AVX2)
    for target in candidates:
        if target.required_flags <= flags or (system.name == "darwin" and target is NEON):
            return target
    needed = " or ".join(sorted(candidates[-1].required_flags))
    raise TargetUnsupported(machine=platform.machine(), reason=f"it lacks one of: {needed}")


def plan_graph(
    graph: ExecutionGraph, options: BuildOptions
) -> tuple[ExecutionGraph, PassReport, ProgramPlan]:
    """Passes and plan only; reads no weight over the small-constant limit.

    Raises:
        MemoryBudgetError: the plan needs more than `options.memory_budget`.
    """
    optimised, report = run_passes(graph, options.target)
    plan = plan_program(optimised, options.target, options.threads, options.max_segment_ns, options.streams)
    _note_segments(plan.segments, report)
    plan.verify_budget(options.memory_budget, options.contexts)
    return optimised, report, plan


def _note_segments(segments: SegmentPlan, report: PassReport) -> None:
    if segments.limit_ns is None:
        return
    limit = f"at most {segments.limit_ns} ns wanted"
    longest = max(segments.estimated_ns)
    detail = f"{len(segments.starts)} segments, the longest estimated at {longest} ns; {limit}"
    report.note("plan_segments", "partitioned", "program", detail)
    for step, estimated_ns in segments.oversized:
        detail = f"one step cannot be cut: estimated at {estimated_ns} ns; {limit}"
        report.note("plan_segments", "refused", step, detail)


def compile_graph(
    graph: ExecutionGraph, options: BuildOptions, folder: Path, progress: Progress = lambda stage: None
) -> Build:
    """Compile into `folder` (which exists and is empty).

    Args:
        graph: verified graph.
        options: what the caller decides.
        folder: receives manifest, program, plan, weights and code.
        progress: called with the name of each stage as it starts.
    """
    seconds: dict[str, float] = {}
    clock = _StageClock(seconds, progress)
    clock.start("plan")
    optimised, report, plan = plan_graph(graph, options)
    clock.start("code")
    system = host_system()
    _verify_architecture(options.target, system)
    lowered = lower_program(plan.program, options.target, system)
    (folder / "code.o").write_bytes(lowered.code)
    clock.start("link")
    linker = find_linker()
    if linker is not None:
        link_shared(folder / "code.o", folder / "code.so", linker)
    clock.start("weights")
    weights_digest = write_weights(plan, optimised, folder / "weights.bin")
    (folder / "program.json").write_text(format_program(plan.program), encoding="utf-8")
    write_plan(folder, plan.allocation)
    clock.stop()
    manifest = _manifest(graph, plan, lowered, options, system, weights_digest, sum(seconds.values()))
    manifest = with_rows(manifest, prove_rows(optimised))
    write_manifest(folder, manifest)
    return Build(
        graph=optimised, passes=report, plan=plan, lowered=lowered, manifest=manifest, seconds=seconds
    )


def _verify_architecture(target: TargetDescription, system: HostSystem) -> None:
    """Refuse to make code that this machine cannot run.

    Raises:
        TargetUnsupported: the target is for another architecture.
    """
    if target.architecture != system.architecture:
        reason = f"target {target.name} is for {target.architecture}"
        raise TargetUnsupported(machine=f"{system.name} {system.architecture}", reason=reason)


class _StageClock:
    def __init__(self, seconds: dict[str, float], progress: Progress) -> None:
        self._seconds, self._progress = seconds, progress
        self._stage, self._began = "", 0.0

    def start(self, stage: str) -> None:
        self.stop()
        self._progress(stage)
        self._stage, self._began = stage, time.perf_counter()

    def stop(self) -> None:
        if self._stage:
            self._seconds[self._stage] = time.perf_counter() - self._began
        self._stage = ""


def write_weights(plan: ProgramPlan, graph: ExecutionGraph, path: Path) -> str:
    """Write every constant at its planned offset, one at a time.

    Returns:
        SHA-256 of the file in hexadecimal digits; empty for no bytes.
    """
    size = plan.weights.size_bytes
    if size == 0:
        path.write_bytes(b"")
        return ""
    space = np.memmap(path, np.uint8, "w+", shape=(size,))
    for offset, tensor in plan.weights.stored:
        constant, type_ = plan.constants[tensor], graph.type_of(tensor)
        data = np.ascontiguousarray(constant.read()).reshape(-1).view(np.uint8)
        if data.size > constant_bytes(constant, type_):
            raise ValueError(f"constant {tensor} is larger than planned")
        space[offset : offset + data.size] = data
    space.flush()
    return hashlib.sha256(space.data).hexdigest()


def native_selection(target: TargetDescription) -> dict[str, Any]:
    """The record of an executable that is not partitioned: static specialisation beside dynamic dispatch."""
    return {
        "specialisation": {
            "backend": "cpu",
            "path": RetargetPath.VENDOR.value,
            "target": target.name,
            "reason": f"code emitted for {target.name} on {target.architecture}",
        },
        "dispatch": {
            "backend": "cpu",
            "candidates": ["cpu"],
            "reason": "the executable holds native code for one backend",
        },
    }


def _manifest(
    graph: ExecutionGraph, plan: ProgramPlan, lowered: LoweredProgram, options: BuildOptions,
    system: HostSystem, weights_digest: str, build_seconds: float,
) -> Manifest:  # fmt: skip
    program = plan.program
    bounds = program.symbols
    return Manifest(
        name=graph.name,
        digest=graph.digest,
        target=options.target.name,
        architecture=system.architecture,
        system=system.name,
        compiler=lowered.compiler,
        threads=lowered.threads,
        claim_words=lowered.phases,
        symbols=dict(bounds),
        inputs=tuple(_binding(n, o, bounds) for n, o in program.inputs.items()),
        outputs=tuple(_binding(n, o, bounds) for n, o in program.outputs.items()),
        states=tuple(_binding(n, o, bounds) for n, o in program.states.items()),
        segments=lowered.segments,
        selection=native_selection(options.target),
        index_ranges=find_index_ranges(graph),
        segment_ns=plan.segments.estimated_ns,
        segment_after=plan.segments.after,
        step_names=tuple(s.name for s in program.steps),
        step_operations=tuple(s.operation for s in program.steps),
        plan=PlanSummary(
            peak_bytes=program.arena_bytes,
            lower_bound_bytes=plan.allocation.lower_bound_bytes,
            weights_bytes=program.weights_bytes,
            state_bytes=program.state_bytes,
            digest=plan.allocation.digest,
        ),
        weights_digest=weights_digest,
        build_seconds=build_seconds,
    )


def with_rows(manifest: Manifest, proof: RowProof) -> Manifest:
    """A manifest that says which requests may share a launch."""
    refused = proof.refused_because
    return replace(
        manifest, batch_symbol=proof.symbol, packed_symbol=proof.packed, unbatched_because=refused,
        batched_inputs=tuple(proof.inputs), batched_outputs=tuple(proof.outputs),
    )  # fmt: skip


def _binding(name: str, operand: Operand, bounds: Mapping[str, int]) -> Binding:
    return Binding(
        name=name, dtype=operand.type.dtype, shape=operand.type.shape, space=operand.space.value,
        offset=operand.offset, size_bytes=upper_bound(storage_bytes(operand.type), bounds),
    )  # fmt: skip
