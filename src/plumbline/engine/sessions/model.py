"""`ModelSession`: a compiled model that serves many requests, stacked along its rows where that is proved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.contracts.dims import evaluate, is_static
from plumbline.contracts.inference import Tensors, VersionRef
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionKind
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.datatypes import datatype_of
from plumbline.engine.model import InputRefused, Model
from plumbline.engine.session import Admitted, Instance
from plumbline.errors import ValidationError
from plumbline.execution.artifact import Binding, Manifest
from plumbline.execution.context import ExecutionContext
from plumbline.scheduling.request import BatchTerms

__all__ = [
    "BatchingRefused",
    "ModelInputs",
    "ModelSession",
    "SegmentBoundsRefused",
    "planned_memory",
    "run_segments",
    "verify_segment_bounds",
]


@dataclass(eq=False, kw_only=True)
class BatchingRefused(ValidationError):
    """Batching along a symbol was asked for by name, and the compiler has not proved it."""

    code = "validation.batching"
    owner = "engine"
    template = "version {version!r} cannot be batched along {symbol!r}: {reason}"

    version: str
    symbol: str
    reason: str


@dataclass(eq=False, kw_only=True)
class SegmentBoundsRefused(ValidationError):
    """Calibrated bounds of another number of segments: they were measured on another build."""

    code = "validation.segment_bounds"
    owner = "engine"
    template = "version {version!r} has {segments} segments, its settings bound {bounds}; calibrate it again"

    version: str
    segments: int
    bounds: int


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """Checked arrays by name, the values of the symbols, and the rows along the batch symbol (0: none)."""

    arrays: Mapping[str, np.ndarray]
    symbols: Mapping[str, int]
    rows: int


class ModelSession:
    """Requests on a model. Owns the model and closes it.

    Batching: requests whose shapes agree in everything but the rows share a launch, up to `max_batch` rows
    (at most the bound of the symbol), and may wait `max_delay_ns` for each other. Rows are written straight
    into the input buffers of the context and results copied straight out of its output buffers. Each result
    has the bits that it would have alone: rows are proved independent at build (`Manifest.batch_symbol`), and
    a kernel computes a row in the same order wherever it stands.

    Tenants: requests of different tenants may share a launch. Since no row depends on another, and the
    buffers of a launch are overwritten before the next one reads them, no value of one tenant reaches the
    other; what one can learn is how long a launch took. Where that matters, `separate_tenants` puts the
    tenant into the batch key.

    Args:
        ref: which version this is.
        model: opened without contexts of its own; the session makes one for each instance.
        settings: of the version.
        digest: of its content.

    Raises:
        BatchingRefused: the settings name a batch symbol that is not the proved one.
        SegmentBoundsRefused: the settings bound other segments than the model has.
    """

    def __init__(self, ref: VersionRef, model: Model, settings: VersionSettings, *, digest: str = "") -> None:
        self._model, self._settings, self._manifest = model, settings, model.manifest
        self._key = str(ref)
        self._symbol = _batch_symbol(ref, settings, model.manifest)
        bound = self._manifest.symbols[self._symbol] if self._symbol else 0
        self._max_rows = min(settings.max_batch or bound, bound)
        verify_segment_bounds(ref, settings, model.manifest)
        self._segments_ns = settings.segment_bounds_ns
        self._cost_ns = sum(self._segments_ns) or settings.cost_bound_ns
        memory = planned_memory(model, settings.instances)
        self.metadata = ModelMetadata(
            ref=ref,
            kind=VersionKind.MODEL,
            inputs=_specs(self._manifest.inputs, self._manifest),
            outputs=_specs(self._manifest.outputs, self._manifest),
            digest=digest,
            max_rows=self._max_rows,
            unbatched_because="" if self._symbol else _unproved(self._manifest),
            memory_bytes=sum(memory.values()),
            memory=memory,
        )

    @property
    def instances(self) -> int:
        """Instances that its memory is planned for."""
        return self._settings.instances

    def admit(self, inputs: Tensors, parameters: Mapping[str, Any], tenant: str) -> Admitted:
        """Check the inputs, and say with whom they may share a launch.

        Raises:
            InputRefused: naming the input and what is wrong with it.
        """
        try:
            arrays, symbols = self._model.bind(inputs)
        except InputRefused as refused:
            refused.model = self._key  # the graph may be called anything
            raise
        rows = symbols.get(self._symbol, 0)
        batch = None
        if 0 < rows <= self._max_rows:
            batch = BatchTerms(
                key=self._batch_key(symbols, tenant), units=rows, max_units=self._max_rows,
                max_requests=self._max_rows, max_delay_ns=self._settings.max_delay_ns,
            )  # fmt: skip
        return Admitted(
            inputs=ModelInputs(arrays, symbols, rows), batch=batch, cost_bound_ns=self._cost_ns,
            segment_bounds_ns=self._segments_ns,
        )  # fmt: skip

    def open_instance(self) -> Instance:
        """A context of the model.

        Raises:
            PlumblineError: memory or threads ran out.
        """
        return ModelInstance(self._model.context(), self._manifest, self._symbol)

    def example(self) -> Tensors:
        """Inputs at the bounds: floats in [-1, 1) from a fixed seed, zeros for everything else."""
        generator = np.random.default_rng(0)
        return {
            binding.name: _filled(binding, self._manifest, generator) for binding in self._manifest.inputs
        }

    def close(self) -> None:
        """Close the model."""
        self._model.close()

    def _batch_key(self, symbols: Mapping[str, int], tenant: str) -> str:
        others = ",".join(f"{n}={v}" for n, v in sorted(symbols.items()) if n != self._symbol)
        owner = f"|{tenant}" if self._settings.separate_tenants else ""
        return f"{self._key}|{others}{owner}"


class ModelInstance:
    """One context. Its buffers hold the rows of the launch that runs; nothing else reads them."""

    def __init__(self, context: ExecutionContext, manifest: Manifest, symbol: str) -> None:
        self._context, self._symbol = context, symbol
        self._batched = frozenset(manifest.batched_outputs)

    @property
    def segments(self) -> int:
        """Segments of the model, one when they go over several streams."""
        return len(self._context.segment_runs)

    def run(
        self, batch: Sequence[Admitted], between: Callable[[int], bool]
    ) -> Sequence[Tensors | Exception] | None:
        """Run the rows of every request of the batch at once, and copy out what belongs to each.

        Raises:
            PlumblineError: the launch failed.
        """
        requests: list[ModelInputs] = [admitted.inputs for admitted in batch]
        if len(requests) == 1:
            return self._run_alone(requests[0], between)
        total = sum(request.rows for request in requests)
        self._context.set_symbols({**requests[0].symbols, self._symbol: total})
        begin = 0
        for request in requests:
            for name, array in request.arrays.items():
                self._context.inputs[name][begin : begin + request.rows] = array
            begin += request.rows
        if not run_segments(self._context, between):
            return None
        return list(self._rows_of(requests))

    def close(self) -> None:
        """Close the context."""
        self._context.close()

    def _run_alone(
        self, request: ModelInputs, between: Callable[[int], bool]
    ) -> Sequence[Tensors | Exception] | None:
        self._context.set_symbols(request.symbols)
        for name, array in request.arrays.items():
            np.copyto(self._context.inputs[name], array)
        if not run_segments(self._context, between):
            return None
        return [{name: view.copy() for name, view in self._context.outputs.items()}]

    def _rows_of(self, requests: Sequence[ModelInputs]) -> Iterable[Tensors]:
        begin = 0
        for request in requests:
            end = begin + request.rows
            yield {
                name: (view[begin:end] if name in self._batched else view).copy()
                for name, view in self._context.outputs.items()
            }
            begin = end


def run_segments(context: ExecutionContext, between: Callable[[int], bool]) -> bool:
    """Run every segment of a context; False when `between` ended it.

    Raises:
        PlumblineError: a segment failed.
    """
    for index, run in enumerate(context.segment_runs):
        if index and not between(index):
            return False
        run()
    return True


def verify_segment_bounds(ref: VersionRef, settings: VersionSettings, manifest: Manifest) -> None:
    """Calibrated bounds, where there are any, are those of the segments of this build.

    Raises:
        SegmentBoundsRefused: they are not.
    """
    bounds, segments = len(settings.segment_bounds_ns), len(manifest.segments)
    if bounds not in (0, segments):
        raise SegmentBoundsRefused(version=str(ref), segments=segments, bounds=bounds)


def planned_memory(model: Model, instances: int) -> dict[str, int]:
    """What a model takes with `instances` contexts more than it has, by plan, in bytes."""
    plan = model.plan
    return {
        "weights": plan.weights_bytes,
        "state": plan.state_bytes,
        "arenas": (instances + model.contexts) * plan.peak_bytes,
    }


def _batch_symbol(ref: VersionRef, settings: VersionSettings, manifest: Manifest) -> str:
    """The symbol to batch along, empty for none."""
    proved = "" if manifest.packed_symbol else manifest.batch_symbol
    if settings.batch_symbol is not None and settings.batch_symbol != proved:
        reason = f"rows are proved along {proved!r}" if proved else _unproved(manifest)
        raise BatchingRefused(version=str(ref), symbol=settings.batch_symbol, reason=reason)
    return proved


def _unproved(manifest: Manifest) -> str:
    if manifest.packed_symbol:
        return f"its inputs are packed along {manifest.packed_symbol!r}: only texts can be joined there"
    return manifest.unbatched_because or "the compiler has not proved its rows independent"


def _specs(bindings: Sequence[Binding], manifest: Manifest) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=binding.name,
            datatype=datatype_of(binding.dtype),
            shape=tuple(int(evaluate(d, {})) if is_static(d) else -1 for d in binding.shape),
            bounds=tuple(int(evaluate(d, manifest.symbols)) for d in binding.shape),
        )
        for binding in bindings
    )


def _filled(binding: Binding, manifest: Manifest, generator: np.random.Generator) -> np.ndarray:
    shape = tuple(evaluate(d, manifest.symbols) for d in binding.shape)
    dtype = binding.dtype.numpy
    if dtype.kind != "f":
        return np.zeros(shape, dtype)
    drawn = generator.random(shape, np.float64 if dtype == np.float64 else np.float32)
    drawn *= 2.0
    drawn -= 1.0
    return drawn.astype(dtype, copy=False)
