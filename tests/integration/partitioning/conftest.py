"""Two real backends and graphs to split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.partitioning import NativeBackend
from plumbline.contracts import dims
from plumbline.contracts.tensors import DType, TensorType
from plumbline.execution.backend_registry import BackendRegistry
from plumbline.execution.backend_simulated import SimulatedBackend
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.testing.models import widest_target

WIDTH = 12
BATCH = 8


@pytest.fixture
def cpu() -> Iterator[NativeBackend]:
    with CpuDevice() as device:
        backend = NativeBackend(device, widest_target())
        yield backend
        backend.close()


@pytest.fixture
def simulated() -> Iterator[SimulatedBackend]:
    backend = SimulatedBackend(SimulatedDevice())
    yield backend
    backend.close()


@pytest.fixture
def registry(cpu, simulated) -> BackendRegistry:
    return BackendRegistry([cpu, simulated])


@pytest.fixture
def graph() -> ExecutionGraph:
    """x -> hidden -> soft; x -> side; both joined, over a symbolic batch."""
    rng = np.random.default_rng(5)
    builder = GraphBuilder("splittable", {"batch": BATCH})
    x = builder.input("x", TensorType(DType.FLOAT32, (dims.symbol("batch"), WIDTH)))
    weight = builder.constant(rng.standard_normal((WIDTH, WIDTH)).astype(np.float32), "weight")
    hidden = builder.add1("matmul", [x, weight], name="hidden")
    active = builder.add1("relu", [hidden], name="active")
    soft = builder.add1("softmax", [active], {"axis": 1}, name="soft")
    side = builder.add1("tanh", [x], name="side")
    builder.output("y", builder.add1("add", [soft, side], name="joined"))
    builder.output("active", active)
    return builder.build()


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(6).standard_normal((5, WIDTH)).astype(np.float32)
