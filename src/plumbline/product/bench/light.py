"""The light architectures that the `onnx` package carries, with random weights instead of constant ones.

Their files make every large weight with ConstantOfShape, so that all outputs are one repeated value. Here
each weight is drawn from a seed with a distribution that fits its use: values neither vanish nor explode.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["LIGHT_NAMES", "fill_weights", "light_input", "write_light"]

LIGHT_NAMES = {
    "alexnet": "bvlc_alexnet",
    "densenet121": "densenet121",
    "inception-v1": "inception_v1",
    "inception-v2": "inception_v2",
    "resnet50": "resnet50",
    "shufflenet": "shufflenet",
    "squeezenet": "squeezenet",
    "vgg19": "vgg19",
    "zfnet512": "zfnet512",
}
"""Our name -> name in the file."""


def write_light(name: str, seed: int = 0) -> bytes:
    """The model file of one architecture with random weights."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return bytes(
        fill_weights(onnx.load(folder / f"light_{LIGHT_NAMES[name]}.onnx"), seed).SerializeToString()
    )


def light_input(model: onnx.ModelProto) -> tuple[str, tuple[int, ...]]:
    """Name and shape of the single image input."""
    fixed = {weight.name for weight in model.graph.initializer}
    (value,) = [v for v in model.graph.input if v.name not in fixed]
    return value.name, tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


def fill_weights(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """A copy in which every float weight is random and every other ConstantOfShape is its value.

    Unused weights, and weights among the inputs, are dropped.
    """
    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    graph = filled.graph
    rng = np.random.default_rng(seed)
    known = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    roles = _roles(graph)
    weights = {name: _redrawn(array, roles.get(name), rng) for name, array in known.items()}
    kept = []
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in known:
            shape = tuple(int(extent) for extent in known[node.input[0]])
            weights[node.output[0]] = _redrawn(np.full(shape, _value(node)), roles.get(node.output[0]), rng)
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items() if n in used)
    inputs = [value for value in graph.input if value.name in used and value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    filled.ir_version = max(filled.ir_version, 4)
    return filled


def _value(node: onnx.NodeProto) -> np.ndarray:
    """The value of a ConstantOfShape, one element."""
    given = [numpy_helper.to_array(a.t).reshape(-1)[:1] for a in node.attribute if a.name == "value"]
    return given[0] if given else np.zeros(1, np.float32)


def _roles(graph: onnx.GraphProto) -> dict[str, tuple[str, int]]:
    """Weight -> (operator, input position) of its use, looking through the nodes that only reshape it.

    A normalisation that ends a residual branch is called `Branch`, a convolution of values that no ReLU
    halved `Linear`, and a product whose results are turned into shares `Classifier`.
    """
    roles: dict[str, tuple[str, int]] = {}
    reshaped: dict[str, str] = {}
    summed = {name for node in graph.node if node.op_type == "Sum" for name in node.input}
    shared = {node.input[0] for node in graph.node if node.op_type == "Softmax"}
    normalised = {node.output[0] for node in graph.node if node.op_type == "BatchNormalization"}
    for node in graph.node:
        if node.op_type == "BatchNormalization" and node.output[0] in summed:
            roles[node.input[1]] = ("Branch", 1)
        if node.op_type == "Gemm" and node.output[0] in shared:
            roles[node.input[1]] = ("Classifier", 1)
        if node.op_type == "Conv" and node.input[0] in normalised:
            roles[node.input[1]] = ("Linear", 1)
        for position, name in enumerate(node.input):
            if node.op_type in ("Unsqueeze", "Reshape") and position == 0:
                reshaped[node.output[0]] = name
            else:
                roles.setdefault(name, (node.op_type, position))
    for result, source in reshaped.items():
        if result in roles:
            roles.setdefault(source, roles[result])
    return roles


def _redrawn(array: np.ndarray, role: tuple[str, int] | None, rng: np.random.Generator) -> np.ndarray:
    """The random weight in the place of `array`; integers, such as shapes, stay."""
    if array.dtype != np.float32 or role is None or role[0] == "ConstantOfShape":
        return array
    match role:
        case ("Branch", _):  # smaller, or the sum of sixteen branches would grow without bound
            return rng.uniform(0.4, 0.6, array.shape).astype(np.float32)
        case ("BatchNormalization", 1 | 4) | ("Mul", _):
            return rng.uniform(0.8, 1.2, array.shape).astype(np.float32)
        case (("Conv" | "Gemm" | "Linear" | "Classifier") as use, 1):
            fan_in = max(int(np.prod(array.shape[1:])), 1)
            gain = {"Linear": 1.0, "Classifier": 0.1}.get(use, 2.0)
            return rng.standard_normal(array.shape, np.float32) * np.float32(np.sqrt(gain / fan_in))
        case _:
            return rng.uniform(-0.2, 0.2, array.shape).astype(np.float32)
