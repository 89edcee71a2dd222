"""`Model`: a loaded executable with its contexts, ready to run arrays."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from plumbline.contracts.dims import Dim, Expr, Symbol, evaluate, format_dim
from plumbline.errors import ExecutionError, ValidationError
from plumbline.execution.artifact import Binding, Manifest, PlanSummary
from plumbline.execution.code import CodeLibrary, lane_code
from plumbline.execution.context import ExecutionContext
from plumbline.execution.segments import SegmentedRun, segment_nodes
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.host.mappings import map_anonymous

__all__ = ["InputRefused", "Model", "ModelClosed", "ModelWithoutContexts", "OutputRefused", "TensorInfo"]


TRACED_CALLS_PER_STEP = 16
"""Room in a trace for calls of one step by one thread: twice what a phase is split into."""


@dataclass(eq=False, kw_only=True)
class InputRefused(ValidationError):
    """An input array is missing, unknown, of another type or shape, or holds an index outside its table."""

    code = "validation.input"
    owner = "engine"
    template = "input {input!r} of model {model!r}: {reason}"

    model: str
    input: str
    reason: str


@dataclass(eq=False, kw_only=True)
class OutputRefused(ValidationError):
    """An output array that the caller gave does not fit."""

    code = "validation.output"
    owner = "engine"
    template = "output {output!r} of model {model!r}: {reason}"

    model: str
    output: str
    reason: str


@dataclass(eq=False, kw_only=True)
class ModelClosed(ExecutionError):
    """The model was used after it was closed."""

    code = "execution.model_closed"
    owner = "engine"
    template = "model {model!r} is closed"

    model: str


@dataclass(eq=False, kw_only=True)
class ModelWithoutContexts(ExecutionError):
    """`run` was asked of a model that was opened for callers with contexts of their own."""

    code = "execution.model_without_contexts"
    owner = "engine"
    template = "model {model!r} was opened with contexts=0: take one with `context()`, or open it with some"

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """Name, element type and shape of an input or output; symbolic dimensions as text."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Model:
    """A loaded executable. Calls from several threads queue for a context and never share an arena.

    Args:
        manifest: of the executable.
        weights: mapped weights, as bytes.
        library: its native code.
        device: where streams are opened.
        contexts: arenas to make now.
        on_close: called once, when the model is closed.
        streams: streams that the segments of one context may use; each has the threads of the manifest.
    """

    def __init__(
        self,
        manifest: Manifest,
        weights: np.ndarray,
        library: CodeLibrary,
        device: CpuDevice,
        contexts: int = 1,
        folder: Path | None = None,
        on_close: Callable[[], None] = lambda: None,
        streams: int = 1,
    ) -> None:
        self.manifest, self.folder = manifest, folder
        self._weights, self._library, self._device, self._on_close = weights, library, device, on_close
        self._state_map = map_anonymous(max(manifest.plan.state_bytes, 1))
        self._state = np.frombuffer(self._state_map, np.uint8)
        self._entries = tuple(library.address(plain) for plain, _ in manifest.segments)
        self._traced_entries = tuple(library.address(traced) for _, traced in manifest.segments)
        self._lane_code = lane_code(library)
        self._nodes = segment_nodes(manifest, streams)
        self._lock = threading.Lock()
        self._opened: list[ExecutionContext] = []
        self._closed = False
        self._lends = contexts > 0
        self._free: queue.LifoQueue[ExecutionContext] = queue.LifoQueue()
        for _ in range(contexts):
            self._free.put(self.context())

    # -- facts -----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the graph."""
        return self.manifest.name

    @property
    def digest(self) -> str:
        """Content hash of the graph that was compiled."""
        return self.manifest.digest

    @property
    def plan(self) -> PlanSummary:
        """The memory promise in bytes."""
        return self.manifest.plan

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """What `run` needs."""
        return tuple(_info(b) for b in self.manifest.inputs)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """What `run` returns."""
        return tuple(_info(b) for b in self.manifest.outputs)

    @property
    def states(self) -> Mapping[str, np.ndarray]:
        """State tensors by name, at their bound; the caller owns the values."""
        found = {}
        for b in self.manifest.states:
            shape = tuple(evaluate(d, self.manifest.symbols) for d in b.shape)
            count = int(np.prod(shape, dtype=np.int64))
            found[b.name] = np.frombuffer(self._state_map, b.dtype.numpy, count, b.offset).reshape(shape)
        return found

    # -- running ---------------------------------------------------------------------------------------------

    def run(
        self, inputs: Mapping[str, Any], *, out: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Run once.

        Args:
            inputs: name -> array of the declared type and shape.
            out: arrays to write results into, by output name; others are made.

        Returns:
            name -> array. Arrays given in `out` are returned themselves.

        Raises:
            InputRefused: naming the input and what is wrong with it.
            OutputRefused: an array in `out` does not fit.
            ModelWithoutContexts: the model was opened without any.
        """
        arrays = self._checked(inputs)
        symbols = self._symbols_of(arrays)
        with self._borrowed() as context:
            context.set_symbols(symbols)
            for name, array in arrays.items():
                np.copyto(context.inputs[name], array)
            if out:
                self._verify_out(context, out)
            context.run()
            return {name: _returned(view, (out or {}).get(name)) for name, view in context.outputs.items()}

    def run_traced(self, inputs: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Run once through the traced entries.

        Args:
            inputs: as for `run`.

        Returns:
            Outputs by name, and the records of `ExecutionContext.run_traced`: int64 [records, 4].

        Raises:
            InputRefused: as `run`.
        """
        arrays = self._checked(inputs)
        symbols = self._symbols_of(arrays)
        capacity = TRACED_CALLS_PER_STEP * self.manifest.threads * (len(self.manifest.step_names) + 1)
        with self._borrowed() as context:
            context.set_symbols(symbols)
            for name, array in arrays.items():
                np.copyto(context.inputs[name], array)
            records = context.run_traced(self._traced_entries, capacity)
            return {name: view.copy() for name, view in context.outputs.items()}, records

    def bind(self, inputs: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Inputs as arrays, and the values of the symbols that their shapes mean. Runs nothing; thread-safe.

        Raises:
            InputRefused: naming the input and what is wrong with it.
        """
        self._verify_open()
        arrays = self._checked(inputs)
        return arrays, self._symbols_of(arrays)

    @property
    def contexts(self) -> int:
        """Contexts made so far."""
        return len(self._opened)

    def context(self) -> ExecutionContext:
        """A context of the caller's own: an arena with bound inputs and outputs, and its streams."""
        self._verify_open()
        threads = self.manifest.threads
        with self._lock, ExitStack() as opened:
            label = f"{self.name}/{len(self._opened)}-{id(self):x}"
            streams = [
                opened.enter_context(
                    self._device.open_stream(f"{label}-s{index}", threads=threads, lane_code=self._lane_code)
                )
                for index in range(len({node.stream for node in self._nodes}) or 1)
            ]
            owned = ExitStack()
            context = ExecutionContext(
                self.manifest,
                self._entries,
                streams[0],
                self._weights.ctypes.data if self._weights.size else 0,
                self._state.ctypes.data,
                lambda _context: owned.close(),
            )
            if len(streams) > 1:
                run = opened.enter_context(SegmentedRun(self._device, self._nodes, context.launches, streams))
                context.run_through(run.run)
            owned.push(opened.pop_all())
            self._opened.append(context)
        return context

    def close(self) -> None:
        """Close every context and release weights and state. Closing twice is harmless."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for context in self._opened:
            context.close()
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- inside ----------------------------------------------------------------------------------------------

    def _verify_open(self) -> None:
        if self._closed:
            raise ModelClosed(model=self.name)

    @contextmanager
    def _borrowed(self) -> Any:
        self._verify_open()
        if not self._lends:
            raise ModelWithoutContexts(model=self.name)
        context = self._free.get()
        try:
            yield context
        finally:
            self._free.put(context)

    def _checked(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        known = {b.name: b for b in self.manifest.inputs}
        for name in inputs:
            if name not in known:
                names = ", ".join(known) or "none"
                raise InputRefused(
                    model=self.name, input=str(name), reason=f"unknown; the inputs are: {names}"
                )
        return {name: self._array(b, inputs.get(name)) for name, b in known.items()}

    def _array(self, binding: Binding, given: Any) -> np.ndarray:
        if given is None:
            raise InputRefused(model=self.name, input=binding.name, reason="it is missing")
        array = np.asarray(given)
        wanted = binding.dtype.numpy
        if array.dtype != wanted:
            if isinstance(given, np.ndarray) or not np.can_cast(array.dtype, wanted, "same_kind"):
                reason = f"element type {array.dtype}, expected {wanted}"
                raise InputRefused(model=self.name, input=binding.name, reason=reason)
            array = array.astype(wanted)
        if array.ndim != len(binding.shape):
            reason = f"shape {array.shape}, expected {_shape_text(binding.shape)}"
            raise InputRefused(model=self.name, input=binding.name, reason=reason)
        self._verify_indices(binding.name, array)
        return array

    def _verify_indices(self, name: str, array: np.ndarray) -> None:
        """An input that is nothing but indices: one outside would be clamped, and answer for another row."""
        bounds = self.manifest.index_ranges.get(name)
        if bounds is None or not array.size:
            return
        low, high = bounds
        least, greatest = int(array.min()), int(array.max())
        if low <= least and greatest <= high:
            return
        value = greatest if greatest > high else least
        place = [int(i) for i in np.unravel_index(np.argmax(array == value), array.shape)]
        reason = f"the value at {place} is {value}; it is an index from {low} to {high}"
        raise InputRefused(model=self.name, input=name, reason=reason)

    def _symbols_of(self, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Values of the symbols, solved from the shapes of the inputs."""
        symbols: dict[str, int] = {}
        for binding in self.manifest.inputs:
            for dim, extent in zip(binding.shape, arrays[binding.name].shape, strict=True):
                name, constant = _shifted_symbol(dim)
                if name is not None:
                    symbols.setdefault(name, max(extent - constant, 0))
        for binding in self.manifest.inputs:
            shape = arrays[binding.name].shape
            for axis, (dim, extent) in enumerate(zip(binding.shape, shape, strict=True)):
                self._verify_extent(binding, axis, dim, extent, symbols)
        return symbols

    def _verify_extent(
        self, binding: Binding, axis: int, dim: Dim, extent: int, symbols: Mapping[str, int]
    ) -> None:
        values = {**self.manifest.symbols, **symbols}
        expected = evaluate(dim, values)
        name, constant = _shifted_symbol(dim)
        if name is not None and extent - constant > self.manifest.symbols[name]:
            reason = f"axis {axis} is {extent}, the bound of {name} is {self.manifest.symbols[name]}"
            raise InputRefused(model=self.name, input=binding.name, reason=reason)
        if expected != extent:
            reason = f"axis {axis} is {extent}, expected {expected} ({_shape_text(binding.shape)})"
            raise InputRefused(model=self.name, input=binding.name, reason=reason)

    def _verify_out(self, context: ExecutionContext, out: Mapping[str, np.ndarray]) -> None:
        for name, array in out.items():
            view = context.outputs.get(name)
            if view is None:
                raise OutputRefused(model=self.name, output=name, reason="there is no such output")
            if not isinstance(array, np.ndarray) or array.dtype != view.dtype or array.shape != view.shape:
                raise OutputRefused(
                    model=self.name, output=name,
                    reason=f"expected a {view.dtype} array of shape {view.shape}",
                )  # fmt: skip
            if not array.flags.writeable:
                raise OutputRefused(model=self.name, output=name, reason="the array is read-only")


def _returned(view: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    if given is None:
        return view.copy()
    np.copyto(given, view)
    return given


def _shifted_symbol(dim: Dim) -> tuple[str | None, int]:
    """The symbol and the number of a dimension `symbol` or `symbol + number`; None and 0 for any other."""
    terms = dict(dim.terms) if isinstance(dim, Expr) else {}
    constant = terms.pop((), 0)
    if len(terms) == 1:
        ((monomial, coefficient),) = terms.items()
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0].name, constant
    return None, 0


def _shape_text(shape: tuple[Dim, ...]) -> str:
    return "[" + ", ".join(format_dim(d) for d in shape) + "]"


def _info(binding: Binding) -> TensorInfo:
    shape = tuple(d if isinstance(d, int) else format_dim(d) for d in binding.shape)
    return TensorInfo(name=binding.name, dtype=binding.dtype.value, shape=shape)
