"""The echo adapter and a version in the local engine pass one suite (L3-17, L3-18, X-71)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from plumbline.contracts.adapters import AIModelAdapter
from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceCall, InferenceResult, Tensors, VersionRef
from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.lanes import LanePool
from plumbline.engine.outcomes import Completion
from plumbline.engine.scheduler import Scheduler
from plumbline.engine.sessions.python import PythonSession
from plumbline.errors import PlumblineError
from plumbline.scheduling.policies.registry import open_policy
from plumbline.serving.text_adapter import NoTextModel, ServedTextAdapter, TextUndecodable, decode_first_text
from plumbline.testing.adapters import AdapterConformance, EchoAdapter

REF = VersionRef(model="shout", version="1")


class Shout:
    """Upper case."""

    inputs = {"prompt": ("BYTES", (1,))}  # noqa: RUF012
    outputs = {"text": ("BYTES", (1,))}  # noqa: RUF012

    def run(self, inputs: Tensors, parameters: Mapping[str, Any]) -> Tensors:
        return {"text": np.array([bytes(inputs["prompt"][0]).upper()], dtype=object)}


class LocalEngine:
    """One version on the engine of this process: inference service and directory in one."""

    def __init__(self) -> None:
        self.session = PythonSession(REF, Shout, VersionSettings())

    async def infer(self, call: InferenceCall) -> InferenceResult:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Completion] = loop.create_future()
        scheduler = Scheduler(policy=open_policy("fifo"), streams=LanePool(1), clock=MonotonicClock())
        scheduler.load(REF, PythonSession(REF, Shout, VersionSettings()))
        scheduler.start()
        try:
            scheduler.submit(REF, call, lambda done: loop.call_soon_threadsafe(answer.set_result, done))
            outcome = await answer
        finally:
            await asyncio.to_thread(scheduler.close)
        if isinstance(outcome, PlumblineError):
            raise outcome
        return outcome

    def cancel(self, request: str) -> bool:
        return False

    def metadata(self, model: str, version: str | None = None) -> ModelMetadata:
        return self.session.metadata


def adapter(**options: Any) -> ServedTextAdapter:
    engine: Any = LocalEngine()
    return ServedTextAdapter(engine, engine, "shout", **options)


class TestEchoAdapter(AdapterConformance):
    def make_adapter(self) -> AIModelAdapter:
        return EchoAdapter()


class TestLocalEngine(AdapterConformance):
    def make_adapter(self) -> AIModelAdapter:
        return adapter()

    def test_the_text_is_what_the_version_made_of_it(self) -> None:
        assert asyncio.run(self.make_adapter().generate("abc")) == "ABC"


def test_a_decoder_of_ones_own_makes_the_text() -> None:
    """X-71: a toy decoder takes the place of ours."""
    assert asyncio.run(adapter(decode=lambda outputs: f"{len(outputs)} outputs").generate("x")) == "1 outputs"


@pytest.mark.parametrize(
    "outputs",
    [{}, {"y": np.ones(2, np.float32)}, {"y": np.array([], object)}, {"y": np.array([b"\xff"], object)}],
)
def test_outputs_without_a_text_are_a_decoding_error(outputs: Tensors) -> None:
    """L3-15, X-31."""
    with pytest.raises(TextUndecodable):
        decode_first_text(outputs)


def test_a_model_of_numbers_is_no_adapter() -> None:
    class Numbers(Shout):
        inputs = {"x": ("FP32", (1,))}  # noqa: RUF012

    engine: Any = LocalEngine()
    engine.session = PythonSession(REF, Numbers, VersionSettings())
    with pytest.raises(NoTextModel, match="FP32"):
        asyncio.run(ServedTextAdapter(engine, engine, "shout").generate("x"))
