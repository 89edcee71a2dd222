"""The models of the suite `cpu`: each writes a model file; with its inputs and the ratio that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx

from plumbline.product.bench.light import LIGHT_NAMES, write_light
from plumbline.product.bench.minilm import write_minilm
from plumbline.product.bench.mobilenet import write_mobilenet_v2
from plumbline.product.bench.small_models import write_edge_cnn, write_gru, write_mlp

__all__ = ["CHECKED_ONLY", "CPU_SUITE", "MODELS", "BenchModel", "make_inputs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchModel:
    """A model of the suite.

    Attributes:
        name: in tables and on the command line.
        write: makes the ONNX file.
        wanted: threads -> ratio better peer / ours that is wanted.
    """

    name: str
    write: Callable[[], bytes]
    wanted: Mapping[int, float] = field(default_factory=dict)


def _model(name: str, write: Callable[[], bytes], one: float, two: float | None = None) -> BenchModel:
    return BenchModel(name=name, write=write, wanted={1: one, 2: one if two is None else two})


_LIGHT = {
    "resnet50": 1.0,
    "squeezenet": 1.1,
    "shufflenet": 1.3,
    "densenet121": 1.1,
    "inception-v1": 1.1,
    "inception-v2": 1.0,
    "vgg19": 1.0,
}
CPU_SUITE: tuple[BenchModel, ...] = (
    _model("mlp", write_mlp, 3.0),
    _model("edge-cnn", write_edge_cnn, 2.0),
    _model("gru", write_gru, 1.5),
    _model("mobilenet-v2", write_mobilenet_v2, 1.05),
    _model("minilm-16", partial(write_minilm, 16), 1.0, 1.3),
    _model("minilm-128", partial(write_minilm, 128), 1.1),
    *(_model(name, partial(write_light, name), ratio) for name, ratio in _LIGHT.items()),
)
CHECKED_ONLY: tuple[BenchModel, ...] = tuple(
    BenchModel(name=name, write=partial(write_light, name))
    for name in sorted(LIGHT_NAMES.keys() - _LIGHT.keys())
)
"""Measured on request; no figure is wanted of them."""
MODELS: Mapping[str, BenchModel] = {model.name: model for model in (*CPU_SUITE, *CHECKED_ONLY)}


def make_inputs(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs for a model of this suite: images and signals are normal numbers, `ids` words, `mask` ones."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, np.ndarray] = {}
    fixed = {weight.name for weight in model.graph.initializer}
    for value in model.graph.input:
        if value.name in fixed:
            continue
        kind = value.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        if kind.elem_type == onnx.TensorProto.FLOAT:
            inputs[value.name] = rng.standard_normal(shape, np.float32)
        elif value.name == "mask":
            inputs[value.name] = np.ones(shape, np.int64)
        else:
            inputs[value.name] = rng.integers(1000, 20000, shape)
    return inputs
