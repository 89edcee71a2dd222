"""A load that the machine has no memory for is refused with numbers, and nothing stays (L3-07, X-33)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from plumbline.contracts.inference import Tensors
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.memory import MemoryBudgetRefused
from plumbline.engine.session import Admitted, Instance
from plumbline.serving.workers.failures import LoadOutOfMemory
from plumbline.serving.workers.process import load_warm
from plumbline.testing.worker_pools import spec
from plumbline.testing.worker_sessions import make_test_scheduler

PLANNED = 1 << 40


class Board:
    """Shows nothing."""

    def begin(self, requests: Any, limit_ns: int) -> int:
        return 0

    def end(self, seat: int) -> None:
        return None


class Vast:
    """A session whose example no machine has memory for."""

    def __init__(self, version: VersionSpec) -> None:
        self.examples = self.closed = 0
        tensor = TensorSpec(name="x", datatype="FP32", shape=(-1,), bounds=(1 << 60,))
        self.metadata = ModelMetadata(
            ref=version.ref, kind=VersionKind.MODEL, inputs=(tensor,), outputs=(tensor,), digest="",
            memory_bytes=PLANNED, memory={"arenas": PLANNED},
        )  # fmt: skip

    def admit(self, inputs: Tensors, parameters: Mapping[str, Any], tenant: str) -> Admitted:
        return Admitted(inputs=inputs)

    def open_instance(self) -> Instance:
        return Idle()

    def example(self) -> Tensors:
        self.examples += 1
        return {"x": np.zeros(1 << 60, np.float32)}

    def close(self) -> None:
        self.closed += 1


class Idle:
    """An instance that is never asked."""

    segments = 1

    def run(self, batch: Any, between: Any) -> None:
        raise AssertionError("nothing may run")

    def close(self) -> None:
        return None


def test_memory_that_runs_out_in_a_load_is_a_resource_error_with_version_and_bytes() -> None:
    version, engine = spec(), make_test_scheduler(name="w0")
    session = Vast(version)
    engine.start()
    try:
        with pytest.raises(
            LoadOutOfMemory, match=rf"version echo@1: .*{PLANNED} bytes by plan: Unable"
        ) as caught:
            load_warm(engine, version, lambda _: session, Board())
        assert engine.status().versions == {}
    finally:
        engine.close()
    assert caught.value.http_status == 503
    assert session.closed == 1


def test_a_plan_above_the_budget_is_refused_before_its_example_is_made() -> None:
    version, engine = spec(), make_test_scheduler(name="w0", budget_bytes=PLANNED - 1)
    session = Vast(version)
    with pytest.raises(MemoryBudgetRefused, match=f"needs {PLANNED} bytes by plan"):
        load_warm(engine, version, lambda _: session, Board())
    assert (session.examples, session.closed) == (0, 1)
