"""The processor of this machine as a backend: parts become native executables of one instruction set."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from plumbline.compiler.build import BuildOptions, compile_graph
from plumbline.compiler.lowering.link import JitLibrary
from plumbline.compiler.partitioning.parts import as_graph
from plumbline.contracts.dims import evaluate
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.errors import PlumblineError
from plumbline.execution.artifact import Manifest, read_manifest
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
from plumbline.execution.code import CodeLibrary, SharedLibrary, lane_code
from plumbline.execution.context import ExecutionContext
from plumbline.execution.partitioned_record import HOST
from plumbline.hardware.cpu import CpuDevice
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.registry import get_operation, operations

__all__ = ["HostTensor", "NativeBackend"]

_FAILURES = (
    FailureMode(
        code="backend.code_generation", recoverability="permanent", when="LLVM refuses what a kernel emits"
    ),
    FailureMode(
        code="backend.code_load", recoverability="permanent", when="the loader refuses the native code"
    ),
    FailureMode(code="resource.thread_start", recoverability="transient", when="there are no more threads"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTensor:
    """A tensor in host memory."""

    array: np.ndarray = field(repr=False)
    dtype: DType

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""
        return self.array.shape

    def release(self) -> None:
        """Nothing to do: the array goes with its last reader."""


class NativeBackend:
    """Native code for one target, run on a CPU device.

    Args:
        device: where streams are opened; stays the caller's.
        target: instruction set that everything is compiled for.
        threads: threads of one run.
        name: unique name.
        memory_bytes: most bytes of one call, or None for no limit of its own.
    """

    failure_modes = _FAILURES
    memory = HOST

    def __init__(
        self,
        device: CpuDevice,
        target: TargetDescription,
        *,
        threads: int = 1,
        name: str = "cpu",
        memory_bytes: int | None = None,
    ) -> None:
        self.name, self.device, self.target, self.threads = name, device, target, threads
        self.limits = ResourceLimits(memory_bytes=memory_bytes)
        self._folder = Path(tempfile.mkdtemp(prefix="plumbline-backend-"))
        self._calls: dict[str, NativePart] = {}
        self._parts: list[NativePart] = []
        self._lock = threading.RLock()
        self._closed = False

    @property
    def specialisation(self) -> Specialisation:
        """Code for one instruction set."""
        return Specialisation(
            backend=self.name, path=RetargetPath.VENDOR, target=self.target.name,
            reason=f"emitted for {self.target.name} on {self.target.architecture}",
        )  # fmt: skip

    @cached_property
    def _capabilities(self) -> dict[str, OperationCapability]:
        return {
            c.name: OperationCapability(
                operation=c.name,
                dtypes=c.dtypes,
                relative=c.precision.relative,
                absolute=c.precision.absolute,
            )
            for c in operations()
        }

    def get_capabilities(self) -> list[OperationCapability]:
        """Every registered operation, with the precision that its contract declares."""
        return list(self._capabilities.values())

    def find_refusal(self, signature: StepSignature) -> str | None:
        """What the operation's own kernel says to these types and attributes."""
        reason = find_capability_refusal(self._capabilities, signature)
        if reason is not None:
            return reason
        kernel = get_operation(signature.operation).kernel
        if kernel is None:
            return None
        try:
            kernel.work(signature, self.target)
        except PlumblineError as error:
            return error.message
        return None

    async def execute(self, operation: StepSignature, params: Sequence[np.ndarray | None]) -> OperationResult:
        """Run one operation natively, compiled on its first use; see `ComputeBackend.execute`."""
        self.verify_open()
        verify_call(self, operation, params)
        self._verify_room(operation)
        return await asyncio.to_thread(self._execute, operation, tuple(params))

    def place(self, array: np.ndarray, dtype: DType) -> HostTensor:
        """The array itself."""
        self.verify_open()
        return HostTensor(array=array, dtype=dtype)

    def fetch(self, tensor: PlacedTensor) -> np.ndarray:
        """The array itself."""
        self.verify_open()
        if not isinstance(tensor, HostTensor):
            raise TypeError(f"backend {self.name} was given a tensor that it did not place")
        return tensor.array

    def compile(self, part: GraphPart) -> NativePart:
        """Compile a part for the target.

        Raises:
            OperationUnsupported: a kernel refuses one of its nodes.
            CodeGenerationFailed, CodeLoadFailed: see `failure_modes`.
        """
        self.verify_open()
        for node in part.nodes:
            reason = self.find_refusal(node.signature)
            if reason is not None:
                operation = f"{node.signature.operation} ({node.name})"
                raise OperationUnsupported(backend=self.name, operation=operation, reason=reason)
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        compile_graph(as_graph(part), BuildOptions(target=self.target, threads=self.threads), folder)
        compiled = NativePart(self, folder)
        with self._lock:
            self._parts.append(compiled)
        return compiled

    def close(self) -> None:
        """Close every part and remove their files."""
        with self._lock:
            self._closed = True
            for part in self._parts:
                part.close()
            self._parts.clear()
            self._calls.clear()
            shutil.rmtree(self._folder, ignore_errors=True)

    def verify_open(self) -> None:
        """Raise BackendClosed after `close`."""
        if self._closed:
            raise BackendClosed(backend=self.name)

    def _execute(self, operation: StepSignature, params: tuple[np.ndarray | None, ...]) -> OperationResult:
        part = self._call(operation)
        began_ns = time.monotonic_ns()
        inputs = {
            f"in{i}": HostTensor(array=array, dtype=type_.dtype)
            for i, (type_, array) in enumerate(zip(operation.inputs, params, strict=True))
            if type_ is not None and array is not None
        }
        results = part.run(inputs, {})
        outputs = tuple(self.fetch(results[f"out{i}"]) for i in range(len(operation.outputs)))
        took_ns = time.monotonic_ns() - began_ns
        return OperationResult(outputs=outputs, backend=self.name, duration_ns=took_ns)

    def _call(self, operation: StepSignature) -> NativePart:
        """One operation as a part, compiled once for each signature."""
        key = repr(operation)
        with self._lock:
            if key not in self._calls:
                self._calls[key] = self.compile(_single(operation))
            return self._calls[key]

    def _verify_room(self, operation: StepSignature) -> None:
        limit = self.limits.memory_bytes
        types = [t for t in (*operation.inputs, *operation.outputs) if t is not None]
        required = sum(evaluate(t.elements, {}) * t.dtype.size_bytes for t in types)
        if limit is not None and required > limit:
            raise BackendMemoryRefused(
                backend=self.name, operation=operation.operation, required_bytes=required, limit_bytes=limit
            )


class NativePart:
    """A part as an executable with one context and one stream."""

    def __init__(self, backend: NativeBackend, folder: Path) -> None:
        manifest = read_manifest(folder)
        self._backend, self._lock, self._closed = backend, threading.Lock(), False
        self._library = _library(folder, manifest)
        path = folder / "weights.bin"
        self._weights = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
        code = lane_code(self._library)
        label = f"{backend.name} {folder.name}"
        self._stream = backend.device.open_stream(label, threads=manifest.threads, lane_code=code)
        entries = tuple(self._library.address(plain) for plain, _ in manifest.segments)
        weights = self._weights.ctypes.data if self._weights.size else 0
        self._context = ExecutionContext(manifest, entries, self._stream, weights, 0)
        self._dtypes = {binding.name: binding.dtype for binding in manifest.outputs}

    @property
    def specialisation(self) -> Specialisation:
        """That of the backend."""
        return self._backend.specialisation

    def run(self, inputs: Mapping[str, PlacedTensor], symbols: Mapping[str, int]) -> dict[str, PlacedTensor]:
        """Run once; one run at a time. See `CompiledPart.run`."""
        self._backend.verify_open()
        with self._lock:
            self._context.set_symbols(symbols)
            for name, view in self._context.inputs.items():
                np.copyto(view, self._backend.fetch(inputs[name]))
            self._context.run()
            return {
                name: HostTensor(array=view.copy(), dtype=self._dtypes[name])
                for name, view in self._context.outputs.items()
            }

    def close(self) -> None:
        """Close the context and the stream."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._context.close()
            self._stream.close()


def _library(folder: Path, manifest: Manifest) -> CodeLibrary:
    shared = folder / "code.so"
    if shared.is_file():
        return SharedLibrary(shared)
    return JitLibrary((folder / "code.o").read_bytes(), manifest.name)


def _single(operation: StepSignature) -> GraphPart:
    inputs = tuple(None if t is None else f"in{i}" for i, t in enumerate(operation.inputs))
    outputs = tuple(f"out{i}" for i in range(len(operation.outputs)))
    types = {n: t for n, t in zip(inputs, operation.inputs, strict=True) if n is not None and t is not None}
    node = PartNode(name=operation.operation, signature=operation, inputs=inputs, outputs=outputs)
    return GraphPart(
        name=operation.operation, symbols={}, nodes=(node,),
        types={**types, **dict(zip(outputs, operation.outputs, strict=True))},
        inputs=tuple(types), outputs=outputs, constants={},
    )  # fmt: skip
