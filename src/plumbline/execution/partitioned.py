"""A graph that runs on several backends: its parts, and the copies between their memories.

Two decisions are kept apart (requirement L1-07). *Specialisation* is static: for each part, the backends that
it was compiled for and the target of each. *Dispatch* is dynamic: the backend that runs a part in one run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

import numpy as np

from plumbline.contracts.dims import Dim, evaluate, free_symbols, sub, symbol
from plumbline.contracts.tensors import TensorType
from plumbline.errors import ValidationError
from plumbline.execution.backend import (
    CompiledPart,
    ComputeBackend,
    GraphPart,
    PartConstant,
    PlacedTensor,
    Specialisation,
)
from plumbline.execution.backend_refusals import DispatchRefused
from plumbline.execution.partitioned_record import (
    HOST,
    BuildRecord,
    CopyKind,
    Dispatch,
    MemoryCopy,
    RunRecord,
)

__all__ = ["PartitionedInputRefused", "PartitionedModel", "PartitionedRun", "PlacedPart"]


@dataclass(eq=False, kw_only=True)
class PartitionedInputRefused(ValidationError):
    """An input array is missing, unknown, or of another type or shape."""

    code = "validation.partitioned_input"
    owner = "execution"
    template = "input {input!r} of model {model!r}: {reason}"

    model: str
    input: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPart:
    """A part with the backends that it is compiled for; `backend` runs it unless a run says otherwise."""

    part: GraphPart
    backend: str
    compiled: Mapping[str, CompiledPart]

    @property
    def specialisations(self) -> tuple[Specialisation, ...]:
        """What each compiled form is made for."""
        return tuple(compiled.specialisation for compiled in self.compiled.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionedRun:
    """Outputs of one run by name, and what was decided and copied for it."""

    outputs: Mapping[str, np.ndarray]
    record: RunRecord


class PartitionedModel:
    """Parts in order, over the backends that run them. Owns the compiled parts, not the backends.

    Args:
        name: for people.
        record: of the build.
        parts: in an order in which producers come first.
        backends: by name.
        inputs: caller's name -> tensor.
        outputs: caller's name -> tensor.
        types: of every input tensor.
        constants: of outputs that are constants.
        symbols: upper bounds.
    """

    def __init__(
        self,
        *,
        name: str,
        record: BuildRecord,
        parts: tuple[PlacedPart, ...],
        backends: Mapping[str, ComputeBackend],
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        types: Mapping[str, TensorType],
        constants: Mapping[str, PartConstant],
        symbols: Mapping[str, int],
    ) -> None:
        self.name, self.record, self.parts = name, record, parts
        self._backends, self._constants = MappingProxyType(dict(backends)), constants
        self._inputs, self._outputs, self._types, self._symbols = inputs, outputs, types, symbols

    def run(
        self, inputs: Mapping[str, np.ndarray], *, dispatch: Mapping[str, str] | None = None
    ) -> PartitionedRun:
        """Run every part in order.

        Args:
            inputs: name -> array.
            dispatch: part -> backend, for parts that shall not run where the build placed them.

        Raises:
            PartitionedInputRefused: naming the input.
            DispatchRefused: a part is unknown or not compiled for that backend.
        """
        decided = self._dispatch(dispatch or {})
        symbols = self._checked(inputs)
        transfers = _Transfers(self._readers())
        try:
            for name, tensor in self._inputs.items():
                transfers.put_host(tensor, np.ascontiguousarray(inputs[name]).reshape(inputs[name].shape))
            for placed, choice in zip(self.parts, decided, strict=True):
                self._run_part(placed, self._backends[choice.backend], symbols, transfers)
            outputs = {name: self._output(tensor, transfers) for name, tensor in self._outputs.items()}
        finally:
            transfers.release()
        record = RunRecord(dispatch=decided, copies=tuple(transfers.copies), symbols=symbols)
        return PartitionedRun(outputs=outputs, record=record)

    def close(self) -> None:
        """Give every compiled part back."""
        for placed in self.parts:
            for compiled in placed.compiled.values():
                compiled.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _dispatch(self, wanted: Mapping[str, str]) -> tuple[Dispatch, ...]:
        known = {placed.part.name for placed in self.parts}
        for part in wanted.keys() - known:
            raise DispatchRefused(part=part, backend=wanted[part], compiled="nothing: there is no such part")
        decided = []
        for placed in self.parts:
            name = placed.part.name
            chosen = wanted.get(name, placed.backend)
            if chosen not in placed.compiled:
                raise DispatchRefused(part=name, backend=chosen, compiled=", ".join(placed.compiled))
            reason = "asked for by the caller" if name in wanted else "placed there by the build"
            decided.append(
                Dispatch(part=name, backend=chosen, candidates=tuple(placed.compiled), reason=reason)
            )
        return tuple(decided)

    def _run_part(
        self,
        placed: PlacedPart,
        backend: ComputeBackend,
        symbols: Mapping[str, int],
        transfers: _Transfers,
    ) -> None:
        part = placed.part
        kinds = {t: CopyKind.INPUT if t in self._inputs.values() else CopyKind.BOUNDARY for t in part.inputs}
        operands = {t: transfers.take(t, backend, part, kinds[t]) for t in part.inputs}
        results = placed.compiled[backend.name].run(operands, symbols)
        for tensor in part.outputs:
            transfers.put(tensor, results[tensor], backend)
        for tensor in part.inputs:
            transfers.finish_reader(tensor)

    def _output(self, tensor: str, transfers: _Transfers) -> np.ndarray:
        constant = self._constants.get(tensor)
        if constant is not None:
            return np.array(constant.read())
        return np.array(transfers.on_host(tensor, CopyKind.OUTPUT))

    def _readers(self) -> Counter[str]:
        readers = Counter(tensor for placed in self.parts for tensor in placed.part.inputs)
        readers.update(self._outputs.values())
        return readers

    def _checked(self, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Types and extents as declared; the values of the symbols."""
        for name in (*(self._inputs.keys() ^ inputs.keys()),):
            reason = "it is missing" if name in self._inputs else "there is no such input"
            raise PartitionedInputRefused(model=self.name, input=name, reason=reason)
        symbols = dict(self._symbols)
        pairs: list[tuple[str, Dim, int]] = []
        for name, tensor in self._inputs.items():
            type_, array = self._types[tensor], inputs[name]
            if array.dtype != type_.dtype.numpy or array.ndim != type_.rank:
                reason = f"an array of {array.dtype}{list(array.shape)} was given for {type_}"
                raise PartitionedInputRefused(model=self.name, input=name, reason=reason)
            pairs += [(name, dim, n) for dim, n in zip(type_.shape, array.shape, strict=True)]
        solved: dict[str, int] = {}
        for _, dim, extent in pairs:
            names = tuple(free_symbols(dim))
            rest = sub(dim, symbol(names[0])) if len(names) == 1 else None
            if isinstance(rest, int):
                solved.setdefault(names[0], extent - rest)
        symbols.update(solved)
        for name, dim, extent in pairs:
            over = [s for s in free_symbols(dim) if not 0 <= symbols[s] <= self._symbols[s]]
            if over or evaluate(dim, symbols) != extent:
                reason = f"extent {extent} does not fit {dim} with bounds {dict(self._symbols)}"
                raise PartitionedInputRefused(model=self.name, input=name, reason=reason)
        return symbols


class _Transfers:
    """Where every tensor of one run is, and each copy. Owns device tensors until their last reader."""

    def __init__(self, readers: Counter[str]) -> None:
        self.copies: list[MemoryCopy] = []
        self._readers = readers
        self._host: dict[str, np.ndarray] = {}
        self._placed: dict[str, dict[str, tuple[PlacedTensor, ComputeBackend]]] = {}

    def put_host(self, tensor: str, array: np.ndarray) -> None:
        self._host[tensor] = array

    def put(self, tensor: str, result: PlacedTensor, backend: ComputeBackend) -> None:
        if backend.memory == HOST:
            self._host[tensor] = backend.fetch(result)
        else:
            self._placed.setdefault(tensor, {})[backend.memory] = (result, backend)

    def take(self, tensor: str, backend: ComputeBackend, part: GraphPart, kind: CopyKind) -> PlacedTensor:
        """The tensor in a backend's memory, copied there on its first use."""
        held = self._placed.get(tensor, {}).get(backend.memory)
        if held is not None:
            return held[0]
        array = self.on_host(tensor, kind)
        placed = backend.place(array, part.types[tensor].dtype)
        if backend.memory != HOST:
            self.put(tensor, placed, backend)
            self._note(tensor, HOST, backend.memory, array, kind)
        return placed

    def on_host(self, tensor: str, kind: CopyKind) -> np.ndarray:
        """The tensor in host memory, copied there on its first use."""
        if tensor not in self._host:
            placed, owner = next(iter(self._placed[tensor].values()))
            self._host[tensor] = owner.fetch(placed)
            self._note(tensor, owner.memory, HOST, self._host[tensor], kind)
        return self._host[tensor]

    def finish_reader(self, tensor: str) -> None:
        """One reader is done; after the last one every copy is given back."""
        self._readers[tensor] -= 1
        if self._readers[tensor] == 0:
            self._host.pop(tensor, None)
            for placed, _ in self._placed.pop(tensor, {}).values():
                placed.release()

    def release(self) -> None:
        for held in self._placed.values():
            for placed, _ in held.values():
                placed.release()
        self._placed.clear()

    def _note(self, tensor: str, source: str, target: str, array: np.ndarray, kind: CopyKind) -> None:
        self.copies.append(
            MemoryCopy(tensor=tensor, source=source, target=target, size_bytes=array.nbytes, kind=kind)
        )
