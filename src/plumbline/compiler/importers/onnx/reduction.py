"""Converters of operators along axes: reductions, softmax and its kin, places of extremes, scans, top-k."""

from __future__ import annotations

from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, Converter, converts
from plumbline.contracts.dims import product

_FOLDS = {
    "ReduceL1": "reduce_l1", "ReduceL2": "reduce_l2", "ReduceLogSum": "reduce_log_sum",
    "ReduceLogSumExp": "reduce_log_sum_exp", "ReduceMax": "reduce_max", "ReduceMean": "reduce_mean",
    "ReduceMin": "reduce_min", "ReduceProd": "reduce_prod", "ReduceSum": "reduce_sum",
    "ReduceSumSquare": "reduce_sum_square",
}  # fmt: skip


def _fold_by_attribute(operation: str) -> Converter:
    def convert(node: NodeView) -> Converted:
        axes = node.ints("axes") if node.has("axes") else None
        chosen = {"axes": axes, "keepdims": node.int("keepdims", 1) != 0}
        return node.add1(operation, [node.input(0)], chosen)

    return convert


def _fold_by_operand(operation: str) -> Converter:
    def convert(node: NodeView) -> Converted:
        axes = None if node.optional(1) is None else node.integers(1)
        if not axes:
            axes = () if node.int("noop_with_empty_axes", 0) else None
        return node.add1(operation, [node.input(0)], {"axes": axes, "keepdims": node.int("keepdims", 1) != 0})

    return convert


for _operator, _operation in _FOLDS.items():
    converts(_operator)(_fold_by_attribute(_operation))
    converts(_operator, since=13 if _operator == "ReduceSum" else 18)(_fold_by_operand(_operation))


def _along_axis(operation: str) -> Converter:
    return lambda node: node.add1(operation, [node.input(0)], {"axis": node.int("axis", -1)})


def _over_flattened(operation: str) -> Converter:
    """Until opset 12: everything from `axis` on is one axis."""

    def convert(node: NodeView) -> Converted:
        shape, axis = node.shape(0), node.int("axis", 1)
        if not -len(shape) <= axis <= len(shape):
            node.refuse(f"axis {axis} of a tensor of rank {len(shape)}")
        axis = axis + len(shape) if axis < 0 else axis
        flat = node.reshape(node.input(0), (product(shape[:axis]), product(shape[axis:])))
        return node.reshape(node.add1(operation, [flat], {"axis": 1}), shape)

    return convert


for _operator, _operation in (("Softmax", "softmax"), ("LogSoftmax", "log_softmax"), ("Hardmax", "hardmax")):
    converts(_operator)(_over_flattened(_operation))
    converts(_operator, since=13)(_along_axis(_operation))


def _extreme(operation: str) -> Converter:
    def convert(node: NodeView) -> Converted:
        chosen = {
            "axis": node.int("axis", 0),
            "keepdims": node.int("keepdims", 1) != 0,
            "select_last_index": node.int("select_last_index", 0) != 0,
        }
        return node.add1(operation, [node.input(0)], chosen)

    return convert


converts("ArgMax")(_extreme("arg_max"))
converts("ArgMin")(_extreme("arg_min"))


def _scan(operation: str) -> Converter:
    def convert(node: NodeView) -> Converted:
        chosen: dict[str, int | bool] = {
            "exclusive": node.int("exclusive", 0) != 0,
            "reverse": node.int("reverse", 0) != 0,
        }
        axis = node.find_numbers(1)
        if axis is None:
            return node.add1(operation, [node.input(0), node.input(1)], chosen)
        if axis.size != 1:
            node.refuse(f"the axis has {axis.size} elements")
        return node.add1(operation, [node.input(0)], {**chosen, "axis": int(axis.ravel()[0])})

    return convert


converts("CumSum")(_scan("cum_sum"))
converts("CumProd")(_scan("cum_prod"))


@converts("TopK")
def top_k_by_attribute(node: NodeView) -> Converted:
    """`k` in an attribute, until opset 9."""
    return node.add("top_k", [node.input(0)], {"k": node.int("k"), "axis": node.int("axis", -1)})


@converts("TopK", since=10)
def top_k(node: NodeView) -> Converted:
    """`k` as an operand that is known at build; the result is always sorted."""
    wanted = node.dims(1)
    if len(wanted) != 1:
        node.refuse(f"k has {len(wanted)} elements")
    chosen = {"k": wanted[0], "axis": node.int("axis", -1), "largest": node.int("largest", 1) != 0}
    return node.add("top_k", [node.input(0)], chosen)
