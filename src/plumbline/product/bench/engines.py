"""The engines that are compared: each prepares a model once and then runs it over bound buffers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from plumbline.errors import BackendError

__all__ = ["ENGINES", "OURS", "PeerMissing", "PeerRefused", "Prepared", "Request", "prepare", "version_of"]

OURS = "plumbline"


@dataclass(eq=False, kw_only=True)
class PeerMissing(BackendError):
    """A peer to compare with is unknown or not installed."""

    code = "backend.peer_missing"
    owner = "product"
    template = "peer {peer!r} cannot be measured: {reason}"

    peer: str
    reason: str


@dataclass(eq=False, kw_only=True)
class PeerRefused(BackendError):
    """A peer does not take a model."""

    code = "backend.peer_refused"
    owner = "product"
    template = "peer {peer!r} refused the model: {reason}"

    peer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an engine prepares: a model file, its inputs, and the number of threads."""

    path: Path
    inputs: Mapping[str, np.ndarray]
    threads: int


class Prepared(Protocol):
    """A model ready to run."""

    def run(self) -> None:
        """Run once over the bound buffers."""

    def outputs(self) -> dict[str, np.ndarray]:
        """Copies of the outputs of the last run."""

    def close(self) -> None:
        """Let go of it."""


class _Plumbline:
    def __init__(self, request: Request) -> None:
        from plumbline.product.compose import load

        self._model = load(request.path, threads=request.threads)
        self._context = self._model.context()
        for name, array in request.inputs.items():
            self._context.inputs[name][...] = array
        self.run = self._context.run

    def outputs(self) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self._context.outputs.items()}

    def close(self) -> None:
        self._model.close()


class _OnnxRuntime:
    """All graph optimisations; bound inputs and outputs, so that nothing is copied or made in a run."""

    def __init__(self, request: Request) -> None:
        ort = importlib.import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = request.threads, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        session = ort.InferenceSession(str(request.path), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in session.get_outputs()]
        found = session.run(self._names, dict(request.inputs))
        self._bound = [ort.OrtValue.ortvalue_from_numpy(array) for array in request.inputs.values()]
        self._results = [ort.OrtValue.ortvalue_from_numpy(array) for array in found]
        binding = session.io_binding()
        for name, value in zip(request.inputs, self._bound, strict=True):
            binding.bind_ortvalue_input(name, value)
        for name, value in zip(self._names, self._results, strict=True):
            binding.bind_ortvalue_output(name, value)
        self._session, self._binding = session, binding

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def outputs(self) -> dict[str, np.ndarray]:
        return {n: v.numpy().copy() for n, v in zip(self._names, self._results, strict=True)}

    def close(self) -> None:
        del self._binding, self._session, self._results, self._bound


class _OpenVino:
    """Latency hint, float32, one stream, no pinning, one request that is used again with shared tensors."""

    def __init__(self, request: Request) -> None:
        ov = importlib.import_module("openvino")
        compiled = ov.Core().compile_model(str(request.path), "CPU", _openvino_properties(request.threads))
        infer = compiled.create_infer_request()
        self._arrays = [np.ascontiguousarray(array) for array in request.inputs.values()]
        for name, array in zip(request.inputs, self._arrays, strict=True):
            infer.set_tensor(name, ov.Tensor(array, shared_memory=True))
        self._compiled, self._request = compiled, infer
        self.run = _direct_call(infer)

    def outputs(self) -> dict[str, np.ndarray]:
        ports = self._compiled.outputs
        return {_name(p): np.array(self._request.get_tensor(p).data) for p in ports}

    def close(self) -> None:
        del self.run, self._request, self._compiled


def _openvino_properties(threads: int) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }


def _direct_call(request: Any) -> Callable[[], None]:
    """The native method below the convenience layer, which would build a dictionary in each call."""
    native = super(type(request), request).infer
    return lambda: native({}, share_outputs=True, decode_strings=False)


def _name(port: Any) -> str:
    return str(port.any_name)


ENGINES: Mapping[str, Callable[[Request], Prepared]] = {
    OURS: _Plumbline,
    "onnxruntime": _OnnxRuntime,
    "openvino": _OpenVino,
}


def prepare(engine: str, request: Request) -> Prepared:
    """Prepare a model in one engine.

    Raises:
        PeerMissing: the engine is unknown or not installed.
        PeerRefused: a peer refuses the model.
        PlumblineError: our runtime refuses it.
    """
    if engine not in ENGINES:
        raise PeerMissing(peer=engine, reason=f"the engines are: {', '.join(ENGINES)}")
    try:
        return ENGINES[engine](request)
    except ImportError as error:
        raise PeerMissing(peer=engine, reason="it is not installed") from error
    except _errors_of(engine) as error:
        raise PeerRefused(peer=engine, reason=" ".join(str(error).split())[:400]) from error


def _errors_of(engine: str) -> tuple[type[Exception], ...]:
    """What a peer raises for a model that it does not take."""
    if engine == "openvino":
        return (RuntimeError,)
    if engine == "onnxruntime":
        state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
        return tuple(v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception))
    return ()


def version_of(engine: str) -> str:
    """Version of an engine that is installed.

    Raises:
        PeerMissing: it is not.
    """
    if engine == OURS:
        from plumbline import __version__

        return __version__
    try:
        return metadata.version(engine)
    except metadata.PackageNotFoundError as error:
        raise PeerMissing(peer=engine, reason="it is not installed") from error
