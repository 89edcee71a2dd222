"""Single ONNX operators of old and new opsets against ONNX Runtime, compiled through the whole stack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from plumbline.compiler.importers.onnx.refusals import NodeRefused
from plumbline.product.compose import load

RNG = np.random.default_rng(23)


def draw(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One node: `inputs` are given at run time, `constants` are initialisers after them."""

    operator: str
    opset: int
    inputs: tuple[np.ndarray, ...]
    constants: tuple[np.ndarray | None, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    tolerance: float = 2e-5
    domain: str = ""

    def __str__(self) -> str:
        return f"{self.operator}-{self.opset}"


def model_of(case: Case) -> bytes:
    names = [f"x{i}" for i in range(len(case.inputs))]
    fixed = ["" if c is None else f"c{i}" for i, c in enumerate(case.constants)]
    results = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.operator, [*names, *fixed], results, domain=case.domain, **case.attributes)
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, case.inputs, strict=True)
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in results]
    for output in outputs:
        output.ClearField("type")
    tensors = [
        numpy_helper.from_array(c, n) for n, c in zip(fixed, case.constants, strict=True) if c is not None
    ]
    graph = helper.make_graph([node], "single", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", case.opset if not case.domain else 17)]
    if case.domain:
        opsets.append(helper.make_opsetid(case.domain, case.opset))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return onnx.shape_inference.infer_shapes(model).SerializeToString()


def expected_of(case: Case, model: bytes) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {f"x{i}": x for i, x in enumerate(case.inputs)}))


X, IMAGE = draw(3, 50), draw(2, 6, 5, 7)
CHANNEL = tuple(np.abs(draw(6)) + 0.1 for _ in range(4))
AXES = np.array([1], np.int64)

CASES = [
    Case(operator="Clip", opset=7, inputs=(X,), attributes={"min": -0.5, "max": 0.25}),
    Case(operator="Clip", opset=10, inputs=(X,), attributes={"max": 0.25}),
    Case(operator="Clip", opset=13, inputs=(X,), constants=(np.float32(-0.5), np.float32(0.5))),
    Case(operator="Clip", opset=13, inputs=(X,), constants=(None, np.float32(0.5))),
    Case(operator="Clip", opset=13, inputs=(X, np.array(0.1, np.float32), np.array(-0.2, np.float32))),
    Case(operator="Clip", opset=13, inputs=(X, np.array(-0.1, np.float32)), constants=(np.float32(0.5),)),
    Case(operator="Pow", opset=7, inputs=(np.abs(X), X)),
    Case(operator="Pow", opset=13, inputs=(X,), constants=(np.float32(2.0),)),
    Case(operator="Pow", opset=13, inputs=(np.abs(X),), constants=(np.array([0.5], np.float32),)),
    Case(operator="Pow", opset=13, inputs=(X,), constants=(np.array(3, np.int64),)),
    Case(operator="Pow", opset=13, inputs=(np.arange(6),), constants=(np.array(2, np.int64),)),
    Case(operator="Pow", opset=13, inputs=(np.arange(6, dtype=np.int32),), constants=(np.float32(1.5),)),
    Case(operator="Max", opset=8, inputs=(X, X[::-1].copy(), draw(50))),
    Case(operator="Mean", opset=13, inputs=(X, draw(3, 1), draw(1))),
    Case(operator="Sum", opset=8, inputs=(X,)),
    Case(operator="PRelu", opset=9, inputs=(IMAGE,), constants=(draw(6, 1, 1),)),
    Case(operator="Mod", opset=13, inputs=(X, draw(50)), attributes={"fmod": 1}),
    Case(operator="IsInf", opset=10, attributes={"detect_negative": 0},
         inputs=(np.copysign(np.float32(np.inf), X),)),
    Case(operator="Gelu", opset=20, inputs=(X,), attributes={"approximate": "tanh"}),
    Case(operator="Selu", opset=7, inputs=(X,)),
    Case(operator="HardSigmoid", opset=7, inputs=(X,)),
    Case(operator="Shrink", opset=9, inputs=(X,), attributes={"bias": 0.25}),
    Case(operator="Cast", opset=9, inputs=(X * 100,), attributes={"to": TensorProto.INT32}),
    Case(operator="Softmax", opset=7, inputs=(IMAGE,), attributes={"axis": 2}),
    Case(operator="Softmax", opset=11, inputs=(IMAGE,)),
    Case(operator="Softmax", opset=13, inputs=(IMAGE,), attributes={"axis": 1}),
    Case(operator="LogSoftmax", opset=12, inputs=(X,)),
    Case(operator="Hardmax", opset=11, inputs=(IMAGE,), attributes={"axis": 3}),
    Case(operator="ReduceSum", opset=11, inputs=(IMAGE,), attributes={"axes": [1, -1], "keepdims": 0}),
    Case(operator="ReduceSum", opset=13, inputs=(IMAGE,), constants=(AXES,)),
    Case(operator="ReduceSum", opset=13, inputs=(X,), attributes={"noop_with_empty_axes": 1}),
    Case(operator="ReduceMean", opset=11, inputs=(IMAGE,), attributes={"axes": [2, 3]}),
    Case(operator="ReduceL2", opset=18, inputs=(X,), constants=(AXES,), attributes={"keepdims": 0}),
    Case(operator="ReduceLogSumExp", opset=18, inputs=(X * 40,), constants=(AXES,)),
    Case(operator="ArgMax", opset=12, inputs=(X,), attributes={"axis": 1, "select_last_index": 1}),
    Case(operator="ArgMin", opset=7, inputs=(IMAGE,), attributes={"axis": 1, "keepdims": 0}),
    Case(operator="CumSum", opset=11, inputs=(X,), constants=(np.array(1, np.int64),)),
    Case(operator="CumSum", opset=14, inputs=(X, np.array(0, np.int64)), attributes={"reverse": 1}),
    Case(operator="TopK", opset=7, inputs=(X,), attributes={"k": 4}, outputs=2),
    Case(operator="TopK", opset=10, inputs=(X,), constants=(np.array([4], np.int64),), outputs=2),
    Case(operator="TopK", opset=11, inputs=(X,), constants=(np.array([2], np.int64),), outputs=2,
         attributes={"axis": 0, "largest": 0}),
    Case(operator="BatchNormalization", opset=7, inputs=(IMAGE,), constants=CHANNEL),
    Case(operator="BatchNormalization", opset=9, inputs=(draw(4, 6),), constants=CHANNEL),
    Case(operator="BatchNormalization", opset=15, inputs=(IMAGE,), constants=CHANNEL, outputs=3,
         attributes={"training_mode": 1, "momentum": 0.75}),
    Case(operator="InstanceNormalization", opset=7, inputs=(IMAGE,), constants=CHANNEL[:2]),
    Case(operator="GroupNormalization", opset=18, inputs=(IMAGE,), constants=(draw(3), draw(3)),
         attributes={"num_groups": 3}),
    Case(operator="LayerNormalization", opset=17, inputs=(X,), constants=(draw(50), draw(50)), outputs=3),
    Case(operator="LayerNormalization", opset=17, inputs=(IMAGE,), constants=(draw(5, 7),),
         attributes={"axis": 2}),
    Case(operator="LRN", opset=7, inputs=(IMAGE,), attributes={"size": 3, "alpha": 0.02}),
    Case(operator="LpNormalization", opset=7, inputs=(X,), attributes={"axis": 0, "p": 1}),
    Case(operator="MeanVarianceNormalization", opset=9, inputs=(IMAGE,)),
    Case(operator="QuantizeLinear", opset=10, inputs=(X * 9,), constants=(np.float32(0.1), np.uint8(7))),
    Case(operator="QuantizeLinear", opset=13, inputs=(X * 9,), attributes={"axis": 1},
         constants=(np.abs(draw(50)) + 0.1, np.arange(-25, 25, dtype=np.int8))),
    Case(operator="DequantizeLinear", opset=10, inputs=(np.arange(200, dtype=np.uint8),),
         constants=(np.float32(0.1), np.uint8(7))),
    Case(operator="DynamicQuantizeLinear", opset=11, inputs=(X,), outputs=3),
    Case(operator="Binarizer", opset=1, inputs=(X,), attributes={"threshold": 0.25}, domain="ai.onnx.ml"),
    Case(operator="Scaler", opset=1, inputs=(X,), domain="ai.onnx.ml",
         attributes={"offset": [0.5] * 50, "scale": [2.0] * 50}),
    Case(operator="Normalizer", opset=1, inputs=(X,), attributes={"norm": "L1"}, domain="ai.onnx.ml"),
    Case(operator="Imputer", opset=1, inputs=(np.where(X > 1, np.float32("nan"), X),), domain="ai.onnx.ml",
         attributes={"imputed_value_floats": [3.0], "replaced_value_float": float("nan")}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operator_agrees_with_onnx_runtime(case: Case) -> None:
    """Each opset has its own meaning of attributes and defaults (requirement L2-02)."""
    data = model_of(case)
    expected = expected_of(case, data)
    with load(data, use_cache=False) as model:
        got = model.run({f"x{i}": x for i, x in enumerate(case.inputs)})
    for position, reference in enumerate(expected):
        ours = got[f"y{position}"]
        assert ours.dtype == reference.dtype
        assert ours.shape == reference.shape
        np.testing.assert_allclose(ours, reference, rtol=case.tolerance, atol=case.tolerance)


def test_training_outputs_of_old_batch_normalization_are_refused_by_name() -> None:
    case = Case(operator="BatchNormalization", opset=9, inputs=(IMAGE,), constants=CHANNEL, outputs=3)
    with pytest.raises(NodeRefused, match="training"):
        load(model_of(case), use_cache=False)
