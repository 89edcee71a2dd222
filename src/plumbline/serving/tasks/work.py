"""What is done for a running task: device, inference, result. Knows nothing of leases and time-outs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from plumbline.contracts.clock import Clock
from plumbline.contracts.inference import InferenceCall, InferenceResult, InferenceTiming, Tensors
from plumbline.contracts.models import ModelMetadata
from plumbline.errors import PlumblineError, Recoverability
from plumbline.serving.devices.allocator import Allocation, DeviceAllocator
from plumbline.serving.ports import InferenceService, ModelDirectory
from plumbline.serving.tasks.cache import CachedResult, ResultCache, ResultKey
from plumbline.serving.tasks.options import TaskOptions
from plumbline.serving.tasks.record import TaskRecord, request_id_of
from plumbline.serving.tasks.refusals import TaskResultTooLarge
from plumbline.serving.tasks.request import TaskRequest, digest_of, parse_request
from plumbline.serving.tasks.tensors import input_arrays, output_documents

__all__ = ["Finished", "TaskWork"]

Reach = Callable[[str], Awaitable[None]]

_NOT_INPUTS = ("device", "priority", "timeout_s", "name", "cache", "model", "version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A result body and the fields of the record that go with it."""

    result: str
    changes: Mapping[str, Any] = field(default_factory=dict)


class TaskWork:
    """Runs one task at a time for each caller; owns nothing but the result cache of its gateway.

    Args:
        inference: answers calls.
        models: interface of versions.
        allocator: devices.
        options: bounds.
        clock: time.
    """

    def __init__(
        self,
        inference: InferenceService,
        models: ModelDirectory,
        allocator: DeviceAllocator,
        options: TaskOptions,
        clock: Clock,
    ) -> None:
        self._inference, self._models, self._allocator = inference, models, allocator
        self._options, self._clock = options, clock
        self._cache = ResultCache(ttl_ns=round(options.cache_ttl_s * 1e9), max_bytes=options.cache_bytes)

    async def run(self, record: TaskRecord, body: str, deadline_ns: int | None, reach: Reach) -> Finished:
        """The result of a task.

        Args:
            record: as claimed.
            body: of its request, canonical.
            deadline_ns: absolute monotonic, or None.
            reach: told of each stage.

        Raises:
            PlumblineError: the typed outcome of a task that got no result.
        """
        request = await asyncio.to_thread(_parse, body)
        refusals = 0
        while True:
            try:
                return await self._attempt(record, request, body, deadline_ns, reach)
            except PlumblineError as error:
                refusals += 1
                wait_s = _patience(error)
                if wait_s is None or refusals > self._options.max_refusals:
                    raise
            await reach("waiting")
            await asyncio.sleep(min(wait_s, 30.0))

    async def _attempt(
        self, record: TaskRecord, request: TaskRequest, body: str, deadline_ns: int | None, reach: Reach
    ) -> Finished:
        metadata = self._models.metadata(request.model, request.version)
        key = self._key(record, request, body, metadata)
        cached = None if key is None else self._cache.find(key, self._clock.now_ns())
        if cached is not None:
            return _from_cache(cached)
        inputs = await asyncio.to_thread(input_arrays, request, metadata)
        call = self._call(record, request, inputs, deadline_ns)
        allocation = self._allocator.allocate(call.id, request.device)
        try:
            await reach("running")
            result = await self._inference.infer(call)
        finally:
            allocation = self._allocator.release(allocation)
        await reach("storing")
        finished = await asyncio.to_thread(self._finished, result, allocation, metadata)
        if key is not None and key.version == str(result.served_by):
            kept = CachedResult(body=finished.result, served_by=str(result.served_by))
            self._cache.keep(key, kept, self._clock.now_ns())
        return finished

    def _key(
        self, record: TaskRecord, request: TaskRequest, body: str, metadata: ModelMetadata
    ) -> ResultKey | None:
        if not request.cache or metadata.kind not in self._options.cacheable:
            return None
        return ResultKey(
            tenant=record.tenant,
            version=str(metadata.ref),
            content=metadata.digest,
            inputs=digest_of(body, without=_NOT_INPUTS),
        )

    def _call(
        self, record: TaskRecord, request: TaskRequest, inputs: Tensors, deadline_ns: int | None
    ) -> InferenceCall:
        return InferenceCall(
            id=request_id_of(record),
            model=request.model,
            version=request.version,
            inputs=inputs,
            wanted=request.outputs,
            tenant=record.tenant,
            priority=record.priority,
            arrived_ns=self._clock.now_ns(),
            deadline_ns=deadline_ns,
            parameters=request.parameters,
            traceparent=record.traceparent,
            protocol="task",
        )

    def _finished(self, result: InferenceResult, allocation: Allocation, metadata: ModelMetadata) -> Finished:
        document = {"outputs": output_documents(result.outputs, metadata)}
        body = msgspec.json.encode(document).decode()
        if len(body) > self._options.max_result_bytes:
            raise TaskResultTooLarge(given_bytes=len(body), limit_bytes=self._options.max_result_bytes)
        changes = {
            "served_by": str(result.served_by),
            "device_used": allocation.device,
            "allocation": allocation.to_document(),
            "timing": _timing(result.timing),
            "cached": result.cached,
            "result_bytes": len(body),
        }
        return Finished(result=body, changes=changes)


def _parse(body: str) -> TaskRequest:
    return parse_request(json.loads(body))


def _from_cache(cached: CachedResult) -> Finished:
    changes = {"served_by": cached.served_by, "cached": True, "result_bytes": len(cached.body)}
    return Finished(result=cached.body, changes=changes)


def _patience(error: PlumblineError) -> float | None:
    """How long to wait before the engine is asked again; None when asking again cannot help."""
    if error.recoverability is not Recoverability.TRANSIENT:
        return None
    return max(0.01, float(getattr(error, "retry_after_s", 1.0)))


def _timing(timing: InferenceTiming) -> dict[str, int]:
    return {
        "queue_ns": max(0, timing.launched_ns - timing.arrived_ns),
        "run_ns": max(0, timing.finished_ns - timing.launched_ns),
        "batched": timing.batched,
    }
