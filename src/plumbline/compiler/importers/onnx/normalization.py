"""Converters of normalisation operators."""

from __future__ import annotations

from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.contracts.dims import Dim, floordiv
from plumbline.contracts.tensors import DType


def _axis(node: NodeView, default: int) -> int:
    axis, rank = node.int("axis", default), node.rank(0)
    if not -rank <= axis < rank:
        node.refuse(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


def _stretched(node: NodeView, tensor: TensorID, shape: tuple[Dim, ...]) -> TensorID:
    """A parameter in the full shape of the axes it scales."""
    if node.builder.type_of(tensor).shape == shape:
        return tensor
    return node.add1("expand", [tensor], {"shape": shape})


@converts("LayerNormalization")
def layer_normalization(node: NodeView) -> Converted:
    """Mean and inverse deviation only where they are asked for."""
    axis, kind = _axis(node, -1), node.type(0).dtype
    shape = node.shape(0)[axis:]
    operands = [node.input(0), _stretched(node, node.input(1), shape)]
    bias = node.optional(2)
    if bias is not None:
        operands.append(_stretched(node, bias, shape))
    statistics = node.wants(1) or node.wants(2)
    chosen = {"axis": axis, "epsilon": node.float("epsilon", 1e-5), "statistics": statistics}
    results = node.add("layer_normalization", operands, chosen)
    stash = node.dtype(node.int("stash_type", 1))
    if kind is DType.FLOAT64 and stash is not DType.FLOAT64:
        return [results[0], *(node.cast(r, stash) for r in results[1:])]
    return results


@converts("RMSNormalization")
def rms_normalization(node: NodeView) -> Converted:
    """Rows over their root mean square."""
    axis = _axis(node, -1)
    scale = _stretched(node, node.input(1), node.shape(0)[axis:])
    chosen = {"axis": axis, "epsilon": node.float("epsilon", 1e-5)}
    return node.add1("rms_normalization", [node.input(0), scale], chosen)


@converts("InstanceNormalization")
def instance_normalization(node: NodeView) -> Converted:
    """One channel a group."""
    chosen = {"groups": node.shape(0)[1], "epsilon": node.float("epsilon", 1e-5)}
    return node.add1("group_normalization", [node.input(i) for i in range(3)], chosen)


@converts("GroupNormalization", since=18)
def group_normalization_by_group(node: NodeView) -> Converted:
    """Scale and bias by group, until opset 20."""
    groups, channels = node.int("num_groups"), node.shape(0)[1]
    parameters = [_per_channel(node, node.input(i), groups, channels) for i in (1, 2)]
    return _group(node, parameters)


@converts("GroupNormalization", since=21)
def group_normalization(node: NodeView) -> Converted:
    """Scale and bias by channel."""
    return _group(node, [node.input(1), node.input(2)])


def _group(node: NodeView, parameters: list[TensorID]) -> Converted:
    chosen = {"groups": node.int("num_groups"), "epsilon": node.float("epsilon", 1e-5)}
    return node.add1("group_normalization", [node.input(0), *parameters], chosen)


def _per_channel(node: NodeView, tensor: TensorID, groups: int, channels: Dim) -> TensorID:
    column = node.reshape(tensor, (groups, 1))
    return node.reshape(
        node.add1("expand", [column], {"shape": (groups, floordiv(channels, groups))}), (channels,)
    )


@converts("BatchNormalization")
def batch_normalization_old(node: NodeView) -> Converted:
    """Until opset 13 more than one output means training, which is refused."""
    if any(node.wants(i) for i in range(1, node.output_count)):
        node.refuse("training outputs of old opsets are not supported")
    if node.int("spatial", 1) == 0:
        node.refuse("statistics for each activation (spatial=0) are not supported")
    return _batch(node, node.input(3), node.input(4))


@converts("BatchNormalization", since=14)
def batch_normalization(node: NodeView) -> Converted:
    """With `training_mode` the statistics are those of this batch, and the running ones are returned."""
    if not node.int("training_mode", 0):
        return _batch(node, node.input(3), node.input(4))
    axes = (0, *range(2, node.rank(0)))
    wide = node.cast(node.input(0), _statistics_dtype(node))
    mean = node.add1("reduce_mean", [wide], {"axes": axes, "keepdims": True})
    centred = node.add1("sub", [wide, mean])
    squares = node.add1("mul", [centred, centred])
    variance = node.add1("reduce_mean", [squares], {"axes": axes, "keepdims": False})
    flat_mean = node.reshape(mean, (node.shape(0)[1],))
    stored = node.type(3).dtype
    current = [node.cast(flat_mean, stored), node.cast(variance, stored)]
    result = _batch(node, *current)
    running = [_running(node, node.input(3 + i), current[i]) for i in range(2)]
    return [result, *running]


def _statistics_dtype(node: NodeView) -> DType:
    return DType.FLOAT64 if node.type(0).dtype is DType.FLOAT64 else DType.FLOAT32


def _running(node: NodeView, old: TensorID, current: TensorID) -> TensorID:
    momentum, kind = node.float("momentum", 0.9), node.builder.type_of(old).dtype
    kept = node.add1("mul", [old, node.scalar(momentum, kind)])
    fresh = node.add1("mul", [current, node.scalar(1.0 - momentum, kind)])
    return node.add1("add", [kept, fresh])


def _batch(node: NodeView, mean: TensorID, variance: TensorID) -> TensorID:
    operands = [node.input(0), node.input(1), node.input(2), mean, variance]
    chosen = {"epsilon": node.float("epsilon", 1e-5)}
    if node.rank(0) != 1:
        return node.add1("batch_normalization", operands, chosen)
    column = node.reshape(node.input(0), (*node.shape(0), 1))
    result = node.add1("batch_normalization", [column, *operands[1:]], chosen)
    return node.reshape(result, node.shape(0))


@converts("LRN")
def local_response_normalization(node: NodeView) -> Converted:
    """Across channels."""
    chosen = {
        "size": node.int("size"),
        "alpha": node.float("alpha", 1e-4),
        "beta": node.float("beta", 0.75),
        "bias": node.float("bias", 1.0),
    }
    return node.add1("local_response_normalization", [node.input(0)], chosen)


@converts("LpNormalization")
def lp_normalization(node: NodeView) -> Converted:
    """Lines over their norm; a line of zeros stays zero."""
    order = node.int("p", 2)
    if order not in (1, 2):
        node.refuse(f"norm of order {order}")
    axis, kind = _axis(node, -1), node.type(0).dtype
    operation = "reduce_l1" if order == 1 else "reduce_l2"
    norm = node.add1(operation, [node.input(0)], {"axes": (axis,), "keepdims": True})
    is_zero = node.add1("equal", [norm, node.scalar(0, kind)])
    return node.add1("div", [node.input(0), node.add1("where", [is_zero, node.scalar(1, kind), norm])])


@converts("MeanVarianceNormalization", since=9)
def mean_variance_normalization(node: NodeView) -> Converted:
    """(x - mean) / (deviation + 1e-9)."""
    axes, kind = node.ints("axes", (0, 2, 3)), node.type(0).dtype
    mean = node.add1("reduce_mean", [node.input(0)], {"axes": axes, "keepdims": True})
    centred = node.add1("sub", [node.input(0), mean])
    squares = node.add1("mul", [centred, centred])
    variance = node.add1("reduce_mean", [squares], {"axes": axes, "keepdims": True})
    deviation = node.add1("add", [node.add1("sqrt", [variance]), node.scalar(1e-9, kind)])
    return node.add1("div", [centred, deviation])


@converts("Normalizer", domain="ai.onnx.ml")
def normalizer(node: NodeView) -> Converted:
    """Rows over their largest, absolute or euclidean sum; a row of zeros stays zero."""
    operations = {"MAX": "reduce_max", "L1": "reduce_l1", "L2": "reduce_l2"}
    wanted = node.string("norm", "MAX")
    if wanted not in operations:
        node.refuse(f"norm {wanted!r} is unknown")
    rows = node.cast(node.input(0), DType.FLOAT32)
    magnitude = node.add1("abs", [rows]) if wanted == "MAX" else rows
    norm = node.add1(operations[wanted], [magnitude], {"axes": (node.rank(0) - 1,), "keepdims": True})
    is_zero = node.add1("equal", [norm, node.scalar(0, DType.FLOAT32)])
    return node.add1("div", [rows, node.add1("where", [is_zero, node.scalar(1, DType.FLOAT32), norm])])
