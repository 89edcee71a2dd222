"""An execution context: one arena, its bound buffers, and the block that native code reads them from.

All memory is taken when the context is made; a run allocates nothing. One run at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from plumbline.contracts.context_block import CLAIMS_OFFSET_BYTES, ContextSlots
from plumbline.contracts.dims import evaluate
from plumbline.errors import ExecutionError, ResourceError, ValidationError
from plumbline.execution.artifact import Binding, Manifest
from plumbline.hardware.device import Stream
from plumbline.hardware.host.mappings import map_anonymous
from plumbline.hardware.work import NativeLaunch

__all__ = ["ContextClosed", "ExecutionContext", "SymbolRefused", "TraceOverflow"]

ARENA_TAIL_BYTES = 4096


@dataclass(eq=False, kw_only=True)
class ContextClosed(ExecutionError):
    """The context was used after it was closed."""

    code = "execution.context_closed"
    owner = "execution"
    template = "context of model {model!r} is closed"

    model: str


@dataclass(eq=False, kw_only=True)
class SymbolRefused(ValidationError):
    """A symbolic dimension is unknown or outside its bound."""

    code = "validation.symbol"
    owner = "execution"
    template = "symbol {symbol!r} = {value}: {reason}"

    symbol: str
    value: int
    reason: str


@dataclass(eq=False, kw_only=True)
class TraceOverflow(ResourceError):
    """A traced run made more records than its buffer holds."""

    code = "resource.trace_records"
    owner = "execution"
    template = "the run of model {model!r} made {records} trace records, the buffer holds {capacity}"

    model: str
    records: int
    capacity: int


class ExecutionContext:
    """One arena with its inputs and outputs as arrays.

    Args:
        manifest: of the executable.
        entries: addresses of the plain entry of each segment.
        stream: runs the segments, in order.
        weights: address of the mapped weights.
        state: address of the state space.
    """

    def __init__(
        self, manifest: Manifest, entries: tuple[int, ...], stream: Stream, weights: int, state: int,
        on_close: Callable[[ExecutionContext], None] | None = None,
    ) -> None:  # fmt: skip
        self._manifest, self._stream, self._on_close = manifest, stream, on_close
        self._arena_map = map_anonymous(manifest.plan.peak_bytes + ARENA_TAIL_BYTES)
        self._arena = np.frombuffer(self._arena_map, np.uint8)
        block_bytes = CLAIMS_OFFSET_BYTES + 16 * manifest.claim_words + 64
        self._block_map = map_anonymous(block_bytes)
        self._block = np.frombuffer(self._block_map, np.int64, count=block_bytes // 8)
        self._block[ContextSlots.ARENA] = self._arena.ctypes.data
        self._block[ContextSlots.WEIGHTS], self._block[ContextSlots.STATE] = weights, state
        self._launches = tuple(
            NativeLaunch(
                entry=entry,
                context=self._block.ctypes.data,
                label=f"{manifest.name}/{index}",
                cost_ns=manifest.segment_ns[index] if manifest.segment_ns else 0,
            )
            for index, entry in enumerate(entries)
        )
        self._runs: tuple[Callable[[], None], ...] = tuple(stream.bind(launch) for launch in self._launches)
        self._order = tuple(manifest.symbols)
        self._closed = False
        self._symbols: dict[str, int] = {}
        self.set_symbols({})

    @property
    def address(self) -> int:
        """Address of the context block, for launches made elsewhere."""
        return int(self._block.ctypes.data)

    @property
    def symbols(self) -> Mapping[str, int]:
        """Current value of each symbolic dimension."""
        return MappingProxyType(self._symbols)

    def set_symbols(self, values: Mapping[str, int]) -> None:
        """Set symbolic dimensions; those not named return to their bound.

        Raises:
            SymbolRefused: a symbol is unknown, negative or above its bound.
        """
        bounds = self._manifest.symbols
        for name, value in values.items():
            if name not in bounds:
                raise SymbolRefused(
                    symbol=name, value=value, reason=f"known symbols: {', '.join(bounds) or 'none'}"
                )
            if not 0 <= value <= bounds[name]:
                raise SymbolRefused(symbol=name, value=value, reason=f"the bound is {bounds[name]}")
        wanted = {name: int(values.get(name, bound)) for name, bound in bounds.items()}
        if wanted == self._symbols and hasattr(self, "inputs"):
            return
        self._symbols = wanted
        for position, name in enumerate(self._order):
            self._block[ContextSlots.SYMBOLS + position] = wanted[name]
        self.inputs = MappingProxyType({b.name: self._view(b) for b in self._manifest.inputs})
        self.outputs = MappingProxyType({b.name: self._view(b) for b in self._manifest.outputs})

    def run(self) -> None:
        """Run once over the bound buffers.

        Raises:
            ContextClosed: the context was closed.
        """
        if self._closed:
            raise ContextClosed(model=self._manifest.name)
        for run in self._runs:
            run()

    @property
    def segment_runs(self) -> tuple[Callable[[], None], ...]:
        """What `run` calls in order: one function for each segment, or one where they go over several
        streams. Between two of them the caller may do something else.
        """
        return self._runs

    @property
    def launches(self) -> tuple[NativeLaunch, ...]:
        """The native work of each segment over this context, in program order."""
        return self._launches

    def run_through(self, run: Callable[[], None]) -> None:
        """From now on let `run` launch the segments, on whatever streams; it returns when all are done."""
        self._runs = (run,)

    def run_traced(self, entries: Sequence[int], capacity: int) -> np.ndarray:
        """Run once through the traced entries, which write down every call of a step function.

        Args:
            entries: address of the traced entry of each segment, in order.
            capacity: records to make room for.

        Returns:
            int64 [records, 4]: step index, thread, begin and end in monotonic nanoseconds, in the order in
            which they were appended.

        Raises:
            ContextClosed: the context was closed.
            TraceOverflow: there were more records than `capacity`.
        """
        if self._closed:
            raise ContextClosed(model=self._manifest.name)
        buffer = np.zeros(2 + 4 * capacity, np.int64)
        buffer[1] = capacity
        self._block[ContextSlots.TRACE] = buffer.ctypes.data
        try:
            for index, entry in enumerate(entries):
                label = f"{self._manifest.name}/{index} traced"
                self._stream.run(NativeLaunch(entry=entry, context=self.address, label=label))
        finally:
            self._stream.quiesce()
            self._block[ContextSlots.TRACE] = 0
        records = int(buffer[0])
        if records > capacity:
            raise TraceOverflow(model=self._manifest.name, records=records, capacity=capacity)
        return buffer[2 : 2 + 4 * records].reshape(records, 4)

    def fill_arena(self, byte: int) -> None:
        """Overwrite every byte of the arena (for tests: no result may depend on what it held)."""
        self._arena[...] = byte

    def arena_high_water_bytes(self, marker: int = 0xA5) -> int:
        """Run on an arena filled with `marker` and return the highest byte that the run changed, plus one.

        Inputs are set to zero first. For tests of the memory promise.
        """
        self._arena[...] = marker
        for array in self.inputs.values():
            array[...] = 0
        self.run()
        touched = np.flatnonzero(self._arena != marker)
        return int(touched[-1]) + 1 if touched.size else 0

    def close(self) -> None:
        """Release the arena. Arrays taken from the context keep their memory until they are gone."""
        if self._closed:
            return
        self._closed = True
        self._stream.quiesce()
        if self._on_close is not None:
            self._on_close(self)

    def __enter__(self) -> ExecutionContext:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _view(self, binding: Binding) -> np.ndarray:
        shape = tuple(evaluate(d, self._symbols) for d in binding.shape)
        count = int(np.prod(shape, dtype=np.int64))
        dtype = binding.dtype.numpy
        return np.frombuffer(self._arena_map, dtype, count=count, offset=binding.offset).reshape(shape)
