"""A bounded reader of ONNX files, written against the published schema. Layer L2, compiler.importers.

Arrow: imports importers.limits, importers.payload and importers.digest; imported by the graph converter.
"""

from plumbline.compiler.importers.onnx_wire.arrays import read_array
from plumbline.compiler.importers.onnx_wire.names import order_nodes, verify_names
from plumbline.compiler.importers.onnx_wire.reader import read_model
from plumbline.compiler.importers.onnx_wire.records import (
    AttributeKind,
    OnnxAttribute,
    OnnxFunction,
    OnnxGraph,
    OnnxModel,
    OnnxNode,
    OnnxSparseTensor,
    OnnxTensor,
    OnnxValueInfo,
)

__all__ = [
    "AttributeKind",
    "OnnxAttribute",
    "OnnxFunction",
    "OnnxGraph",
    "OnnxModel",
    "OnnxNode",
    "OnnxSparseTensor",
    "OnnxTensor",
    "OnnxValueInfo",
    "order_nodes",
    "read_array",
    "read_model",
    "verify_names",
]
