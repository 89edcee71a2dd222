"""Small ONNX models for the tests of this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["BOOL", "FLOAT", "INT64", "body", "compute", "model", "value"]

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, kind: int = FLOAT, shape: Sequence[Any] | None = ()) -> onnx.ValueInfoProto:
    """A typed value."""
    return helper.make_tensor_value_info(name, kind, shape)


def body(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str],
    **constants: Any,
) -> onnx.GraphProto:
    """A nested graph."""
    initializers = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    ends = [onnx.ValueInfoProto(name=o) for o in outputs]
    return helper.make_graph(list(nodes), "body", list(inputs), ends, initializers)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, Any] | None = None,
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Mapping[str, int] | None = None,
) -> bytes:
    """Bytes of a model file."""
    initializers = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), initializers)
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    made = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9)
    return bytes(made.SerializeToString())


def compute(
    data: bytes,
    inputs: Mapping[str, np.ndarray],
    symbols: Mapping[str, int] | None = None,
    **constants: np.ndarray,
) -> dict[str, np.ndarray]:
    """Outputs of a model by our importer and the references of the operations."""
    from plumbline.compiler.importers.onnx import ImportOptions, import_onnx
    from plumbline.testing.interpreter import evaluate_graph

    graph = import_onnx(data, ImportOptions(symbols=symbols or {}, constants=constants))
    return evaluate_graph(graph, inputs)
