"""Floating-point operations of a model: two for each multiply-add of convolutions, products and cells.

Everything else is left out, so the fraction of peak is a lower bound.
"""

from __future__ import annotations

from math import prod

import onnx

__all__ = ["count_operations"]

Shapes = dict[str, tuple[int, ...]]


def count_operations(model: onnx.ModelProto) -> int:
    """Multiply-adds times two of one run; the shapes of the model are static."""
    inferred = onnx.shape_inference.infer_shapes(_without_payloads(model))
    shapes: Shapes = {w.name: tuple(w.dims) for w in model.graph.initializer}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return sum(_count(node, shapes) for node in inferred.graph.node)


def _without_payloads(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large weights are inputs, so that shape inference does not carry them."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    graph = light.graph
    for weight in model.graph.initializer:
        if prod(weight.dims) > 64 and weight.name not in {v.name for v in graph.input}:
            graph.input.append(
                onnx.helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
            )
    small = [w for w in model.graph.initializer if prod(w.dims) <= 64]
    del graph.initializer[:]
    graph.initializer.extend(small)
    return light


def _count(node: onnx.NodeProto, shapes: Shapes) -> int:
    known = [shapes.get(name, ()) for name in node.input]
    if node.op_type == "Conv":
        return 2 * prod(shapes[node.output[0]]) * prod(known[1][1:])
    if node.op_type == "MatMul":
        return 2 * prod(shapes[node.output[0]]) * known[0][-1]
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return 2 * prod(shapes[node.output[0]]) * known[0][0 if transposed else -1]
    if node.op_type in ("GRU", "LSTM", "RNN"):
        steps, batch, _ = known[0]
        return 2 * steps * batch * (prod(known[1]) + prod(known[2]))
    return 0
