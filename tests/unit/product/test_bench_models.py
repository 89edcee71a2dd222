"""The models of the suite are valid files with the sizes that they claim, and the same on every build."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from plumbline.product.bench.light import LIGHT_NAMES, fill_weights, light_input, write_light
from plumbline.product.bench.markdown import render_markdown
from plumbline.product.bench.models import CPU_SUITE, MODELS, make_inputs
from plumbline.product.bench.operations_count import count_operations

SMALL = ("mlp", "edge-cnn", "gru", "mobilenet-v2", "squeezenet")
MFLOP = {"mlp": 0.169, "edge-cnn": 3.62, "gru": 0.591, "mobilenet-v2": 601.5, "squeezenet": 698.3}
"""Counted by hand from the layer tables: two for each multiply-add."""


@pytest.mark.parametrize("name", SMALL)
def test_a_model_is_a_valid_file_with_the_expected_amount_of_work(name: str) -> None:
    model = onnx.load_from_string(MODELS[name].write())
    onnx.checker.check_model(model, full_check=True)
    assert count_operations(model) / 1e6 == pytest.approx(MFLOP[name], rel=0.01)


def test_a_model_is_the_same_bytes_on_every_build() -> None:
    assert MODELS["edge-cnn"].write() == MODELS["edge-cnn"].write()
    assert write_light("squeezenet") == write_light("squeezenet")


def test_the_suite_has_the_thirteen_models_of_the_figures_each_with_a_wanted_ratio() -> None:
    assert len(CPU_SUITE) == 13
    assert all(model.wanted[threads] >= 1.0 for model in CPU_SUITE for threads in (1, 2))


def test_inputs_follow_the_declared_types_and_a_mask_is_ones() -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["mask"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.INT64, [1, 3])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [1, 3])],
    )
    assert make_inputs(onnx.helper.make_model(graph))["mask"].tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_a_filled_architecture_has_one_input_no_constant_weights_and_telling_outputs(name: str) -> None:
    """Stored outputs of these files are one repeated value and prove little."""
    reference = pytest.importorskip("onnxruntime")
    data = write_light(name)
    model = onnx.load_from_string(data)
    assert light_input(model)[1] == (1, 3, 224, 224)
    assert "ConstantOfShape" not in {node.op_type for node in model.graph.node}
    session = reference.InferenceSession(data, providers=["CPUExecutionProvider"])
    inputs = make_inputs(model)
    outputs = session.run(None, inputs)[0].reshape(-1)
    other = session.run(None, {k: -v for k, v in inputs.items()})[0].reshape(-1)
    assert np.isfinite(outputs).all()
    assert len(np.unique(outputs)) > 800
    assert float(np.median(np.abs(outputs - other) / outputs)) > 1e-3, "the input matters"


def test_filling_leaves_the_original_untouched() -> None:
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("ConstantOfShape", ["s"], ["w"]),
            onnx.helper.make_node("Gemm", ["x", "w"], ["y"]),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])],
        [onnx.numpy_helper.from_array(np.array([4, 2], np.int64), "s")],
    )
    model = onnx.helper.make_model(graph)
    before = model.SerializeToString()
    filled = fill_weights(model, seed=1)
    assert model.SerializeToString() == before
    (weight,) = filled.graph.initializer
    array = onnx.numpy_helper.to_array(weight)
    assert array.shape == (4, 2)
    assert len(np.unique(array)) == 8


def test_every_light_architecture_of_the_onnx_package_has_a_name() -> None:
    from pathlib import Path

    files = Path(onnx.__file__).parent.glob("backend/test/data/light/light_*.onnx")
    assert {f"light_{name}.onnx" for name in LIGHT_NAMES.values()} == {file.name for file in files}


def test_the_markdown_page_has_a_row_for_each_measured_and_each_refused_model() -> None:
    measured = {
        "model": "mlp", "threads": 1, "wanted": 3.0, "ours_ms": 0.004,
        "peers_ms": {"p": 0.008},
        "p10_ms": {"plumbline": 0.003, "p": 0.007}, "kept_blocks": {"plumbline": 5, "p": 4},
        "disturbed": False,
        "ratio": 2.0, "peak_fraction": 0.25, "max_error": {"p": 1e-7},
    }  # fmt: skip
    refused = {"model": "odd", "threads": 2, "refused": {"message": "no | kernel"}}
    page = render_markdown(
        {
            "rows": [measured, refused], "geomean_ratio": 2.0, "contended": True, "commit": None,
            "machine": {"processor": "P", "usable_cores": 2, "vector_isa": "avx2", "system": "S"},
            "measured_peak_gflops": {"1": 100.0}, "versions": {"plumbline": "0"},
        }
    )  # fmt: skip
    assert "| mlp | 1 | 0.004 (0.003) | 0.008 (0.007) | 2.00 | 3.00 | 25% | 1.0e-07 | 5/4 |" in page
    assert "- odd, 2 threads: no \\| kernel" in page
    assert "kept busy" in page
