"""Writes ONNX graphs for benchmark models: nodes in order, weights from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["GraphWriter"]

_ELEMENT = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


class GraphWriter:
    """One graph under construction.

    Args:
        name: of the graph.
        seed: of every random weight.
        opset: of the default domain.
    """

    def __init__(self, name: str, seed: int = 0, opset: int = 17) -> None:
        self._name, self._opset = name, opset
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def random(self, *shape: int, fan_in: int | None = None) -> str:
        """Normal weights with variance 2 / fan_in (default: product of all extents but the first)."""
        inputs = fan_in or max(int(np.prod(shape[1:])), 1)
        return self.constant((self._rng.standard_normal(shape) * np.sqrt(2.0 / inputs)).astype(np.float32))

    def uniform(self, low: float, high: float, *shape: int) -> str:
        """Uniform weights."""
        return self.constant(self._rng.uniform(low, high, shape).astype(np.float32))

    def constant(self, array: np.ndarray) -> str:
        """A fixed tensor; returns its name."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def integers(self, *values: int) -> str:
        """A vector of int64."""
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output; returns its name."""
        return self.nodes(operator, inputs, 1, **attributes)[0]

    def nodes(self, operator: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> tuple[str, ...]:
        """A node with several outputs."""
        number = len(self._nodes)
        names = tuple(f"{operator.lower()}{number}_{i}" for i in range(outputs))
        self._nodes.append(
            helper.make_node(operator, inputs, names, name=f"{operator}{number}", **attributes)
        )
        return names

    def convolution(
        self, x: str, channels: int, filters: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> str:
        """Convolution without bias, padded to keep the extent at stride 1, then batch normalisation."""
        weight = self.random(filters, channels // groups, kernel, kernel)
        pad = kernel // 2
        y = self.node(
            "Conv",
            x,
            weight,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pad] * 4,
            group=groups,
        )
        scale, bias = self.uniform(0.8, 1.2, filters), self.uniform(-0.2, 0.2, filters)
        mean, variance = self.uniform(-0.2, 0.2, filters), self.uniform(0.8, 1.2, filters)
        return self.node("BatchNormalization", y, scale, bias, mean, variance, epsilon=1e-5)

    def bytes(
        self,
        inputs: Mapping[str, tuple[str, Sequence[int]]],
        outputs: Mapping[str, tuple[str, Sequence[int]]],
    ) -> bytes:
        """The model file.

        Args:
            inputs: name -> (element type, shape).
            outputs: name of a node output -> (element type, shape).
        """
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [_value(n, *t) for n, t in inputs.items()],
            [_value(n, *t) for n, t in outputs.items()],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)], ir_version=8)
        return bytes(model.SerializeToString())


def _value(name: str, element: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _ELEMENT[element], list(shape))
