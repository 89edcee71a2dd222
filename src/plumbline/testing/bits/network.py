"""`Network`: an ONNX model with inputs to run it on; `NetworkWriter` writes one node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Network", "NetworkWriter", "input_rows"]

OPSET = 19
BATCH = "batch"
"""Name of the symbol of networks with a symbolic batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A model and one set of inputs.

    Attributes:
        name: for messages.
        model: bytes of the ONNX file.
        inputs: arrays by name; axis 0 counts rows that never mix.
        is_batched: whether axis 0 of inputs and outputs is the symbol `batch`.
    """

    name: str
    model: bytes
    inputs: Mapping[str, np.ndarray]
    is_batched: bool

    @property
    def rows(self) -> int:
        """Extent of axis 0 of the inputs."""
        return int(next(iter(self.inputs.values())).shape[0])

    def select(self, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """The inputs of some rows only."""
        return {name: np.ascontiguousarray(array[list(rows)]) for name, array in self.inputs.items()}


def input_rows(name: str, shape: Sequence[int]) -> np.ndarray:
    """Normal float32 numbers decided by `name`; row i is the same whatever the number of rows."""
    seed = list(name.encode())
    rows = [np.random.default_rng([*seed, row]).standard_normal(shape[1:]) for row in range(shape[0])]
    return np.stack(rows).astype(np.float32)


class NetworkWriter:
    """A network under construction; weights come from the generator of the caller."""

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        self.name, self.rng = name, rng
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def constant(self, array: np.ndarray) -> str:
        """A fixed tensor; returns its name."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def weights(self, *shape: int, scale: float | None = None) -> str:
        """Normal numbers; by default of a size that keeps values near 1 through a product."""
        fan_in = max(int(np.prod(shape[1:])), 1)
        size = scale if scale is not None else float(np.sqrt(1.5 / fan_in))
        return self.constant((self.rng.standard_normal(shape) * size).astype(np.float32))

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output; returns the name of the output."""
        return self.nodes(operator, inputs, 1, **attributes)[0]

    def nodes(self, operator: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        number = len(self._nodes)
        names = [f"{operator.lower()}{number}_{i}" for i in range(outputs)]
        node = helper.make_node(operator, list(inputs), names, name=f"{operator}{number}", **attributes)
        self._nodes.append(node)
        return names

    def finish(
        self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, int], *, is_batched: bool
    ) -> Network:
        """The network.

        Args:
            inputs: float32 arrays by name.
            outputs: name -> rank. Extents are left to shape inference, but for the batch.
            is_batched: make axis 0 of every input the symbol `batch`.
        """
        shapes = {
            name: [BATCH, *array.shape[1:]] if is_batched else list(array.shape)
            for name, array in inputs.items()
        }
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
        ]
        results = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_{i}" for i in range(rank)])
            for name, rank in outputs.items()
        ]
        graph = helper.make_graph(self._nodes, self.name, values, results, self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        return Network(
            name=self.name, model=model.SerializeToString(), inputs=dict(inputs), is_batched=is_batched
        )
