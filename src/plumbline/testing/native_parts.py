"""Fakes behind the native API: an engine that computes `2 * x`, models, workers and decision logs.

They keep the promises of `serving.ports` and do something real and small, so that a test can tell what came
through: the fake engine doubles numbers and reverses texts.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plumbline.contracts.clock import Clock, MonotonicClock
from plumbline.contracts.inference import InferenceCall, InferenceResult, InferenceTiming, VersionRef
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionKind, VersionState, VersionStatus
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import ValidationError
from plumbline.serving.devices.info import DeviceCapabilities, DeviceFacts
from plumbline.serving.ports import PlanPicture, VersionStatistics, WorkerState, WorkerStatus

__all__ = [
    "FakeDecisions",
    "FakeInference",
    "FakeModels",
    "FakePlans",
    "FakeWorkers",
    "NothingDecided",
    "SimulatedDevices",
    "VersionNotThere",
]


@dataclass(eq=False, kw_only=True)
class VersionNotThere(ValidationError):
    """The fake directory has no such version."""

    code = "validation.fake_version"
    owner = "testing"
    http_status = 404
    template = "there is no {name!r}"

    name: str


@dataclass(eq=False, kw_only=True)
class NothingDecided(ValidationError):
    """The fake decision log does not know the request."""

    code = "validation.fake_decision"
    owner = "testing"
    http_status = 404
    template = "nothing was decided about {request!r}"

    request: str


@dataclass(slots=True, kw_only=True)
class FakeInference:
    """`InferenceService`. Owns what it was asked.

    Attributes:
        gate: calls wait until it is set.
        failures: errors to raise, one for each call, before any succeeds.
        calls: every call that came.
        cancelled: ids of calls whose awaiting task was cancelled.
    """

    gate: asyncio.Event | None = None
    failures: list[Exception] = field(default_factory=list)
    calls: list[InferenceCall] = field(default_factory=list)
    cancelled: list[RequestId] = field(default_factory=list)
    clock: Clock = field(default_factory=MonotonicClock)

    async def infer(self, call: InferenceCall) -> InferenceResult:
        """Numbers doubled, texts reversed."""
        self.calls.append(call)
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(call.id)
            raise
        if self.failures:
            raise self.failures.pop(0)
        outputs = {name.replace("x", "y"): _answer(array) for name, array in call.inputs.items()}
        wanted = {name: array for name, array in outputs.items() if not call.wanted or name in call.wanted}
        now_ns = self.clock.now_ns()
        return InferenceResult(
            id=call.id,
            served_by=VersionRef(model=call.model, version=call.version or "1"),
            outputs=wanted,
            timing=InferenceTiming(arrived_ns=call.arrived_ns, launched_ns=now_ns, finished_ns=now_ns),
        )

    def cancel(self, request: RequestId) -> bool:
        """Nothing is kept, so nothing can be cancelled by id."""
        return False


class FakeModels:
    """`ModelDirectory` with `double` (numbers) and `reverse` (texts), both ready at version 1."""

    def __init__(self) -> None:
        self.states = {
            VersionRef(model="double", version="1"): VersionState.READY,
            VersionRef(model="double", version="2"): VersionState.FOUND,
            VersionRef(model="reverse", version="1"): VersionState.READY,
        }
        self.digest = "0" * 64

    def statuses(self) -> Sequence[VersionStatus]:
        """Three versions of two models."""
        return [VersionStatus(ref=ref, state=state, since_wall_ns=1) for ref, state in self.states.items()]

    def metadata(self, model: str, version: str | None = None) -> ModelMetadata:
        """Of a ready version."""
        ref = VersionRef(model=model, version=version or "1")
        if self.states.get(ref) is not VersionState.READY:
            raise VersionNotThere(name=str(ref))
        is_text = model == "reverse"
        datatype = "BYTES" if is_text else "FP32"
        return ModelMetadata(
            ref=ref,
            kind=VersionKind.TEXT if is_text else VersionKind.MODEL,
            inputs=(TensorSpec(name="x", datatype=datatype, shape=(-1,), bounds=(8,)),),
            outputs=(TensorSpec(name="y", datatype=datatype, shape=(-1,), bounds=(8,)),),
            digest=self.digest,
        )

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Whether it is."""
        return self.states.get(VersionRef(model=model, version=version or "1")) is VersionState.READY

    def statistics(self, model: str | None = None, version: str | None = None) -> Sequence[VersionStatistics]:
        """None were kept."""
        return []

    async def load(
        self, model: str, version: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Ready at once."""
        self._set(model, version, VersionState.READY)

    async def unload(self, model: str, version: str | None = None) -> None:
        """Gone at once."""
        self._set(model, version, VersionState.UNLOADED)

    def _set(self, model: str, version: str | None, state: VersionState) -> None:
        ref = VersionRef(model=model, version=version or "1")
        if ref not in self.states:
            raise VersionNotThere(name=str(ref))
        self.states[ref] = state


class FakePlans:
    """`PlanService` that has a plan of one buffer, `x`, of `double@1` alone."""

    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><style>rect { fill: red }</style><rect/></svg>'

    async def plans(self, ref: VersionRef, digest: str) -> Mapping[str, Any]:
        """Of `double@1`."""
        if str(ref) != "double@1":
            raise VersionNotThere(name=str(ref))
        numbers = ("peak", "lower_bound", "naive", "alignment", "weights", "state", "total")
        buffer = {"name": "x", "offset_bytes": 0, "size_bytes": 256, "first_step": 0, "last_step": 0}
        plan = {
            **{f"{name}_bytes": 256 for name in numbers}, "stage": str(ref), "digest": "0" * 64,
            "lower_bound_step": 0, "reuse_percent": 0.0, "arenas": 1, "steps": 1, "buffers_total": 1,
            "buffers": [buffer],
        }  # fmt: skip
        return {"model": ref.model, "version": ref.version, "digest": digest, "plans": [plan], "without": []}

    async def picture(self, ref: VersionRef, digest: str, stage: str | None = None) -> PlanPicture:
        """Of `double@1`, which has no other stage."""
        if str(ref) != "double@1" or stage not in (None, "double@1"):
            raise VersionNotThere(name=f"{ref} {stage}")
        return PlanPicture(svg=self.svg, digest=hashlib.sha256(self.svg).hexdigest())


class FakeWorkers:
    """`WorkerPool` of one worker that does nothing."""

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self, *, drain: bool, timeout_s: float) -> None:
        """Nothing to stop."""

    async def load(self, spec: VersionSpec) -> ModelMetadata:
        """Refused: it loads nothing."""
        raise VersionNotThere(name=str(spec.ref))

    async def unload(self, ref: VersionRef) -> None:
        """Nothing to unload."""

    async def infer(self, ref: VersionRef, call: InferenceCall, worker: str | None = None) -> InferenceResult:
        """Refused: it has nothing loaded."""
        raise VersionNotThere(name=str(ref))

    def cancel(self, request: RequestId) -> bool:
        """Nothing is alive."""
        return False

    def workers(self) -> Sequence[WorkerStatus]:
        """One, ready."""
        return [WorkerStatus(name="w0", generation=1, pid=7, state=WorkerState.READY, versions=("double@1",))]

    def sole_worker(self, ref: VersionRef) -> str | None:
        """It has what it has and no other."""
        return "w0" if str(ref) == "double@1" else None

    def output(self, worker: str) -> str:
        """One line. Raises for another name."""
        if worker != "w0":
            raise VersionNotThere(name=worker)
        return "as w0 printed\n"

    async def scale(self, count: int) -> None:
        """Stays one."""


class FakeDecisions:
    """`DecisionService` that knows the request `known`."""

    async def explain(self, request: RequestId) -> Mapping[str, Any]:
        """Of `known`."""
        if request != "known":
            raise NothingDecided(request=request)
        return {"request": request, "answers": ["it was alone"]}

    async def timeline(self, last: int) -> Sequence[Mapping[str, Any]]:
        """One launch."""
        return [{"request": "known", "begin_ns": 1, "end_ns": 2}][:last]


@dataclass(slots=True, kw_only=True)
class SimulatedDevices:
    """`DeviceSource` that a test plugs into and unplugs from. Counts how often capabilities are asked."""

    plugged: list[DeviceFacts] = field(
        default_factory=lambda: [DeviceFacts(id="cpu", type="cpu", present=True, memory_total_bytes=1 << 30)]
    )
    asked: list[str] = field(default_factory=list)

    def find(self) -> Sequence[DeviceFacts]:
        """What is plugged."""
        return tuple(self.plugged)

    def capabilities(self, facts: DeviceFacts) -> DeviceCapabilities | None:
        """One operator."""
        self.asked.append(facts.id)
        return DeviceCapabilities(operators=("Add",), dtypes=("float32",))

    def available_bytes(self, facts: DeviceFacts) -> int | None:
        """Half of it, where the total is known."""
        return None if facts.memory_total_bytes is None else facts.memory_total_bytes // 2


def _answer(array: np.ndarray) -> np.ndarray:
    if array.dtype == object:
        answer = np.empty(array.size, dtype=object)
        for place, item in enumerate(array.reshape(-1)):
            answer[place] = bytes(item)[::-1]
        return answer.reshape(array.shape)
    with np.errstate(over="ignore"):
        return array * 2
