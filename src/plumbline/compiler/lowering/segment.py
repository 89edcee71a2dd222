"""The driver of a segment: the SPMD function that every thread of a lane runs.

Steps become phases. A phase is a set of independent tiles followed by a completion count; consecutive steps
too small to split share one phase of one tile, so that they cost no synchronisation between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plumbline.contracts.context_block import CLAIMS_OFFSET_BYTES, ContextSlots
from plumbline.contracts.dims import Dim, ceildiv, upper_bound
from plumbline.contracts.program import Operand, PlannedStep, Space
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import Work
from plumbline.kernels.emit.ir import Index, ModuleBuilder, Pointer, Value
from plumbline.kernels.emit.runtime import MAX_TILES
from plumbline.kernels.emit.tensor import DimEmitter

__all__ = ["LoweredStep", "Phase", "emit_segment", "plan_phases"]

TILE_COST = 40_000.0
"""Least cost of one tile: about 2.5 us of a vector core. Below it a claim costs more than it spreads."""
TILES_PER_THREAD = 24
"""Most tiles per thread of a phase, where costs allow.

Other threads wait for the last tile of a phase, and a disturbed core must be evened out.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredStep:
    """A step with its native function and how it splits."""

    index: int
    step: PlannedStep
    function: str
    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Steps between two completion counts: one in tiles of `grain` units, or several small ones in order."""

    steps: tuple[LoweredStep, ...]
    grain: int | None

    @property
    def tiles(self) -> Dim:
        """Number of tiles; 1 for a phase that is not split."""
        return 1 if self.grain is None else ceildiv(self.steps[0].work.units, self.grain)


def plan_phases(steps: Sequence[LoweredStep], bounds: Mapping[str, int], threads: int) -> tuple[Phase, ...]:
    """Group steps into phases for a number of threads."""
    phases: list[Phase] = []
    small: list[LoweredStep] = []
    for step in steps:
        grain = _grain(step.work, bounds, threads)
        if grain is None:
            small.append(step)
            continue
        if small:
            phases.append(Phase(steps=tuple(small), grain=None))
            small = []
        phases.append(Phase(steps=(step,), grain=grain))
    if small:
        phases.append(Phase(steps=tuple(small), grain=None))
    return tuple(phases)


def _grain(work: Work, bounds: Mapping[str, int], threads: int) -> int | None:
    """Units of one tile, or None where the step is not worth splitting."""
    units = upper_bound(work.units, bounds)
    total = units * work.unit_cost
    if threads == 1 or units <= 1 or total < 2 * TILE_COST:
        return None
    wanted = min(units, threads * TILES_PER_THREAD, int(total / TILE_COST), MAX_TILES)
    return max(1, -(-units // max(wanted, 1)))


def emit_segment(
    module: ModuleBuilder,
    name: str,
    phases: Sequence[Phase],
    symbols: Sequence[str],
    *,
    threads: int,
    first_phase: int = 0,
    traced_clock: int | None = None,
) -> None:
    """Emit `void name(ptr context, i64 tid, i64 epoch)`.

    Args:
        module: receives the text; it already holds the runtime and the step functions.
        name: exported symbol.
        phases: what to run.
        symbols: symbol names in the order of their slots.
        threads: 1 leaves out claims and counts altogether.
        first_phase: number of the first claim word.
        traced_clock: number of the system clock by which begin and end of every step tile are recorded;
            None: they are not.
    """
    driver = _Driver(module, name, symbols, threads, traced_clock)
    for number, phase in enumerate(phases, start=first_phase):
        driver.phase(number, phase)
    driver.finish()


class _Driver:
    """Emits one segment function."""

    def __init__(
        self, module: ModuleBuilder, name: str, symbols: Sequence[str], threads: int, traced_clock: int | None
    ) -> None:
        self._threads, self._clock_number = threads, traced_clock
        parameters = [("ptr", "context"), ("i64", "tid"), ("i64", "epoch")]
        self._b = b = module.function(name, parameters, internal=False)
        context = Pointer("%context")
        self._bases = {
            Space.ARENA: self._pointer(ContextSlots.ARENA),
            Space.WEIGHTS: self._pointer(ContextSlots.WEIGHTS),
            Space.STATE: self._pointer(ContextSlots.STATE),
        }
        self._trace = None if traced_clock is None else self._pointer(ContextSlots.TRACE)
        self._symbols = b.offset(context, DType.INT64, int(ContextSlots.SYMBOLS))
        self._dim = DimEmitter(b, self._symbols, symbols)
        self._tid = Value(b, "%tid", DType.INT64)
        self._epoch = Value(b, "%epoch", DType.INT64)

    def finish(self) -> None:
        self._b.finish()

    def phase(self, number: int, phase: Phase) -> None:
        if self._threads == 1:
            self._whole(phase)
            return
        b = self._b
        tiles = b.index(self._dim(phase.tiles))
        claim = self._address(CLAIMS_OFFSET_BYTES + 16 * number)
        finished = self._address(CLAIMS_OFFSET_BYTES + 16 * number + 8)
        again, run, over = b.fresh("claim"), b.fresh("tile"), b.fresh("over")
        units = [self._dim(s.work.units) for s in phase.steps]
        b.statement(f"br label %{again}")
        b.label(again)
        tile = b.emit(
            f"call i64 @plumb_claim(ptr {claim.text}, i64 %tid, i64 %epoch, i64 {tiles.text})", DType.INT64
        )
        b.statement(f"br i1 {(tile >= 0).text}, label %{run}, label %{over}")
        b.label(run)
        if phase.grain is None:
            for step, count in zip(phase.steps, units, strict=True):
                self._call(step, 0, count)
        else:
            begin = tile * phase.grain
            self._call(phase.steps[0], begin, b.minimum(begin + phase.grain, b.index(units[0])))
        b.statement(f"call void @plumb_finish(ptr {finished.text}, i64 %epoch)")
        b.statement(f"br label %{again}")
        b.label(over)
        b.statement(f"call void @plumb_wait(ptr {finished.text}, i64 %epoch, i64 {tiles.text})")

    def _whole(self, phase: Phase) -> None:
        for step in phase.steps:
            self._call(step, 0, self._dim(step.work.units))

    def _call(self, step: LoweredStep, begin: Index, end: Index) -> None:
        b, planned = self._b, step.step
        operands = [o for o in (*planned.inputs, *planned.outputs) if o is not None]
        pointers = [*(self._operand(o) for o in operands), self._workspace(planned), self._symbols]
        arguments = [f"ptr {p.text}" for p in pointers]
        arguments += [f"i64 {b.index(begin).text}", f"i64 {b.index(end).text}"]
        started = self._clock()
        b.statement(f"call void @{step.function}({', '.join(arguments)})")
        self._record(step.index, started)

    def _operand(self, operand: Operand) -> Pointer:
        return self._b.offset(self._bases[operand.space], DType.UINT8, operand.offset)

    def _workspace(self, step: PlannedStep) -> Pointer:
        if step.workspace_bytes == 0:
            return Pointer("null")
        offset: Index = step.workspace_offset
        if self._threads > 1:
            offset = self._tid * step.workspace_bytes + step.workspace_offset
        return self._b.offset(self._bases[Space.ARENA], DType.UINT8, offset)

    def _pointer(self, slot: ContextSlots) -> Pointer:
        b = self._b
        name = f"%{b.fresh('base')}"
        address = b.offset(Pointer("%context"), DType.INT64, int(slot))
        b.statement(f"{name} = load ptr, ptr {address.text}, align 8")
        return Pointer(name)

    def _address(self, offset_bytes: int) -> Pointer:
        return self._b.offset(Pointer("%context"), DType.UINT8, offset_bytes)

    # -- trace -----------------------------------------------------------------------------------------------

    def _clock(self) -> Value | None:
        if self._trace is None:
            return None
        b = self._b
        b.module.declare("clock_gettime", "declare i32 @clock_gettime(i32, ptr)")
        time = b.stack_array(DType.INT64, 2)
        b.emit(f"call i32 @clock_gettime(i32 {self._clock_number}, ptr {time.text})", DType.INT32)
        return b.load(time, DType.INT64, 0) * 1_000_000_000 + b.load(time, DType.INT64, 1)

    def _record(self, index: int, started: Value | None) -> None:
        """Append (step, thread, begin, end) to the trace; slot 0 is the count, slot 1 the capacity."""
        ended = self._clock()
        if self._trace is None or started is None or ended is None:
            return
        b = self._b
        slot = b.emit(f"atomicrmw add ptr {self._trace.text}, i64 1 monotonic", DType.INT64)
        with b.when(slot < b.load(self._trace, DType.INT64, 1)):
            place = slot * 4 + 2
            for field, value in enumerate((b.index(index), self._tid, started, ended)):
                b.store(value, self._trace, place + field)
