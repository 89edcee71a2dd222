"""A traced run on two threads: what it computes, and what the points say about threads (X-40..X-44)."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import plumbline
from plumbline.product.compose import LoadOptions, build_options, read_graph
from plumbline.product.trace import TracePlanMismatch, trace_points, trace_run
from plumbline.telemetry.points import Completion, EventRecord, EventWait, KernelLaunch
from plumbline.telemetry.trace import verify_trace

WIDTH = 256


def two_products(width: int = WIDTH) -> bytes:
    """y = softmax(x a) b: large enough to be split between threads."""
    rng = np.random.default_rng(2)
    weights = [
        numpy_helper.from_array(rng.standard_normal((width, width)).astype(np.float32), name) for name in "ab"
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["m"], name="first"),
        helper.make_node("Softmax", ["m"], ["s"], name="middle", axis=-1),
        helper.make_node("MatMul", ["s", "b"], ["y"], name="second"),
    ]
    shape = [width, width]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def plan_of(model: bytes, options: LoadOptions) -> object:
    from plumbline.compiler.build import plan_graph
    from plumbline.config.settings import read_settings

    return plan_graph(read_graph(model, options), build_options(options, read_settings()))[2]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_traced_run_gives_the_same_bits_and_a_trace_that_agrees_with_itself(threads: int) -> None:
    data, x = two_products(), np.random.default_rng(3).standard_normal((WIDTH, WIDTH)).astype(np.float32)
    plan = plan_of(data, LoadOptions(threads=threads))
    with plumbline.load(data, threads=threads) as model:
        assert model.manifest.threads == threads
        plain = model.run({"x": x})["y"]
        run = trace_run(model, {"x": x}, "request-7")
        points = trace_points(run, model, plan)  # type: ignore[arg-type]
        assert plain.tobytes() == run.outputs["y"].tobytes()
        assert model.run({"x": x})["y"].tobytes() == plain.tobytes(), "a plain run after a traced one"
    verify_trace(points)
    launches = [p for p in points if isinstance(p, KernelLaunch)]
    assert len(launches) == len(run.launches) >= len(model.manifest.step_names)
    assert {p.stream_id for p in launches} <= {f"products/{thread}" for thread in range(threads)}
    assert {p.operator for p in launches} == set(model.manifest.step_names)
    assert all(run.began_ns <= p.timestamp_ns <= run.ended_ns for p in points)
    assert [p.timestamp_ns for p in points] == sorted(p.timestamp_ns for p in points)
    (completion,) = [p for p in points if isinstance(p, Completion)]
    assert completion.request_id == "request-7"
    assert completion.latency_ns == run.ended_ns - run.began_ns


def test_events_come_in_pairs_and_waits_are_by_another_stream() -> None:
    """X-41: pairs match."""
    data, x = two_products(), np.ones((WIDTH, WIDTH), np.float32)
    plan = plan_of(data, LoadOptions(threads=2))
    with plumbline.load(data, threads=2) as model:
        points = trace_points(trace_run(model, {"x": x}), model, plan)  # type: ignore[arg-type]
    records = {p.event_id: p for p in points if isinstance(p, EventRecord)}
    waits = [p for p in points if isinstance(p, EventWait)]
    assert records.keys() == {p.event_id for p in waits}
    for wait in waits:
        assert wait.stream_id != records[wait.event_id].stream_id
        assert wait.timestamp_ns >= records[wait.event_id].timestamp_ns
    assert any(p.stream_id == "caller" for p in waits)


def test_a_plan_of_another_model_is_refused() -> None:
    data, x = two_products(64), np.ones((64, 64), np.float32)
    other = plan_of(two_products(128), LoadOptions())
    with plumbline.load(data) as model, pytest.raises(TracePlanMismatch):
        trace_points(trace_run(model, {"x": x}), model, other)  # type: ignore[arg-type]
