"""Move float32 image operators to channel-blocked tensors.

An operator moves when its extents are known (the number of images may be symbolic) and a blocked kernel
exists. Every moved operator is followed by the way back to row-major; what nobody reads is dropped, so that a
chain of moved operators stays blocked. Halos are decided later, by `assign_halos`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.compiler.graph.derived import DerivedConstant
from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.image_convolutions import move_convolution
from plumbline.compiler.passes.image_mover import ImageMover, is_image, window_of
from plumbline.compiler.passes.programs import map_program
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.pointwise.functions import FUNCTIONS

__all__ = ["lay_out_images"]


def lay_out_images(graph: ExecutionGraph, target: TargetDescription, report: PassReport) -> ExecutionGraph:
    """See the module docstring."""
    mover = ImageMover(GraphEditor(graph), target, report)
    for node in graph.nodes:
        move = _MOVES.get(node.operation)
        if move is None and node.operation in FUNCTIONS:
            move = _move_map
        if move is not None and move(mover, node):
            report.note("lay_out_images", "laid_out", node.name, f"{node.operation} on blocked channels")
    return mover.editor.finish()


# -- pools ---------------------------------------------------------------------------------------------------


def _move_pool(mover: ImageMover, node: OperatorNode) -> bool:
    editor, a = mover.editor, node.attributes
    x = node.inputs[0]
    if (
        x is None
        or x not in mover.twins
        or not is_image(editor.type_of(x))
        or a.get("indices")
        or len(node.outputs) > 1
    ):
        return False
    attributes = window_of(node, a["kernel"])
    attributes["mode"] = "max" if node.operation == "max_pool" else "average"
    attributes["include_pad"] = bool(a.get("count_padding", False))
    if any(not isinstance(p, int) or p < 0 for p in attributes["pads"]):
        return False
    grown = _grow_pads(editor.type_of(x), editor.type_of(node.outputs[0]), attributes)
    if grown != attributes["pads"] and attributes["include_pad"]:
        return False
    mover.replace(node, "pool_blocked", [mover.image(x)], {**attributes, "pads": grown})
    return True


def _grow_pads(x: TensorType, y: TensorType, a: Mapping[str, Any]) -> tuple[int, ...]:
    """Pads with which rounding down gives the stated output (rounding up leaves windows that hang over)."""
    pads = list(a["pads"])
    for axis in (0, 1):
        extent, out = int(str(x.shape[2 + axis])), int(str(y.shape[2 + axis]))
        span = a["dilations"][axis] * (a["kernel"][axis] - 1) + 1
        needed = (out - 1) * a["strides"][axis] + span - extent - pads[axis]
        pads[2 + axis] = max(pads[2 + axis], needed)
    return tuple(pads)


def _move_local_response(mover: ImageMover, node: OperatorNode) -> bool:
    """Channels must fill blocks, which hold the whole window."""
    x, lanes = node.inputs[0], mover.target.float_lanes
    if x is None or x not in mover.twins or node.attributes["size"] > lanes:
        return False
    channels = mover.editor.type_of(x).shape[1]
    if not isinstance(channels, int) or channels % lanes:
        return False
    mover.replace(node, "local_response_blocked", [mover.image(x)], node.attributes)
    return True


def _move_global_mean(mover: ImageMover, node: OperatorNode) -> bool:
    x = node.inputs[0]
    if x is None or x not in mover.twins:
        return False
    mover.replace(node, "global_mean_blocked", [mover.image(x)], {})
    return True


def _move_reduce_mean(mover: ImageMover, node: OperatorNode) -> bool:
    """A mean over both pixel axes is a global mean; without kept axes it is followed by a view."""
    editor, x = mover.editor, node.inputs[0]
    axes = node.attributes.get("axes")
    if x is None or x not in mover.twins or axes is None or sorted(a % 4 for a in axes) != [2, 3]:
        return False
    if node.attributes.get("keepdims", True):
        mover.replace(node, "global_mean_blocked", [mover.image(x)], {})
        return True
    shape = editor.type_of(node.outputs[0]).shape
    result = node.outputs[0]
    editor.remove(node)
    (blocked,) = editor.add_node(
        "global_mean_blocked",
        [mover.image(x)],
        {},
        name=node.name,
        layouts=[mover.layout],
        sources=node.sources,
    )
    dense = isinstance(shape[1], int) and shape[1] % mover.target.float_lanes == 0
    (flat,) = editor.add_node(
        "unblock_view" if dense else "unblock_image", [blocked], name=f"{node.name}/unblock"
    )
    editor.add_node("reshape", [flat], {"shape": shape}, name=f"{node.name}/view", outputs=[result])
    return True


# -- maps and concatenation ----------------------------------------------------------------------------------


def _move_map(mover: ImageMover, node: OperatorNode) -> bool:
    """Move a map where an operand is blocked already and every other one can be read beside it."""
    editor = mover.editor
    output = editor.type_of(node.outputs[0])
    if not is_image(output) or not any(t in mover.twins for t in node.inputs):
        return False
    if not any(
        t in mover.twins and editor.type_of(t).shape == output.shape for t in node.inputs if t is not None
    ):
        return False
    operands = [None if t is None else _map_operand(mover, t, output) for t in node.inputs]
    if any(o is None for o in operands):
        return False
    mover.replace(node, "map_blocked", operands, {"program": map_program(node)})
    return True


def _map_operand(mover: ImageMover, tensor: TensorID, output: TensorType) -> TensorID | None:
    editor = mover.editor
    type_ = editor.type_of(tensor)
    if type_.dtype is not DType.FLOAT32:
        return None
    if editor.find_constant(tensor) is not None:
        if type_.elements == 1:
            return tensor
        return _channel_vector(editor, tensor, output)
    spread = type_.rank == 4 and type_.shape == (*output.shape[:2], 1, 1)
    if (type_.shape == output.shape or spread) and is_image(type_):
        return mover.image(tensor)
    return None


def _channel_vector(editor: GraphEditor, tensor: TensorID, output: TensorType) -> TensorID | None:
    """A constant [C, 1, 1] or [1, C, 1, 1] as a vector [C]."""
    type_, constant = editor.type_of(tensor), editor.find_constant(tensor)
    channels = output.shape[1]
    padded = (1,) * (4 - type_.rank) + tuple(type_.shape)
    if constant is None or padded != (1, channels, 1, 1) or not isinstance(channels, int):
        return None

    def compute(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(arrays[0]).reshape(-1)

    vector = DerivedConstant(recipe="flatten", sources=(constant,), compute=compute, size_bytes=4 * channels)
    return editor.add_stored_constant(vector, TensorType(DType.FLOAT32, (channels,)), f"{tensor}/channels")


def _move_concat(mover: ImageMover, node: OperatorNode) -> bool:
    """Concatenation of channels, where every part but the last fills whole blocks."""
    editor, lanes = mover.editor, mover.target.float_lanes
    output = editor.type_of(node.outputs[0])
    if (
        not is_image(output)
        or node.attributes["axis"] % 4 != 1
        or not any(t in mover.twins for t in node.inputs)
    ):
        return False
    types = [editor.type_of(t) for t in node.inputs if t is not None]
    if not all(is_image(t) for t in types) or any(int(str(t.shape[1])) % lanes for t in types[:-1]):
        return False
    parts = [mover.image(t) for t in node.inputs if t is not None]
    mover.replace(node, "concat_blocked", parts, {"axis": 1})
    return True


_MOVES: Mapping[str, Callable[[ImageMover, OperatorNode], bool]] = {
    "conv": move_convolution,
    "max_pool": _move_pool,
    "average_pool": _move_pool,
    "global_average_pool": _move_global_mean,
    "local_response_normalization": _move_local_response,
    "reduce_mean": _move_reduce_mean,
    "concat": _move_concat,
    "fused_map": _move_map,
}
