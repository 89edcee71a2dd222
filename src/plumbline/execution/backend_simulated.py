"""A backend without hardware: reference kernels on a simulated device, in virtual time.

It computes slowly and exactly as the references do, and it has memory of its own, so that copies are real and
counted. It is for tests of partitioning and of failures, never for production runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from plumbline.contracts.dims import Expr, evaluate
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.execution.backend import (
    FailureMode,
    GraphPart,
    OperationCapability,
    OperationResult,
    PartNode,
    PlacedTensor,
    ResourceLimits,
    RetargetPath,
    Specialisation,
    find_capability_refusal,
    verify_call,
)
from plumbline.execution.backend_refusals import BackendClosed, BackendMemoryRefused, OperationUnsupported
from plumbline.hardware.memory import DeviceBuffer
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.hardware.work import CallableLaunch
from plumbline.kernels.registry import get_operation, operations

__all__ = ["SimulatedBackend", "SimulatedTensor"]

LAUNCH_NS = 1_000
"""Virtual cost of a launch, to which each result element adds one nanosecond."""

_FAILURES = (
    FailureMode(code="backend.device_lost", recoverability="fatal", when="the fault plan loses the device"),
    FailureMode(code="execution.launch_failed", recoverability="permanent", when="a reference raises"),
    FailureMode(code="backend.driver_call", recoverability="permanent", when="the driver refuses a call"),
    FailureMode(
        code="resource.device_memory_exhausted", recoverability="transient", when="device memory is full"
    ),
)


@dataclass(slots=True, kw_only=True)
class SimulatedTensor:
    """A tensor in a buffer of the simulated device; `buffer` is None for a tensor without elements."""

    shape: tuple[int, ...]
    dtype: DType
    buffer: DeviceBuffer | None = field(repr=False)

    def release(self) -> None:
        """Give the buffer back."""
        if self.buffer is not None:
            self.buffer.close()


class SimulatedBackend:
    """Reference kernels over buffers of a simulated device.

    Args:
        device: not unified, so that copies are counted; closed with the backend.
        name: unique name.
        operations: names of the operations that it has; all with a reference when None.
    """

    failure_modes = _FAILURES

    def __init__(
        self, device: SimulatedDevice, *, name: str = "simulated", operations: Collection[str] | None = None
    ) -> None:
        self.name, self.device = name, device
        self._wanted = None if operations is None else frozenset(operations)
        self._stream = device.open_stream(f"{name} backend")
        self._turn = threading.RLock()
        self._closed = False

    @property
    def memory(self) -> str:
        """Its own: nothing here is host memory."""
        return self.name

    @property
    def limits(self) -> ResourceLimits:
        """The memory of the simulated device; one run at a time."""
        return ResourceLimits(memory_bytes=self.device.memory.capacity_bytes)

    @property
    def specialisation(self) -> Specialisation:
        """Portable: references know no processor."""
        return Specialisation(
            backend=self.name, path=RetargetPath.PORTABLE, target="reference",
            reason="reference kernels are the same on every machine",
        )  # fmt: skip

    @cached_property
    def _capabilities(self) -> dict[str, OperationCapability]:
        return {
            c.name: OperationCapability(
                operation=c.name, dtypes=c.dtypes - {DType.BFLOAT16}, relative=c.precision.relative,
                absolute=c.precision.absolute,
            )
            for c in operations()
            if self._wanted is None or c.name in self._wanted
        }  # fmt: skip

    def get_capabilities(self) -> list[OperationCapability]:
        """The chosen operations; bfloat16 is left out, because references see other types for it."""
        return list(self._capabilities.values())

    def find_refusal(self, signature: StepSignature) -> str | None:
        """Why a call cannot be simulated, or None."""
        reason = find_capability_refusal(self._capabilities, signature)
        types = (*signature.inputs, *signature.outputs)
        if reason is None and any(t is not None and t.dtype is DType.BFLOAT16 for t in types):
            return "element type bfloat16 is not simulated"
        return reason

    async def execute(self, operation: StepSignature, params: Sequence[np.ndarray | None]) -> OperationResult:
        """Run one operation; the duration is virtual. See `ComputeBackend.execute`."""
        self.verify_open()
        verify_call(self, operation, params)
        self._verify_room(operation)
        return await asyncio.to_thread(self._execute, operation, tuple(params))

    def place(self, array: np.ndarray, dtype: DType) -> SimulatedTensor:
        """Copy an array to the device."""
        self.verify_open()
        dense = np.ascontiguousarray(array)
        data = dense.reshape(-1).view(np.uint8).data
        buffer = self.device.place(data, label=f"{self.name} tensor") if dense.size else None
        return SimulatedTensor(shape=array.shape, dtype=dtype, buffer=buffer)

    def fetch(self, tensor: PlacedTensor) -> np.ndarray:
        """Copy a tensor of this backend to the host."""
        self.verify_open()
        own = self._own(tensor)
        data = b"" if own.buffer is None else self.device.copy_out(own.buffer)
        return _array(data, own)

    def compile(self, part: GraphPart) -> SimulatedPart:
        """Place the constants of a part; its references are ready as they are."""
        self.verify_open()
        for node in part.nodes:
            reason = self.find_refusal(node.signature)
            if reason is not None:
                operation = f"{node.signature.operation} ({node.name})"
                raise OperationUnsupported(backend=self.name, operation=operation, reason=reason)
        return SimulatedPart(self, part)

    def close(self) -> None:
        """Close the device with everything on it."""
        self._closed = True
        self.device.close()

    def verify_open(self) -> None:
        """Raise BackendClosed after `close`."""
        if self._closed:
            raise BackendClosed(backend=self.name)

    def launch_node(
        self, node: PartNode, operands: Sequence[SimulatedTensor | None], symbols: Mapping[str, int]
    ) -> tuple[SimulatedTensor, ...]:
        """Compute one node in stream order, into new buffers."""
        results = tuple(self._empty(t, symbols) for t in node.signature.outputs)
        cost_ns = LAUNCH_NS + sum(int(np.prod(r.shape)) for r in results)
        work = partial(self._compute, node.signature, tuple(operands), results, symbols)
        try:
            with self._turn:
                self._stream.run(CallableLaunch(function=work, label=node.name, cost_ns=cost_ns))
        except BaseException:
            for result in results:
                result.release()
            raise
        return results

    def _compute(
        self,
        signature: StepSignature,
        operands: Sequence[SimulatedTensor | None],
        results: Sequence[SimulatedTensor],
        symbols: Mapping[str, int],
    ) -> None:
        arrays = [None if t is None else self._seen(t) for t in operands]
        attributes = {name: _concrete(value, symbols) for name, value in signature.attributes.items()}
        made = get_operation(signature.operation).reference(arrays, attributes)
        for result, array in zip(results, made, strict=True):
            dense = np.ascontiguousarray(array, result.dtype.numpy)
            if dense.reshape(np.shape(array)).shape != result.shape:
                raise ValueError(f"the reference made {np.shape(array)}, expected {result.shape}")
            if result.buffer is not None:
                self.device.store(result.buffer, dense.reshape(-1).view(np.uint8).data)

    def _seen(self, tensor: SimulatedTensor) -> np.ndarray:
        """A tensor as a kernel on the device reads it: no copy is counted."""
        data = b"" if tensor.buffer is None else self.device.load(tensor.buffer)
        return _array(data, tensor)

    def _empty(self, type_: TensorType, symbols: Mapping[str, int]) -> SimulatedTensor:
        shape = tuple(evaluate(d, symbols) for d in type_.shape)
        size_bytes = int(np.prod(shape, dtype=np.int64)) * type_.dtype.size_bytes
        label = f"{self.name} result"
        buffer = self.device.memory.allocate(size_bytes, label=label) if size_bytes else None
        return SimulatedTensor(shape=shape, dtype=type_.dtype, buffer=buffer)

    def _execute(self, operation: StepSignature, params: tuple[np.ndarray | None, ...]) -> OperationResult:
        placed: list[SimulatedTensor | None] = []
        results: tuple[SimulatedTensor, ...] = ()
        with self._turn:
            began_ns = self.device.clock.now_ns
            try:
                for type_, array in zip(operation.inputs, params, strict=True):
                    placed.append(None if type_ is None or array is None else self.place(array, type_.dtype))
                node = PartNode(name=operation.operation, signature=operation, inputs=(), outputs=())
                results = self.launch_node(node, placed, {})
                outputs = tuple(self.fetch(t) for t in results)
            finally:
                for tensor in (*placed, *results):
                    if tensor is not None:
                        tensor.release()
            took_ns = self.device.clock.now_ns - began_ns
        return OperationResult(outputs=outputs, backend=self.name, duration_ns=took_ns)

    def _verify_room(self, operation: StepSignature) -> None:
        sizes = [evaluate(t.elements, {}) * t.dtype.size_bytes
                 for t in (*operation.inputs, *operation.outputs) if t is not None]  # fmt: skip
        limit = self.device.memory.capacity_bytes
        if sum(sizes) > limit:
            raise BackendMemoryRefused(
                backend=self.name, operation=operation.operation, required_bytes=sum(sizes), limit_bytes=limit
            )

    def _own(self, tensor: PlacedTensor) -> SimulatedTensor:
        if not isinstance(tensor, SimulatedTensor):
            raise TypeError(f"backend {self.name} was given a tensor that it did not place")
        return tensor


class SimulatedPart:
    """A part as a list of references. Owns the placed constants."""

    def __init__(self, backend: SimulatedBackend, part: GraphPart) -> None:
        self._backend, self._part = backend, part
        self._constants = {
            name: backend.place(constant.read(), part.types[name].dtype)
            for name, constant in part.constants.items()
        }

    @property
    def specialisation(self) -> Specialisation:
        """Portable."""
        return self._backend.specialisation

    def run(self, inputs: Mapping[str, PlacedTensor], symbols: Mapping[str, int]) -> dict[str, PlacedTensor]:
        """Run node by node; see `CompiledPart.run`."""
        self._backend.verify_open()
        own = {name: self._backend._own(tensor) for name, tensor in inputs.items()}
        known: dict[str, SimulatedTensor] = {**self._constants, **own}
        made: dict[str, SimulatedTensor] = {}
        try:
            for node in self._part.nodes:
                operands = [None if t is None else known[t] for t in node.inputs]
                results = self._backend.launch_node(node, operands, symbols)
                made.update(zip(node.outputs, results, strict=True))
                known.update(made)
        except BaseException:
            for tensor in made.values():
                tensor.release()
            raise
        for name, tensor in made.items():
            if name not in self._part.outputs:
                tensor.release()
        return {name: known[name] for name in self._part.outputs}

    def close(self) -> None:
        """Give the constants back."""
        for tensor in self._constants.values():
            tensor.release()


def _array(data: bytes, tensor: SimulatedTensor) -> np.ndarray:
    return np.frombuffer(data, tensor.dtype.numpy).reshape(tensor.shape).copy()


def _concrete(attribute: Any, symbols: Mapping[str, int]) -> Any:
    if isinstance(attribute, Expr):
        return evaluate(attribute, symbols)
    return tuple(_concrete(a, symbols) for a in attribute) if isinstance(attribute, tuple) else attribute
