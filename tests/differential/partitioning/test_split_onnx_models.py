"""Models from files, split over the processor and the simulated device, against ONNX Runtime (L2-06)."""

from __future__ import annotations

import numpy as np
import pytest

from plumbline.compiler.importers.onnx import ImportOptions, import_onnx
from plumbline.compiler.partitioning import NativeBackend, PartitionOptions, partition_graph
from plumbline.execution.backend_simulated import SimulatedBackend
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.testing.models import widest_target

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model_bytes() -> bytes:
    """A convolution, a pool, two flat layers, and a residual over a symbolic batch."""
    rng = np.random.default_rng(9)
    weights = {
        "kernel": rng.standard_normal((8, 3, 3, 3)) / 5,
        "bias": rng.standard_normal(8),
        "dense": rng.standard_normal((8 * 16, 10)) / 9,
        "offset": rng.standard_normal(10),
        "square": rng.standard_normal((10, 10)) / 3,
    }
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["image", "kernel", "bias"], ["conv"], name="conv", pads=[1, 1, 1, 1]),
        make("Relu", ["conv"], ["active"], name="active"),
        make("MaxPool", ["active"], ["pooled"], name="pooled", kernel_shape=[2, 2], strides=[2, 2]),
        make("Flatten", ["pooled"], ["flat"], name="flat"),
        make("Gemm", ["flat", "dense", "offset"], ["logits"], name="logits"),
        make("MatMul", ["logits", "square"], ["mixed"], name="mixed"),
        make("Add", ["mixed", "logits"], ["residual"], name="residual"),
        make("Softmax", ["residual"], ["y"], name="y", axis=1),
    ]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "small",
        [info("image", 1, ["batch", 3, 8, 8])],
        [info("y", 1, ["batch", 10]), info("logits", 1, ["batch", 10])],
        [onnx.numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    "simulated_nodes", [(), ("pooled",), ("logits", "y"), ("conv", "active", "residual"), ("flat", "mixed")]
)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_model_file_split_over_two_backends_agrees_with_onnx_runtime(model_bytes, simulated_nodes, batch):
    """Forced by the names of the model file's own nodes."""
    image = np.random.default_rng(batch).standard_normal((batch, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(model_bytes, providers=["CPUExecutionProvider"])
    expected = dict(zip(("y", "logits"), session.run(["y", "logits"], {"image": image}), strict=True))
    graph = import_onnx(model_bytes, ImportOptions(symbols={"batch": 4}))
    simulated = SimulatedBackend(SimulatedDevice())
    with CpuDevice() as device:
        cpu = NativeBackend(device, widest_target())
        forced = dict.fromkeys(simulated_nodes, "simulated")
        with partition_graph(graph, [cpu, simulated], PartitionOptions(forced=forced)) as model:
            run = model.run({"image": image})
            for name, array in expected.items():
                np.testing.assert_allclose(run.outputs[name], array, rtol=2e-4, atol=2e-5)
            used = {part.backend for part in model.record.parts}
            assert used == ({"cpu", "simulated"} if simulated_nodes else {"cpu"})
            assert bool(run.record.boundary_copies) == bool(simulated_nodes)
        cpu.close()
    simulated.close()
